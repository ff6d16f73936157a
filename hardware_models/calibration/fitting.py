"""Fits of latency models to measured times: a robust relative fit, held-out errors, safety factors.

Times are in milliseconds. Shapes: N measurements, P fitted numbers.
"""

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls
from scipy.stats import spearmanr

from search_spaces.errors import InvalidInputError

Array = NDArray[np.float64]

# Relative residual beyond which a measurement counts linearly: about the spread of times within one device's table.
HUBER_DELTA = 0.15
# Pull of a prior on the logarithm of each fitted number, against 1 for each measurement.
PRIOR_STRENGTH = 0.03


def fit_nonnegative(x_NP: Array, y_N: Array) -> Array:
    """Coefficients (P,), none negative, with the least Huber loss of the relative residuals y / (x @ c) - 1."""
    unit_P = np.maximum(x_NP.max(axis=0), np.finfo(float).tiny)
    root_N = np.full(len(y_N), 1 / np.median(y_N))
    for _ in range(30):  # reweighted least squares converges in about ten rounds on the tables used here
        coefficients_P = nnls(x_NP * root_N[:, None] / unit_P, y_N * root_N)[0] / unit_P
        # Relative to the prediction: relative to the time, one glitch near 0 ms would outweigh the whole table.
        scale_N = np.maximum(x_NP @ coefficients_P, 0.1 * y_N)
        error_N = np.abs(y_N - x_NP @ coefficients_P) / scale_N
        root_N = np.sqrt(np.minimum(1, HUBER_DELTA / np.maximum(error_N, HUBER_DELTA))) / scale_N
    return coefficients_P


def fit_with_prior(x_NP: Array, y_N: Array, prior_P: Array, *, strength: float = PRIOR_STRENGTH) -> Array:
    """Positive coefficients (P,) with the least robust loss of log(x @ c / y), drawn to a common multiple of a prior.

    The multiple, how fast this device is beside the prior's, is free. What the measurements do not determine keeps the
    proportions of the prior: without it, a kind of operation that few networks use comes out as costing nothing."""
    log_y_N, log_prior_P, pull = np.log(y_N), np.log(prior_P), np.sqrt(strength)
    pull_PQ = pull * np.column_stack([np.eye(len(prior_P)), -np.ones(len(prior_P))])

    def residuals(logs: Array) -> Array:
        error_N = (np.log(x_NP @ np.exp(logs[:-1])) - log_y_N) / HUBER_DELTA
        return np.concatenate([HUBER_DELTA * _pseudo_huber(error_N), pull * (logs[:-1] - log_prior_P - logs[-1])])

    def jacobian(logs: Array) -> Array:
        times_NP = x_NP * np.exp(logs[:-1])
        sums_N = times_NP.sum(axis=1)
        error_N = (np.log(sums_N) - log_y_N) / HUBER_DELTA
        root_N = np.sqrt(1 + error_N**2)
        slope_N = np.sqrt((root_N + 1) / 2) / root_N  # of _pseudo_huber
        of_rows_NQ = np.column_stack([slope_N[:, None] * times_NP / sums_N[:, None], np.zeros(len(y_N))])
        return np.concatenate([of_rows_NQ, pull_PQ])

    speed = np.median(log_y_N - np.log(x_NP @ prior_P))
    return np.exp(least_squares(residuals, [*(log_prior_P + speed), speed], jac=jacobian).x[:-1])


def _pseudo_huber(error_N: Array) -> Array:
    """What, squared and halved, is the pseudo-Huber loss of each error."""
    robust_N: Array = error_N / np.sqrt((np.sqrt(1 + error_N**2) + 1) / 2)
    return robust_N


def error_figures(predicted_N: Array, measured_N: Array) -> dict[str, float]:
    """Count, mean and median relative error, share within 20 %, and rank correlation, of held-out predictions."""
    error_N = np.abs(predicted_N / measured_N - 1)
    return {
        "n": len(measured_N),
        "mape": float(error_N.mean()),
        "median_ape": float(np.median(error_N)),
        "within_20_share": float((error_N <= 0.2).mean()),
        "spearman": float(spearmanr(predicted_N, measured_N).statistic),
    }


def rows_needed(level: float) -> int:
    """The least number of held-out rows that give a bound at `level`."""
    return ceil(level / (1 - level) - 1e-9)


def conformal_factor(predicted_N: Array, measured_N: Array, *, level: float = 0.9) -> float:
    """Factor that lifts a prediction to a bound which a share `level` of new networks keeps; at least 1.

    The ceil((n + 1) level)-th smallest ratio of measured to held-out predicted time. Where one fit made all predictions
    (split conformal prediction), a network like the measured ones keeps it with at least this probability. Where each
    was made by a fit without its own group (cross-conformal), few measurements do not guarantee that. Either way it
    holds for networks drawn as the measured ones were, not for one that a search picked because it looks fast.
    Raises: InvalidInputError if there are too few measurements for that level.
    """
    rank = ceil((len(measured_N) + 1) * level - 1e-9)
    if rank > len(measured_N):
        raise InvalidInputError(
            f"a bound at level {level:g} needs at least {rows_needed(level)} held-out measurements; "
            f"got {len(measured_N)}; measure more or lower the level"
        )
    return max(1.0, float(np.sort(measured_N / predicted_N)[rank - 1]))
