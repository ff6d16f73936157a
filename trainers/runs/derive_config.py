"""The configuration of `espalier-derive`, checked before anything is read. The keys: conf/derive.yaml."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from hardware_models.metrics import Margin, Metric
from trainers.runs.config import FolderName, Line, PathsConfig, Plugins, Positive, Section
from trainers.runs.validation import checked, refusal


class FrontConfig(Section):
    """A device under many budgets of one metric."""

    hardware: FolderName | None
    metric: Metric
    points: Annotated[int, Field(ge=2, le=200)] | None
    min: Positive | None
    max: Positive | None
    deploy: bool


class TrainerChanges(Section):
    """Keys of `trainer` that replace those of the parent run; each is checked again with all others."""

    candidates: Any
    recalibration_images: Any
    validation_images: Any
    finetune_steps: Any
    finetune_lr: Any
    deploy: Any
    max_cuts: Any
    keep_best: Any
    keep_weights: Any
    threads: Any


class DataChanges(Section):
    root: Line | None


class DeriveConfig(Section):
    """One derivation: the folder of a run, and the devices that networks are wanted for."""

    from_: Line | None = Field(alias="from")
    hardware: dict[FolderName, dict[str, Any]] | None
    margin: Margin | None
    boards: dict[str, Any] | None
    front: FrontConfig
    trainer: TrainerChanges
    data: DataChanges
    paths: PathsConfig
    plugins: Plugins

    @property
    def parent(self) -> str:
        assert self.from_ is not None
        return self.from_


def validate(content: Mapping[str, Any]) -> DeriveConfig:
    """Raises: InvalidInputError that lists wrong keys or, where each is right by itself, contradictions."""
    config = checked(DeriveConfig, content)
    front, problems = config.front, []
    if config.from_ is None:
        problems.append("from: got none; give the folder of a finished run, as from=runs/search/<run>")
    if front.points is None:
        given = [key for key in ("hardware", "min", "max") if getattr(front, key) is not None]
        problems += [f"front.{key}: it is for a front; give front.points=20 too" for key in given]
    if front.min is not None and front.max is not None and front.min >= front.max:
        problems.append(f"front.max: got {front.max:g}, which must be above front.min, {front.min:g}")
    if problems:
        raise refusal(problems)
    return config
