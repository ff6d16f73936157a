"""A monotone map from sums of operations to latencies, fitted where it predicts networks better than the sum."""

# Shapes: N networks.

import numpy as np

from hardware_models.calibration.fitting import Array
from hardware_models.latency_models.calibrator import MAX_SLOPE, MIN_SLOPE, Calibrator

MIN_POWER_LAW = 9  # measurements below which two numbers follow their noise
MIN_ISOTONIC = 20  # measurements below which a free monotone curve follows their noise
NUM_GROUPS = 5
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
