"""What a calibration is worth: predictions of rows that the fit had not seen, the bound, and what it covers."""

# Shapes: N rows, G groups of rows that are left out together.

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hardware_models.calibration.fitting import Array, conformal_factor, error_figures, rows_needed
from hardware_models.measuring.measurements import Subject
from hardware_models.profile import LatencyBound, LatencyError

Mask = NDArray[np.bool_]
Groups = NDArray[np.int64]
# Predictions (N,) of all rows by a fit to the rows in the mask (N,); NaN for a row that it cannot price.
Predict = Callable[[Mask], Array]

LEAVE_ONE_OUT_ROWS = 60  # up to here every row is left out alone; beyond, rows are left out in groups
NUM_GROUPS = 10


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


def groups_of(num_rows: int, *, seed: int = 0) -> Groups:
    """The group of each row (N,): one for each row, or ten drawn at random where there are many."""
    if num_rows <= LEAVE_ONE_OUT_ROWS:
        return np.arange(num_rows)
    return np.random.default_rng(seed).permutation(num_rows) % NUM_GROUPS


def hold_out(predict: Predict, measured_N: Array, *, subject: Subject) -> HeldOut:
    """Every row that the others can price, predicted without its group."""
    groups_N = groups_of(len(measured_N))
    predicted_N = _without_own_group(predict, groups_N)
    rows = np.flatnonzero(np.isfinite(predicted_N))
    num_groups = len(np.unique(groups_N))
    left_out = "each" if num_groups == len(groups_N) else f"in {num_groups} random groups, each"
    method = f"{subject}s, {left_out} left out of the fit in turn"
    return HeldOut(subject, tuple(int(i) for i in rows), predicted_N[rows], measured_N[rows], method)


def latency_error(held_out: HeldOut) -> LatencyError:
    """Figures of predictions that are not all alike, and neither are their times: ranks are compared."""
    figures = error_figures(held_out.predicted_N, held_out.measured_N)
    within_10 = float((np.abs(held_out.predicted_N / held_out.measured_N - 1) <= 0.1).mean())
    return LatencyError.model_validate({"method": held_out.method, **figures, "within_10_share": within_10})


def latency_bound(held_out: HeldOut, *, level: float, coverage: float | None) -> LatencyBound:
    """Raises: InvalidInputError if there are too few rows for this level."""
    factor = conformal_factor(held_out.predicted_N, held_out.measured_N, level=level)
    n, subject = len(held_out.measured_N), held_out.subject
    return LatencyBound(level=level, n=n, factor=factor, coverage=coverage, subject=subject)


def bound_coverage(predict: Predict, measured_N: Array, *, level: float) -> float | None:
    """Share of rows within the bound that a calibration without their group gives them; None if it has too few rows.

    All of it is repeated without the group, also the held-out predictions that set the factor: a factor set with the
    fit that saw the row would be too small by what the fit gained from it.
    """
    groups_N = groups_of(len(measured_N))
    groups = np.unique(groups_N)
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
    for group in np.unique(groups_N):
        own_N = groups_N == group
        predicted_N[own_N] = predict(~own_N)[own_N]
    return predicted_N
