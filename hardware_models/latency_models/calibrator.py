"""A monotone map from the sum of a network's operations to its latency, for what a sum does not know."""

from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from hardware_models.calibration.fitting import Array, check_times
from hardware_models.latency_models.roofline import Positive, Section

# Of the logarithms: a flat piece would give a budget no largest sum, a steep one tells of mistaken points.
MIN_SLOPE, MAX_SLOPE = 0.05, 20.0
MIN_POWER_LAW = 9  # measurements below which two numbers follow their noise
MIN_ISOTONIC = 20  # measurements below which a free monotone curve follows their noise
NUM_GROUPS = 5
MIN_GAIN = 0.95  # a map must lower the held-out error to this share, or none is used


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
        return _straight(list(self.points), sum_ms)

    def sum_ms(self, latency_ms: float) -> float:
        """The sum whose latency this is."""
        return _straight([(ms, sum_ms) for sum_ms, ms in self.points], latency_ms)


def fit_calibrator(sums_N: Array, measured_N: Array) -> Calibrator | None:
    """The map from sums to measured latencies, both in ms, or None where it foretells held-out networks no better.

    A power law is tried and, from 20 networks on, an isotonic curve; networks are held out in five groups.
    Raises: InvalidInputError unless all are positive and finite.
    """
    check_times(sums_N)
    check_times(measured_N)
    group_N = np.empty(len(sums_N), dtype=int)
    group_N[np.argsort(sums_N, kind="stable")] = np.arange(len(sums_N)) % NUM_GROUPS  # small and large in each
    best, best_error = None, MIN_GAIN * float(np.abs(sums_N / measured_N - 1).mean())
    if len(sums_N) < MIN_POWER_LAW:
        return None
    for fit in (_power_law, _isotonic) if len(sums_N) >= MIN_ISOTONIC else (_power_law,):
        held_out_N = np.empty(len(sums_N))
        for group in range(NUM_GROUPS):
            own_N = group_N == group
            calibrator = fit(sums_N[~own_N], measured_N[~own_N])
            held_out_N[own_N] = [calibrator.latency_ms(float(sum_ms)) for sum_ms in sums_N[own_N]]
        error = float(np.abs(held_out_N / measured_N - 1).mean())
        if error < best_error:
            best, best_error = fit(sums_N, measured_N), error
    return best


def _power_law(sums_N: Array, measured_N: Array) -> Calibrator:
    x_N, y_N = np.log(sums_N), np.log(measured_N)
    spread = float(((x_N - x_N.mean()) ** 2).sum())
    slope = float(((x_N - x_N.mean()) * (y_N - y_N.mean())).sum()) / spread if spread > 0 else 1.0
    ends = np.array([x_N.min(), x_N.max()]) if spread > 0 else np.array([x_N[0], x_N[0] + 1])
    return _through(ends, y_N.mean() + float(np.clip(slope, MIN_SLOPE, MAX_SLOPE)) * (ends - x_N.mean()))


def _isotonic(sums_N: Array, measured_N: Array) -> Calibrator:
    """Through the middle of each level of an isotonic regression, tilted so that it rises everywhere."""
    from sklearn.isotonic import IsotonicRegression  # slow to import, and profiles are read without it

    x_N, y_N = np.log(sums_N), np.log(measured_N)
    level_N = IsotonicRegression().fit_transform(x_N, y_N - MIN_SLOPE * x_N)
    levels = np.unique(level_N)
    x_L = np.array([x_N[level_N == level].mean() for level in levels])
    y_L = levels + MIN_SLOPE * x_L
    kept = [0]
    for i in range(1, len(levels)):
        if x_L[i] > x_L[kept[-1]] and y_L[i] - y_L[kept[-1]] <= MAX_SLOPE * (x_L[i] - x_L[kept[-1]]):
            kept.append(i)
    return _through(x_L[kept], y_L[kept]) if len(kept) > 1 else _power_law(sums_N, measured_N)


def _through(log_sums: Array, log_ms: Array) -> Calibrator:
    return Calibrator(points=tuple((float(a), float(b)) for a, b in zip(np.exp(log_sums), np.exp(log_ms), strict=True)))


def _straight(points: list[tuple[float, float]], at: float) -> float:
    """The curve through `points` at `at`, straight in logarithms; 0 at 0."""
    if at <= 0:
        return 0.0
    x, y = np.log(np.array(points)).T
    if len(x) == 1:
        return float(at * np.exp(y[0] - x[0]))
    piece = int(np.clip(np.searchsorted(x, np.log(at)) - 1, 0, len(x) - 2))
    slope = (y[piece + 1] - y[piece]) / (x[piece + 1] - x[piece])
    return float(np.exp(y[piece] + slope * (np.log(at) - x[piece])))
