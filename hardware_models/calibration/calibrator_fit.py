"""A monotone map from sums of operations to latencies, fitted where it predicts networks better than the sum."""

# Shapes: N networks.

import numpy as np

from hardware_models.calibration.fitting import Array
from hardware_models.latency_models.calibrator import MAX_SLOPE, MIN_SLOPE, Calibrator
from hardware_models.schema import DIGITS

MIN_POWER_LAW = 9  # measurements below which two numbers follow their noise
MIN_ISOTONIC = 20  # measurements below which a free monotone curve follows their noise
NUM_GROUPS = 5
LEAST_STEP = 0.02  # of logarithms of sums between two points; nearer ones differ by their noise and by rounding
LONG = np.log(10.0)  # between the points of a power law, so that rounding does not turn it
MIN_GAIN = 0.95  # a map must lower the held-out error to this share, or none is used


def fit_calibrator(sums_N: Array, measured_N: Array) -> Calibrator | None:
    """The map from sums to measured latencies, both in ms, or None where it predicts held-out networks no better.

    A power law is tried and, from 20 networks on, an isotonic curve; networks are held out in five groups.
    """
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
            held_out_N[own_N] = calibrator.latencies_ms(sums_N[own_N])
        error = float(np.abs(held_out_N / measured_N - 1).mean())
        if error < best_error:
            best, best_error = fit(sums_N, measured_N), error
    return best


def _power_law(sums_N: Array, measured_N: Array) -> Calibrator:
    """The least squares in logarithms; a factor where all sums are nearly the same."""
    x_N, y_N = np.log(sums_N), np.log(measured_N)
    if np.ptp(x_N) < LEAST_STEP:
        return Calibrator(points=((1.0, _as_written(float(np.exp((y_N - x_N).mean())))),))
    offset_N = x_N - x_N.mean()
    slope = float((offset_N * (y_N - y_N.mean())).sum()) / float((offset_N**2).sum())
    slope = float(np.clip(slope, 1.01 * MIN_SLOPE, 0.99 * MAX_SLOPE))  # within the limits also after rounding
    ends = np.array([x_N.min(), max(x_N.max(), x_N.min() + LONG / max(1.0, slope))])
    return _through(ends, y_N.mean() + slope * (ends - x_N.mean()))


def _isotonic(sums_N: Array, measured_N: Array) -> Calibrator:
    """Through the middle of each level of an isotonic regression, tilted so that it rises everywhere.

    Networks of nearly the same sum count as one: what tells them apart is not in the sum.
    """
    from sklearn.isotonic import isotonic_regression  # slow to import, and profiles are read without it

    order = np.argsort(sums_N, kind="stable")
    x_N, y_N = np.log(sums_N[order]), np.log(measured_N[order])
    step_N = np.floor((x_N - x_N[0]) / LEAST_STEP)
    x_G, y_G, size_G = _means_of_groups(step_N, x_N, y_N)
    level_G = isotonic_regression(y_G - MIN_SLOPE * x_G, sample_weight=size_G)
    x_L, level_L, _ = _means_of_groups(level_G, x_G, level_G, size_G)
    curve = _through(x_L, level_L + MIN_SLOPE * x_L)
    return curve if len(curve.points) > 1 else _power_law(sums_N, measured_N)


def _means_of_groups(
    rising_N: Array, x_N: Array, y_N: Array, size_N: Array | None = None
) -> tuple[Array, Array, Array]:
    """Means of x and y, weighted by size, over runs of the same number in `rising_N`, and the sizes of the runs."""
    size_N = np.ones_like(x_N) if size_N is None else size_N
    starts = np.flatnonzero(np.diff(rising_N, prepend=-np.inf))
    size_G = np.add.reduceat(size_N, starts)
    return np.add.reduceat(size_N * x_N, starts) / size_G, np.add.reduceat(size_N * y_N, starts) / size_G, size_G


def _through(log_sums: Array, log_ms: Array) -> Calibrator:
    """The map through these points as a profile writes them, less those that it could not rise to steadily."""
    points = [
        (_as_written(a), _as_written(b))
        for a, b in zip(np.exp(log_sums).tolist(), np.exp(log_ms).tolist(), strict=True)
    ]
    kept = points[:1]
    for x, y in points[1:]:
        last_x, last_y = kept[-1]
        step = np.log(x / last_x)
        if step >= LEAST_STEP and MIN_SLOPE * step <= np.log(y / last_y) <= MAX_SLOPE * step:
            kept.append((x, y))
    return Calibrator(points=tuple(kept))


def _as_written(value: float) -> float:
    """In as many digits as a profile has."""
    return float(f"{value:.{DIGITS}g}")
