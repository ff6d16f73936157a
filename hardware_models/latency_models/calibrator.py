"""A monotone map from the sum of a network's operations to its latency, for what a sum does not know."""

from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hardware_models.schema import Positive, Section

Array = NDArray[np.float64]

# Of the logarithms: a flat piece would give a budget no largest sum, a steep one comes from mistaken points.
MIN_SLOPE, MAX_SLOPE = 0.05, 20.0


class Calibrator(Section):
    """Latency of a network from the sum of its operations, straight between `points` (sum_ms, ms) in logarithms.

    Beyond the points the first and the last slope go on; a single point is a factor. Both coordinates must rise, so a
    budget on latency is a budget on the sum, and selection stays exact.
    """

    points: Annotated[tuple[tuple[Positive, Positive], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rises(self) -> "Calibrator":
        for (x, y), (next_x, next_y) in pairwise(self.points):
            if not (x < next_x and y < next_y):
                raise ValueError(
                    f"points must rise in sum_ms and in ms, but {(x, y)} is followed by {(next_x, next_y)}"
                )
            slope = np.log(next_y / y) / np.log(next_x / x)
            if not MIN_SLOPE * 0.999 <= slope <= MAX_SLOPE:
                raise ValueError(
                    f"from {(x, y)} to {(next_x, next_y)} ms grow as the power {slope:.3g} of sum_ms; allowed: "
                    f"{MIN_SLOPE} to {MAX_SLOPE}"
                )
        return self

    def latency_ms(self, sum_ms: float) -> float:
        """Latency of a network whose operations sum to `sum_ms`."""
        return float(self.latencies_ms(np.array(sum_ms)))

    def latencies_ms(self, sums_ms: Array) -> Array:
        """`latency_ms` of each sum, in their shape."""
        return _straight(list(self.points), sums_ms)

    def sum_ms(self, latency_ms: float) -> float:
        """The sum whose latency this is."""
        return float(_straight([(ms, sum_ms) for sum_ms, ms in self.points], np.array(latency_ms)))


def _straight(points: list[tuple[float, float]], at: Array) -> Array:
    """The curve through `points` at each of `at`, straight in logarithms; 0 at 0 and below."""
    x, y = np.log(np.array(points)).T
    positive = np.maximum(at, 0.0)
    if len(x) == 1:
        scaled: Array = positive * np.exp(y[0] - x[0])
        return scaled
    with np.errstate(divide="ignore"):  # the logarithm of 0, whose exponential is 0 again
        logarithm = np.log(positive)
    piece = np.clip(np.searchsorted(x, logarithm) - 1, 0, len(x) - 2)
    slopes = np.diff(y) / np.diff(x)
    curve: Array = np.exp(y[piece] + slopes[piece] * (logarithm - x[piece]))
    return curve
