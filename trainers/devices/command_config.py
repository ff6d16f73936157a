"""The configurations of espalier-measure, -calibrate and -price, checked before anything is read, reached or measured.

The meaning of each key stands in conf/measure.yaml, conf/calibrate.yaml and conf/price.yaml.
"""

import os
from abc import abstractmethod
from collections.abc import Iterator
from glob import glob
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hardware_models.measuring.board_address import BoardAddress, Line
from hardware_models.metrics import Margin
from hardware_models.profile import Precision
from trainers.runs.config import Count, FolderName, PathsConfig, Plugins, Section
from trainers.runs.given_network import network_problems

ImageSize = Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=2, max_length=2)]

Paths = Annotated[
    list[Line], Field(min_length=1), BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# A key of the configuration, written without quotes.
ProfileName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)]


class CommandConfig(Section):
    """What the commands have in common."""

    plugins: Plugins

    @abstractmethod
    def contradictions(self) -> Iterator[str]:
        """What is wrong between keys that are right by themselves."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        problems = list(self.contradictions())
        if problems:
            raise ValueError("\n  ".join(problems))
        return self


class LogConfig(Section):
    """Logs of a phone."""

    path: Paths | None
    machine: Line | None
    precision: Precision | None


class MeasureConfig(CommandConfig):
    """One measurement."""

    architecture: Paths | None
    networks: Annotated[int, Field(ge=1, le=100_000)] | None
    operations: bool
    limit: Count | None
    space: dict[str, Any] | None
    num_classes: Annotated[int, Field(ge=2)]
    image_size: ImageSize
    channels: Annotated[int, Field(ge=1, le=64)]
    seed: Seed
    threads: Annotated[int, Field(ge=1, le=1024)]
    warmup: Annotated[int, Field(ge=0, le=1_000_000)]
    repeats: Annotated[int, Field(ge=1, le=1_000_000)]
    output: Annotated[str, Field(pattern=r"^[^\x00-\x1f]*[^/]\.csv$")]
    board: BoardAddress
    log: LogConfig

    @property
    def output_path(self) -> Path:
        return Path(os.path.expanduser(self.output))

    @property
    def architectures_folder(self) -> Path:
        """Where the files of random networks go, beside the output."""
        return self.output_path.with_suffix(".architectures")

    def contradictions(self) -> Iterator[str]:
        yield from self.board.problems("board")
        yield from self._log_problems()
        given = {"architecture": self.architecture, "networks": self.networks, "operations": self.operations or None}
        chosen = [key for key, value in given.items() if value is not None]
        if len(chosen) != 1:
            yield f"{chosen[-1] if chosen else 'architecture'}: give one of {', '.join(given)}; got {chosen or 'none'}"
        if chosen and (self.space is None) != (chosen == ["architecture"]):
            yield "space: choose it with space=<name> for random networks and operations; an architecture names its own"
        yield from space_problems(self.space)
        if self.limit is not None and not self.operations:
            yield f"limit: got {self.limit}; it is for operations=true"
        yield from missing_files("architecture", self.architecture)

    def _log_problems(self) -> Iterator[str]:
        log, num_logs, num_networks = self.log, len(paths_of(self.log.path)), len(paths_of(self.architecture))
        yield from missing_files("log.path", log.path)
        for key, value in (("machine", log.machine), ("precision", log.precision)):
            if (log.path is None) != (value is None):
                yield f"log.{key}: got {value!r}; a log does not say it: give it with log.path, and only then"
        if log.path is not None and self.board.host is not None:
            yield "board.host: nothing is measured beside a log; leave one of log.path and board.host out"
        if log.path is not None and num_logs != num_networks:
            yield f"log.path: {num_logs} logs for {num_networks} architectures; give each log the one that it ran"


class CalibrateConfig(CommandConfig):
    """One calibration, or one proposal."""

    measurements: Line | None
    format: Line
    device: Line | None
    name: ProfileName | None
    title: Line | None
    runtime: Line | None
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    precision: Precision | None
    model: Line | None
    level: Annotated[float, Field(ge=0.5, le=0.999, allow_inf_nan=False)]
    unusual_speed: bool
    propose: Count | None
    space: dict[str, Any] | None
    num_classes: Annotated[int, Field(ge=2)]
    image_size: ImageSize
    channels: Annotated[int, Field(ge=1, le=64)]
    candidates: Line | None
    seed: Seed
    output: Line | None
    overwrite: bool

    @property
    def measurements_path(self) -> Path | None:
        return None if self.measurements is None else Path(os.path.expanduser(self.measurements))

    @property
    def output_path(self) -> Path:
        """The profile's file, or the folder of proposed networks."""
        default = "proposed" if self.propose is not None else f"hardware/{self.name}.yaml"
        return Path(os.path.expanduser(self.output or default))

    @property
    def report_folder(self) -> Path:
        """Where figures and plot go, beside the profile."""
        return self.output_path.with_suffix(".report")

    def contradictions(self) -> Iterator[str]:
        yield from space_problems(self.space)
        yield from self._profile_problems() if self.propose is None else self._proposal_problems()

    def _profile_problems(self) -> Iterator[str]:
        if self.measurements is None:
            yield "measurements: got none; give a CSV file of espalier-measure, or propose=20 for what to measure first"
        if self.name is None:
            yield "name: got none; name the device, as name=my_phone"
        elif self.name in shipped_profiles():
            yield f"name: got {self.name!r}, a profile that is shipped and would be found instead; choose another"
        if self.output is not None and self.output_path.name != f"{self.name}.yaml":
            yield f"output: got {self.output!r}; a profile is named after its file: end it in {self.name}.yaml"
        for key in ("space", "candidates"):
            if getattr(self, key) is not None:
                yield f"{key}: it is for proposals; give propose=<number of networks>, or leave it out"

    def _proposal_problems(self) -> Iterator[str]:
        if (self.space is None) == (self.candidates is None):
            yield "candidates: give one of space, candidates with propose: the networks to choose from"
        for key in ("name", "title"):
            if getattr(self, key) is not None:
                yield f"{key}: it is for a profile, and propose writes none; leave one of the two out"


class PriceConfig(CommandConfig):
    """The prices of one network."""

    architecture: Line | None
    arch: Line | None
    space: dict[str, Any] | None
    num_classes: Annotated[int, Field(ge=2)]
    image_size: ImageSize
    channels: Annotated[int, Field(ge=1, le=64)]
    hardware: Annotated[dict[FolderName, dict[str, Any]], Field(min_length=1)]
    margin: Margin
    format: Literal["table", "json", "csv"]
    paths: PathsConfig

    def contradictions(self) -> Iterator[str]:
        yield from network_problems(self.architecture, self.arch, self.space)


def paths_of(given: list[str] | None) -> list[Path]:
    """The files that paths and patterns name, patterns in alphabetical order."""
    found: list[Path] = []
    for text in given or ():
        path = Path(os.path.expanduser(text))
        matches = [] if os.path.exists(path) else sorted(glob(str(path), recursive=True))
        found += [Path(match) for match in matches] or [path]
    return list(dict.fromkeys(found))


def missing_files(key: str, given: list[str] | None) -> Iterator[str]:
    missing = [str(path) for path in paths_of(given) if not os.path.isfile(path)]
    if missing:
        yield f"{key}: no such file: {', '.join(missing)}"


def space_problems(space: dict[str, Any] | None) -> Iterator[str]:
    if space is not None and not isinstance(space.get("name"), str):
        yield f"space.name: got {space.get('name')!r}, allowed: a name; choose one with space=<name>"


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with Espalier."""
    folder = files("conf") / "hardware"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
