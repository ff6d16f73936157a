"""Comparing points of several objectives: which are not beaten, and how much they dominate together."""

# Shapes: S points, M objectives.

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from search_spaces.errors import InvalidInputError

Array = NDArray[np.float64]


def pareto(points: ArrayLike, *, maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Which of the points (S, M) no other beats, shape (S,): none is as good in all objectives and better in one.

    `maximise` says of each objective whether more is better. Of equal points none beats another.
    Raises: InvalidInputError for a missing number, and for what is none.
    """
    points_SM = _checked(points, num_objectives=len(maximise))
    costs_SM = np.where(np.asarray(maximise, dtype=bool), -points_SM, points_SM)
    no_worse_SS = (costs_SM[:, None] <= costs_SM[None]).all(axis=2)
    better_SS = (costs_SM[:, None] < costs_SM[None]).any(axis=2)
    beaten_S: NDArray[np.bool_] = np.logical_or.reduce(no_worse_SS & better_SS, axis=0)
    return ~beaten_S


def hypervolume(points: ArrayLike, *, reference: Sequence[float]) -> float:
    """Volume between the points (S, M) and a reference point (M,) that is worse: the part that some point dominates.

    All objectives are minimised: negate those to maximise, and their reference. The unit is the product of theirs. A
    point adds nothing unless it is better than the reference in every objective. Exact; the time grows as S^(M - 1).
    Raises: InvalidInputError for a missing number, for what is none.
    Source: Zitzler and Thiele, PPSN V (1998), by slicing objectives (While et al., IEEE TEVC 10(1), 2006).
    """
    reference_M = _checked([list(reference)], num_objectives=max(1, len(reference)))[0]
    points_SM = _checked(points, num_objectives=len(reference))
    return _volume(points_SM[(points_SM < reference_M).all(axis=1)], reference_M)


def _volume(points_SM: Array, reference_M: Array) -> float:
    """By slices along the last objective: in each, the points that are no higher in it count."""
    if not len(points_SM):
        return 0.0
    if points_SM.shape[1] == 1:
        return float(reference_M[0] - points_SM.min())
    levels = np.append(np.unique(points_SM[:, -1]), reference_M[-1])
    areas = [_volume(points_SM[points_SM[:, -1] <= level, :-1], reference_M[:-1]) for level in levels[:-1]]
    return float(np.dot(areas, np.diff(levels)))


def _checked(points: ArrayLike, *, num_objectives: int) -> Array:
    try:
        points_SM = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"points: {error}; allowed: rows of {num_objectives} numbers each") from error
    if not len(points_SM):
        return points_SM.reshape(0, num_objectives)
    if points_SM.shape[1:] != (num_objectives,):
        raise InvalidInputError(f"points: got shape {points_SM.shape}; allowed: rows of {num_objectives} numbers each")
    if not np.isfinite(points_SM).all():
        lines = np.flatnonzero(~np.isfinite(points_SM).all(axis=1)).tolist()
        raise InvalidInputError(f"points: rows {lines} have no finite number in each objective; drop them first")
    return points_SM
