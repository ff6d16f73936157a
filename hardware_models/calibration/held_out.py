"""What a calibration is worth: predictions of rows that the fit had not seen, the bound, and what it covers."""

# Shapes: N rows, G groups of rows that are left out together.

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from hardware_models.calibration.fitting import Array, conformal_factor, error_figures, rows_needed
from hardware_models.measuring.measurements import Measurements, Subject
from hardware_models.profile import LatencyBound, LatencyError

Mask = NDArray[np.bool_]
Groups = NDArray[np.int64]
# Predictions (N,) of all rows by a fit to the rows in the mask (N,); NaN for a row that it cannot price.
Predict = Callable[[Mask], Array]

NUM_GROUPS = 20  # that rows are left out in, so that some 250 fits are enough; up to so many each is left out alone
LEAST_JUDGED = 9  # rows, for ranks and errors to say anything
INTERVAL = 0.9  # level of the interval of a median error
KEPT = -1  # the group of rows that are never left out


@dataclass(frozen=True)
class HeldOut:
    """Rows and their predictions (N,), each by a fit that had not seen it. `rows` are their places in the file."""

    subject: Subject
    rows: tuple[int, ...]
    predicted_N: Array
    measured_N: Array
    method: str

    @property
    def ratio_N(self) -> Array:
        """Measured over predicted."""
        ratio_N: Array = self.measured_N / self.predicted_N
        return ratio_N


def groups_of(num_rows: int, judged: Sequence[int] | None = None, *, seed: int = 0) -> Groups:
    """The group of each row (N,): those that are `judged`, all by default, lie in at most twenty random groups.

    The others are in every fit.
    """
    places = np.arange(num_rows) if judged is None else np.array(judged, dtype=np.int64)
    groups_N = np.full(num_rows, KEPT)
    groups_N[places] = np.random.default_rng(seed).permutation(len(places)) % NUM_GROUPS
    return groups_N


def judged_rows(measurements: Measurements, *, level: float) -> tuple[int, ...] | None:
    """Places of the rows that error and bound are taken from: those drawn at random; None, all, if too few.

    A bound covers new networks like those that it was taken from. Telling ones are extremes, like no others.
    """
    random = measurements.random if measurements.subject == "network" else ()
    is_enough = len(random) >= random_needed(level) or len(random) == len(measurements.rows)
    return random if is_enough else None


def random_needed(level: float) -> int:
    """The least number of random networks that error and bound at `level` are taken from."""
    return max(LEAST_JUDGED, rows_needed(level))


def hold_out(predict: Predict, measured_N: Array, *, subject: Subject, judged: Sequence[int] | None = None) -> HeldOut:
    """Every row that is judged and that the others can price, predicted without its group."""
    groups_N = groups_of(len(measured_N), judged)
    predicted_N = _without_own_group(predict, groups_N)
    rows = np.flatnonzero(np.isfinite(predicted_N))
    num_judged, num_groups = int((groups_N != KEPT).sum()), len(np.unique(groups_N[groups_N != KEPT]))
    left_out = "each" if num_groups == num_judged else f"in {num_groups} random groups, each"
    whose = subject if judged is None else f"random {subject}"
    method = f"{whose}s, {left_out} left out of the fit in turn"
    return HeldOut(subject, tuple(int(i) for i in rows), predicted_N[rows], measured_N[rows], method)


def latency_error(held_out: HeldOut) -> LatencyError:
    """Figures of predictions that are not all alike, and neither are their times: ranks are compared."""
    figures = error_figures(held_out.predicted_N, held_out.measured_N)
    error_N = np.abs(held_out.predicted_N / held_out.measured_N - 1)
    more = {"within_10_share": float((error_N <= 0.1).mean()), "median_ape_interval": median_interval(error_N)}
    return LatencyError.model_validate({"method": held_out.method, **figures, **more})


def median_interval(values_N: Array, *, level: float = INTERVAL) -> tuple[float, float] | None:
    """Between which two of the sorted values the median of what they were drawn from lies, at `level` or more.

    The narrowest pair equally far from both ends, whatever the distribution; none where all of them are too few.
    """
    n, sorted_N = len(values_N), np.sort(values_N)
    for rank in range((n - 1) // 2, -1, -1):  # values below the lower of the two
        if binom.cdf(n - rank - 1, n, 0.5) - binom.cdf(rank, n, 0.5) >= level:
            return float(sorted_N[rank]), float(sorted_N[n - 1 - rank])
    return None


def latency_bound(held_out: HeldOut, *, level: float, coverage: float | None) -> LatencyBound:
    """Raises: InvalidInputError if there are too few rows for this level."""
    factor = conformal_factor(held_out.predicted_N, held_out.measured_N, level=level)
    n, subject = len(held_out.measured_N), held_out.subject
    return LatencyBound(level=level, n=n, factor=factor, coverage=coverage, subject=subject)


def bound_coverage(
    predict: Predict, measured_N: Array, *, level: float, judged: Sequence[int] | None = None
) -> float | None:
    """Share of judged rows within the bound that a calibration without their group gives them; None of too few rows.

    All of it is repeated without the group, also the held-out predictions that set the factor: a factor set with the
    fit that saw the row would be too small by what the fit gained from it.
    """
    groups_N = groups_of(len(measured_N), judged)
    groups = np.unique(groups_N[groups_N != KEPT])
    outer_N = _without_own_group(predict, groups_N)
    # inner_GN[g]: predictions of each row without its own group and without group g.
    inner_GN = np.full((len(groups), len(groups_N)), np.nan)
    for a, b in combinations(range(len(groups)), 2):
        in_a_N, in_b_N = groups_N == groups[a], groups_N == groups[b]
        predicted_N = predict(~(in_a_N | in_b_N))
        inner_GN[a, in_b_N], inner_GN[b, in_a_N] = predicted_N[in_b_N], predicted_N[in_a_N]
    covered: list[bool] = []
    for g, group in enumerate(groups):
        known_N = np.isfinite(inner_GN[g])
        if known_N.sum() < rows_needed(level):
            return None
        factor = conformal_factor(inner_GN[g, known_N], measured_N[known_N], level=level)
        own_N = (groups_N == group) & np.isfinite(outer_N)
        covered += list(measured_N[own_N] <= factor * outer_N[own_N])
    return float(np.mean(covered)) if covered else None


def _without_own_group(predict: Predict, groups_N: Groups) -> Array:
    predicted_N = np.full(len(groups_N), np.nan)
    for group in np.unique(groups_N[groups_N != KEPT]):
        own_N = groups_N == group
        predicted_N[own_N] = predict(~own_N)[own_N]
    return predicted_N
