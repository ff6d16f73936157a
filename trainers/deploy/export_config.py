"""The configuration of espalier-export, checked before anything is read; conf/export.yaml explains its keys."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from hardware_models.measuring.board_address import Line
from trainers.deploy.litert_file import litert_problem
from trainers.runs.config import Count, FolderName, Plugins, Section
from trainers.runs.exports import Format, Precision

NEEDS = {"executorch": ("executorch", "torchao")}  # packages of a format that are no dependencies of Espalier


class LimitsConfig(Section):
    accuracy_drop: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class ExportConfig(Section):
    """One export of a search or a training."""

    run: Line | None
    devices: Annotated[list[FolderName], Field(min_length=1)] | None
    formats: Annotated[list[Format], Field(min_length=1)]
    precisions: Annotated[list[Precision], Field(min_length=1)]
    calibration_images: Count
    limits: LimitsConfig
    litert_python: Line | None
    data_root: Line | None
    threads: Annotated[int, Field(ge=1, le=1024)]
    repeats: Annotated[int, Field(ge=1, le=1_000_000)]
    output: Line | None
    plugins: Plugins

    @property
    def run_folder(self) -> Path:
        return Path(os.path.expanduser(self.run or ""))

    @property
    def output_folder(self) -> Path:
        return self.run_folder / "export" if self.output is None else Path(os.path.expanduser(self.output))

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        problems = list(self._contradictions())
        if problems:
            raise ValueError("\n  ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        """What is wrong between keys that are right by themselves."""
        if self.run is None:
            yield "run: got none; give the folder of a finished search or training, as run=runs/search/<run>"
        elif not os.path.isfile(self.run_folder / "status.json"):
            yield f"run: no run in {self.run}: it has no status.json; give the folder <runs>/<sweep>/<run>"
        for key in ("devices", "formats", "precisions"):
            given = getattr(self, key) or []
            if len(set(given)) < len(given):
                yield f"{key}: got {', '.join(given)}; name each once"
        if "litert" in self.formats and (problem := litert_problem(self.litert_python)):
            yield problem
        for name in self.formats:
            missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
            if missing:
                yield f"formats: {name} needs {' and '.join(missing)}; install them: pip install 'espalier[{name}]'"
