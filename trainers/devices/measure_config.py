"""The configuration of a measurement, checked as a whole before anything is built, reached or measured."""

import os
import re
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hardware_models.profile import Precision
from trainers.runs.config import BoardConfig, Count, Line, Section, checked_parts
from trainers.runs.plugins import wrong_plugins
from trainers.runs.validation import refusal

Paths = Annotated[
    list[Line], Field(min_length=1), BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]


class LogConfig(Section):
    """Logs of a phone; the meaning of each key stands in conf/measure.yaml."""

    path: Paths | None
    machine: Line | None
    precision: Precision | None


class MeasureConfig(Section):
    """One measurement; the meaning of each key stands in conf/measure.yaml."""

    architecture: Paths | None
    networks: Annotated[int, Field(ge=1, le=100_000)] | None
    operations: bool
    limit: Count | None
    space: dict[str, Any] | None
    num_classes: Annotated[int, Field(ge=2)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Annotated[int, Field(ge=1, le=1024)]
    warmup: Annotated[int, Field(ge=0, le=1_000_000)]
    repeats: Annotated[int, Field(ge=1, le=1_000_000)]
    output: Annotated[str, Field(pattern=r"^[^\x00-\x1f]*[^/]\.csv$")]
    board: BoardConfig
    log: LogConfig
    plugins: list[Line]

    @property
    def output_path(self) -> Path:
        return Path(os.path.expanduser(self.output))

    @property
    def architectures_folder(self) -> Path:
        """Where the files of random networks go, beside the output."""
        return self.output_path.with_suffix(".architectures")


def validate_measure(content: Mapping[str, Any]) -> MeasureConfig:
    """The checked configuration. Raises: InvalidInputError that lists every wrong key at once."""
    problems = wrong_plugins(content.get("plugins"))
    config, wrong = checked_parts(MeasureConfig, content, problems)
    problems += () if "board" in wrong else config.board.problems("board")
    problems += () if wrong & {"log", "board", "architecture"} else _log(config)
    problems += (told for told in _sources(config) if not any(re.search(rf"\b{key}\b", told) for key in wrong))
    if problems:
        raise refusal(problems)
    return config


def paths_of(given: list[str] | None) -> list[Path]:
    """The files that paths and patterns name, patterns in alphabetical order."""
    found: list[Path] = []
    for text in given or ():
        path = Path(os.path.expanduser(text))
        matches = [] if os.path.exists(path) else sorted(glob(str(path), recursive=True))
        found += [Path(match) for match in matches] or [path]
    return list(dict.fromkeys(found))


def _sources(config: MeasureConfig) -> Iterator[str]:
    """What is wrong with the choice of what to measure."""
    given = {"architecture": config.architecture, "networks": config.networks, "operations": config.operations or None}
    chosen = [key for key, value in given.items() if value is not None]
    if len(chosen) != 1:
        yield f"give one of {', '.join(given)}; got {' and '.join(chosen) or 'none'}"
    if config.space is None and (config.networks is not None or config.operations):
        yield "space: got none; choose the space of the networks with space=<name>"
    if config.space is not None and chosen == ["architecture"]:
        yield "space: an architecture names its own; leave it out"
    if config.space is not None and not isinstance(config.space.get("name"), str):
        yield f"space.name: got {config.space.get('name')!r}, allowed: a name; choose one with space=<name>"
    if config.limit is not None and not config.operations:
        yield f"limit: got {config.limit}; it is for operations=true"
    missing = [str(path) for path in paths_of(config.architecture) if not os.path.isfile(path)]
    if missing:
        yield f"architecture: no such file: {', '.join(missing)}"


def _log(config: MeasureConfig) -> Iterator[str]:
    log, paths = config.log, paths_of(config.log.path)
    if log.path is None:
        given = {"machine": log.machine, "precision": log.precision}
        yield from (f"log.{key}: it describes what a log ran on; give log.path" for key in given if given[key])
        return
    missing = [str(path) for path in paths if not os.path.isfile(path)]
    if missing:
        yield f"log.path: no such file: {', '.join(missing)}"
    if log.machine is None:
        yield "log.machine: got none; say what the log ran on, as 'log.machine=\"Pixel 6, big cores\"'"
    if log.precision is None:
        yield "log.precision: got none; say what the network ran in, as log.precision=fp32; allowed: fp32, fp16, int8"
    if config.board.host is not None:
        yield "board.host: a log is taken over, nothing is measured; leave one of log.path and board.host out"
    count = len(paths_of(config.architecture))
    if count != len(paths):
        yield f"log.path: {len(paths)} logs for {count} architectures; give each log the architecture that it ran"
