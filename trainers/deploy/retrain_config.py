"""The configuration of espalier-retrain, checked before data are read; its keys are explained in conf/retrain.yaml."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from search_spaces.errors import InvalidInputError
from trainers.data.datasets import data_config
from trainers.deploy.optimizers import check_optimizer, check_schedule
from trainers.runs.config import (
    Line,
    NamedPart,
    OptimizerPart,
    PathsConfig,
    Plugins,
    Positive,
    SchedulePart,
    Section,
    Share,
)
from trainers.runs.given_network import network_problems
from trainers.runs.validation import checked, refusal, untitled

BelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class DistillConfig(Section):
    """A teacher, and how much of it."""

    teacher: Line | None
    weight: Share
    temperature: Positive


class RetrainConfig(Section):
    """One network, its data and its protocol."""

    architecture: Line | None
    arch: Line | None
    space: dict[str, Any] | None
    weights: Line | None
    data: NamedPart
    joined: bool
    optimizer: OptimizerPart
    schedule: SchedulePart
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    clip_norm: Positive | None
    label_smoothing: BelowOne
    mixup: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
    cutout: Annotated[int, Field(ge=0, le=1024)]
    ema: BelowOne
    distill: DistillConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    seeds: Annotated[int, Field(ge=1, le=1000)]
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    paths: PathsConfig
    plugins: Plugins

    @property
    def all_seeds(self) -> list[int]:
        return [self.seed + k for k in range(self.seeds)]


NOT_ASKED = {"architecture", "arch", "space", "weights", "threads", "paths"}  # what files hold is asked, not where
NOT_ASKED_OF_DATA = ("root", "cache", "memory_mb")


def validate(content: Mapping[str, Any]) -> RetrainConfig:
    """The checked configuration. Raises: InvalidInputError that lists every wrong key at once."""
    config = checked(RetrainConfig, content)
    problems = list(_problems(config))
    if problems:
        raise refusal(problems)
    return config


def _problems(config: RetrainConfig) -> Iterator[str]:
    yield from network_problems(config.architecture, config.arch, config.space)
    for key, path in (("weights", config.weights), ("distill.teacher", config.distill.teacher)):
        if path is not None and not os.path.isfile(os.path.expanduser(path)):
            yield f"{key}: no such file: {path}"
    checks: list[Callable[[], object]] = [
        lambda: data_config(config.data),
        lambda: check_optimizer(config.optimizer, "optimizer"),
        lambda: check_schedule(config.schedule, steps=config.steps or config.epochs),
    ]
    for check in checks:
        try:
            check()
        except InvalidInputError as error:
            yield untitled(error)


def asked(config: RetrainConfig, **content: Any) -> dict[str, Any]:
    """What a run is asked, as plain values: its configuration, with the `content` of the files that it names."""
    found: dict[str, Any] = config.model_dump(mode="json", exclude=NOT_ASKED)
    found["data"] = {key: value for key, value in found["data"].items() if key not in NOT_ASKED_OF_DATA}
    found["distill"].pop("teacher")
    if config.steps is not None:
        found.pop("epochs")
    return {**found, **content}
