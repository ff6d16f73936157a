"""Factors on the prices of single operations, where networks show what the kind and the size of one do not."""

# Shapes: N networks, O operations.

from collections import Counter
from collections.abc import Sequence
from math import ceil

import numpy as np

from hardware_models.calibration.calibrator_fit import fit_calibrator
from hardware_models.calibration.device_prior import DEGREES_OF_FREEDOM
from hardware_models.calibration.fitting import Array
from hardware_models.calibration.held_out import Mask
from hardware_models.schema import DIGITS
from search_spaces.operation import Operation

LEAST_NETWORKS = 30  # of fewer, factors follow the noise, and a search finds the networks that they make too cheap
SEEN = 5  # networks that have an operation before it gets a factor of its own
MOST = 128  # operations that get one, those that take most of the time
SPREADS = 0.1, 0.5  # of factors about 1, tried
LEAST_FACTOR, MOST_FACTOR = 0.2, 5.0
NUM_GROUPS = 3
REWEIGHTINGS = 3
LEAST_NOISE = 0.005  # relative, of a measured time
BETTER_SHARE = 0.8  # of networks held out, whose errors are compared
MIN_GAIN = 0.95  # factors must lower that error to this share, or there are none


class Corrections:
    """How often each network runs the operations that may get a factor of their own."""

    def __init__(self, networks: Sequence[Sequence[Operation]]) -> None:
        counts = [Counter(operation.notation for operation in network) for network in networks]
        seen = Counter(name for own in counts for name in own)
        first = {operation.notation: operation for network in networks for operation in network}
        self.operations = [first[name] for name, times in seen.items() if times >= SEEN]
        self.counts_NO = np.array([[own[o.notation] for o in self.operations] for own in counts], dtype=float)

    def fit(self, prices_O: Array, sums_N: Array, measured_N: Array, kept_N: Mask) -> Array:
        """Factors (O,) of the prices in ms; 1 throughout where networks held out are not predicted better with them.

        `sums_N` are the sums of all operations' prices, in ms as `measured_N`. The least squares of relative residuals,
        robust, with each factor drawn to 1 by the spread that predicts three groups of the kept networks best, each
        held out in turn.
        """
        factors_O, kept = np.ones(len(prices_O)), np.flatnonzero(kept_N)
        if not self.operations:
            return factors_O
        times_NO = self.counts_NO[kept] * prices_O
        total_O = times_NO.sum(axis=0) * ((times_NO > 0).sum(axis=0) >= SEEN)
        most = np.argsort(-total_O, kind="stable")[: min(MOST, np.count_nonzero(total_O))]
        times_NO, sums_N, measured_N = times_NO[:, most], sums_N[kept], measured_N[kept]
        error, spread = _best_spread(times_NO, sums_N, measured_N)
        if error < MIN_GAIN * _error(sums_N, measured_N):
            found_O = _factors(times_NO, sums_N, measured_N, spread)
            factors_O[most] = [float(f"{factor:.{DIGITS}g}") for factor in found_O]  # as a profile writes them
        return factors_O

    def added(self, prices_O: Array, factors_O: Array) -> Array:
        """What the factors add to the sum of each network, (N,) in ms."""
        added_N: Array = self.counts_NO @ (prices_O * (factors_O - 1))
        return added_N


def _best_spread(times_NO: Array, sums_N: Array, measured_N: Array) -> tuple[float, float]:
    """The least error of networks held out in groups, and its spread."""
    group_N = np.empty(len(sums_N), dtype=int)
    group_N[np.argsort(sums_N, kind="stable")] = np.arange(len(sums_N)) % NUM_GROUPS  # small and large in each
    errors = []
    for spread in SPREADS:
        held_out_N = sums_N.copy()
        for group in range(NUM_GROUPS):
            own_N = group_N == group
            factors_O = _factors(times_NO[~own_N], sums_N[~own_N], measured_N[~own_N], spread)
            held_out_N[own_N] += times_NO[own_N] @ (factors_O - 1)
        errors.append((_error(held_out_N, measured_N), spread))
    return min(errors)


def _error(sums_N: Array, measured_N: Array) -> float:
    """Error of latencies by the calibrator that these sums would get, without the worst: mean of logarithms."""
    calibrator = fit_calibrator(sums_N, measured_N)
    predicted_N = sums_N if calibrator is None else calibrator.latencies_ms(sums_N)
    error_N = np.sort(np.abs(np.log(predicted_N / measured_N)))
    return float(error_N[: ceil(BETTER_SHARE * len(error_N))].mean())


def _factors(times_NO: Array, sums_N: Array, measured_N: Array, spread: float) -> Array:
    """Factors (O,): a ridge on what each adds, errors with Student's t of their own scale."""
    scale_N = np.maximum(sums_N, measured_N)
    shares_NO, missing_N = times_NO / scale_N[:, None], (measured_N - sums_N) / scale_N
    error_N: Array = missing_N
    added_O: Array = np.zeros(times_NO.shape[1])
    for _ in range(REWEIGHTINGS):
        noise = max(LEAST_NOISE, 1.4826 * float(np.median(np.abs(error_N))))
        weight_N = (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + (error_N / noise) ** 2)
        rows_NO, target_N = shares_NO * np.sqrt(weight_N)[:, None], missing_N * np.sqrt(weight_N)
        pull = (noise / spread) ** 2
        if len(rows_NO) < len(added_O):
            added_O = rows_NO.T @ np.linalg.solve(rows_NO @ rows_NO.T + pull * np.eye(len(rows_NO)), target_N)
        else:
            square_OO = rows_NO.T @ rows_NO + pull * np.eye(rows_NO.shape[1])
            added_O = np.array(np.linalg.solve(square_OO, rows_NO.T @ target_N), dtype=float)
        error_N = missing_N - shares_NO @ added_O
    return np.clip(1 + added_O, LEAST_FACTOR, MOST_FACTOR)
