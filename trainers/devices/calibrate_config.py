"""The configuration of a calibration, checked as a whole before a file is read."""

import os
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from hardware_models.profile import Precision
from trainers.runs.config import Count, Line, Section, checked_parts
from trainers.runs.plugins import wrong_plugins
from trainers.runs.validation import refusal

# A key of the configuration, written without quotes.
ProfileName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)]


class CalibrateConfig(Section):
    """One calibration, or one proposal; the meaning of each key stands in conf/calibrate.yaml."""

    measurements: Line | None
    format: Literal["measurements", "phones", "ofa", "fbnet", "paddlelite"]
    device: Line | None
    name: ProfileName | None
    title: Line | None
    runtime: Line | None
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    precision: Precision | None
    model: Literal["roofline", "table", "additive"]
    level: Annotated[float, Field(ge=0.5, le=0.999, allow_inf_nan=False)]
    unusual_speed: bool
    propose: Count | None
    space: dict[str, Any] | None
    num_classes: Annotated[int, Field(ge=2)]
    candidates: Line | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    output: Line | None
    overwrite: bool
    plugins: list[Line]

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


def validate_calibrate(content: Mapping[str, Any]) -> CalibrateConfig:
    """The checked configuration. Raises: InvalidInputError that lists every wrong key at once."""
    problems = wrong_plugins(content.get("plugins"))
    config, wrong = checked_parts(CalibrateConfig, content, problems)
    between = _proposal(config) if config.propose is not None else _profile(config)
    if "propose" not in wrong:
        problems += (told for told in between if not any(re.search(rf"\b{key}\b", told) for key in wrong))
    if problems:
        raise refusal(problems)
    return config


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with Espalier."""
    folder = files("conf") / "hardware"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def _profile(config: CalibrateConfig) -> Iterator[str]:
    if config.measurements is None:
        yield (
            "measurements: got none; give the CSV file of espalier-measure, or propose=10 with a space for what to "
            "measure first"
        )
    if config.name is None:
        yield "name: got none; name the device, as name=my_phone"
    elif config.name in shipped_profiles():
        yield f"name: got {config.name!r}, a profile that is shipped and would be found instead; choose another"
    if config.output is not None and config.output_path.stem != config.name:
        yield f"output: got {config.output!r}; a profile is named after its file: end it in {config.name}.yaml"
    elif config.output_path.suffix != ".yaml":
        yield f"output: got {config.output!r}; allowed: a file that ends in .yaml"
    if (config.device is not None) != (config.format in ("phones", "ofa", "fbnet")):
        needed = "one of the devices of the file" if config.device is None else "null: this format has no devices"
        yield f"device: got {config.device!r} with format={config.format}; allowed: {needed}"
    for key in ("space", "candidates"):
        if getattr(config, key) is not None:
            yield f"{key}: it is for proposals; give propose=<number of networks>, or leave it out"


def _proposal(config: CalibrateConfig) -> Iterator[str]:
    if (config.space is None) == (config.candidates is None):
        yield "give one of space, candidates with propose: the networks to choose from"
    if config.space is not None and not isinstance(config.space.get("name"), str):
        yield f"space.name: got {config.space.get('name')!r}, allowed: a name; choose one with space=<name>"
    for key in ("name", "title"):
        if getattr(config, key) is not None:
            yield f"{key}: it is for a profile, and propose writes none; leave one of the two out"
