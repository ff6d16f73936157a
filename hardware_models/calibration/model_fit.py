"""How a latency model is fitted to measured rows: one subclass of `ModelFit` a model, registered under its name."""

# Shapes: N rows.

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardware_models.calibration.fitting import Array
from hardware_models.calibration.held_out import HeldOut, Mask
from hardware_models.calibration.row_checks import outlier_problems, rank_problems
from hardware_models.latency_models.calibrator import Calibrator
from hardware_models.latency_models.latency_model import LatencyModel
from hardware_models.measuring.measurements import MeasuredRow, Measurements, Subject
from search_spaces.registry import Registry


@dataclass(frozen=True)
class Fitted:
    """A latency model and what the rows leave open.

    `calibrator` maps the sum of a network's operations to its latency, None where the sum predicts it as well.
    `undecided` are fitted numbers that the typical device decides more than the rows, `unmeasured` kinds that no row
    has and that are priced all the same.
    """

    latency: LatencyModel
    calibrator: Calibrator | None = None
    undecided: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()


class ModelFit(ABC):
    """The fit of one latency model to the rows of a file of measurements, of one of its `subjects`."""

    subjects: ClassVar[tuple[Subject, ...]] = ("network", "block", "operation")

    def __init__(self, measurements: Measurements, *, bytes_per_element: int) -> None:
        self.measurements, self.bytes_per_element = measurements, bytes_per_element
        self.rows, self.measured_N = measurements.rows, times(measurements.rows)

    def problems(self) -> Iterator[str]:
        """Rows that this model cannot be fitted to, a line each, before anything is fitted."""
        yield from ()

    @abstractmethod
    def fit(self, kept_N: Mask) -> Fitted:
        """The model fitted to the rows in the mask (N,)."""

    def predict(self, kept_N: Mask) -> Array:
        """Predicted times (N,) of all rows, in ms, by a fit to those in the mask; NaN for a row it has no price for."""
        latency = self.fit(kept_N).latency
        return np.array([sum_ms(latency, row, self.bytes_per_element) for row in self.rows])

    def held_out_problems(self, held_out: HeldOut, *, level: float) -> Iterator[str]:
        """Rows that predictions without them show to be wrong, or too few to judge the model."""
        yield from outlier_problems(self.rows, held_out)
        yield from rank_problems(held_out)

    def inferred(self, fitted: Fitted, *, num_held_out: int) -> Iterator[str]:
        """Sentences on what of the model is fitted or assumed and not measured, for `inferred` of the profile."""
        yield f"Prices of the model {fitted.latency.model} are fitted to the {self.measurements.subject}s."


MODEL_FITS: Registry[type[ModelFit]] = Registry("model_fits")


def times(rows: Sequence[MeasuredRow]) -> Array:
    """Measured times (N,), in ms."""
    return np.array([row.latency_ms for row in rows])


def sum_ms(latency: LatencyModel, row: MeasuredRow, bytes_per_element: int) -> float:
    """The constant of a network and its operations' prices; NaN if one has none."""
    prices = [latency.price_ms(operation, bytes_per_element=bytes_per_element) for operation in row.operations]
    return latency.constant_ms + sum(float("nan") if ms is None else ms for ms in prices)
