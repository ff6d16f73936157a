"""The configuration of a search, checked as a whole before anything is loaded. Plain values in, typed values out."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hardware_models.profile import Margin
from search_spaces.errors import InvalidInputError

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# Part of a path, so no separators and no dots alone.
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=80)]
OPTIMIZER = re.compile(r"torch\.optim\.[A-Z][A-Za-z]*")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrainerConfig(Section):
    """Lengths, in steps and images, and rates of a search; the meaning of each key stands in conf/trainer/cpu.yaml."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    batch_size: Annotated[int, Field(ge=2, le=65_536)]
    warmup_share: Share
    arch_every: Count
    prune_events: Count
    prune_from: Share
    prune_to: Share
    offset_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    clip_norm: Positive
    candidates: Annotated[int, Field(ge=1, le=4096)]
    recalibration_images: Count
    validation_images: Count | None
    finetune_steps: Annotated[int, Field(ge=0)]
    finetune_lr: Positive
    max_cuts: Count
    threads: Annotated[int, Field(ge=1, le=1024)] | None

    @model_validator(mode="after")
    def _prunes_forward(self) -> "TrainerConfig":
        if self.prune_from >= self.prune_to:
            raise ValueError(f"prune_from must be below prune_to, got {self.prune_from} and {self.prune_to}")
        return self


class PathsConfig(Section):
    runs: Annotated[str, Field(min_length=1)]
    data: Annotated[str, Field(min_length=1)]
    cache: Annotated[str, Field(min_length=1)]


class SearchConfig(Section):
    """One search. Components that have arguments of their own are mappings, checked where they are built."""

    space: dict[str, Any]
    hardware: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    data: dict[str, Any]
    strategy: dict[str, Any]
    optimizer: dict[str, Any]
    arch_optimizer: dict[str, Any]
    margin: Margin
    trainer: TrainerConfig
    paths: PathsConfig
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    sweep: FolderName

    @property
    def science(self) -> dict[str, Any]:
        """What the result depends on: everything but where files lie and how many threads compute."""
        content = self.model_dump(mode="json", exclude={"paths": True, "sweep": True, "trainer": {"threads"}})
        content["data"].pop("root", None)
        content["devices"] = list(self.hardware)  # they are taken in turn, so their order matters
        return content

    @property
    def run_key(self) -> str:
        """Name of the run folder: readable, and the same for the same science."""
        text = json.dumps(self.science, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.space['name']}-{self.strategy['name']}-seed{self.seed}-{digest}"

    @property
    def run_folder(self) -> Path:
        return Path(self.paths.runs).expanduser() / self.sweep / self.run_key


def validate(content: Mapping[str, Any]) -> SearchConfig:
    """The checked configuration. Raises: InvalidInputError that lists every wrong key at once."""
    problems = []
    for key in ("space", "strategy", "data"):
        if isinstance(content.get(key), Mapping) and not isinstance(content[key].get("name"), str):
            problems.append(
                f"{key}.name: got {content[key].get('name')!r}, allowed: a name; choose one with {key}=<name>"
            )
    for key in ("optimizer", "arch_optimizer"):
        target = content[key].get("_target_") if isinstance(content.get(key), Mapping) else None
        if not (isinstance(target, str) and OPTIMIZER.fullmatch(target)):
            problems.append(f"{key}._target_: got {target!r}, allowed: an optimizer of torch.optim, as torch.optim.SGD")
    try:
        config = SearchConfig.model_validate(content)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            key = ".".join(str(part) for part in details["loc"])
            got = "nothing" if details["type"] == "missing" else repr(details["input"])
            problems.append(f"{key}: got {got}; {details['msg'].removeprefix('Value error, ')}")
    if problems:
        raise InvalidInputError("\n  ".join(["the configuration cannot be used:", *problems]))
    return config
