"""Fronts and hypervolumes: by hand, by definition, and against volumes found another way."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search_spaces.errors import InvalidInputError
from trainers.analysis import hypervolume, pareto

# Few distinct values, so that ties and equal points are common.
GRID = st.integers(0, 6).map(float)


def points(*, most: int, objectives: int) -> st.SearchStrategy[np.ndarray]:
    return st.integers(1, most).flatmap(lambda n: arrays(np.float64, (n, objectives), elements=GRID))


def by_inclusion_and_exclusion(points_SM: np.ndarray, reference: list[float]) -> float:
    """The union of boxes from the volumes of all their intersections: 2^S terms, no slicing."""
    total = 0.0
    for size in range(1, len(points_SM) + 1):
        for chosen in combinations(points_SM, size):
            total -= (-1) ** size * float(np.prod(np.clip(np.array(reference) - np.max(chosen, axis=0), 0, None)))
    return total


def test_the_front_of_accuracy_and_latency_by_hand() -> None:
    networks = [(0.90, 10.0), (0.92, 20.0), (0.91, 25.0), (0.90, 12.0), (0.95, 40.0)]
    assert pareto(networks, maximise=(True, False)).tolist() == [True, True, False, False, True]


def test_equal_points_stay_on_the_front_together() -> None:
    assert pareto([(1, 1), (1, 1), (2, 1)], maximise=(False, False)).tolist() == [True, True, False]


@given(points(most=8, objectives=3), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_a_point_is_on_the_front_if_and_only_if_no_other_dominates_it(points_SM: np.ndarray, maximise: tuple) -> None:
    def dominates(a: np.ndarray, b: np.ndarray) -> bool:
        no_worse = all(x >= y if more else x <= y for x, y, more in zip(a, b, maximise, strict=True))
        return no_worse and any(x != y for x, y in zip(a, b, strict=True))

    expected = [not any(dominates(other, point) for other in points_SM) for point in points_SM]
    assert pareto(points_SM, maximise=maximise).tolist() == expected


@pytest.mark.parametrize(
    ("given_points", "reference", "expected"),
    [
        ([(3,)], (10,), 7),
        ([(3,), (5,)], (10,), 7),
        ([(1, 3), (2, 1)], (4, 4), 3 * 1 + 2 * 3 - 2 * 1),  # boxes 3x1 and 2x3, sharing 2x1
        ([(1, 1, 1)], (2, 3, 4), 1 * 2 * 3),
        ([(0, 2, 2), (2, 0, 2), (2, 2, 0)], (3, 3, 3), 3 + 3 + 3 - 1 - 1 - 1 + 1),
        ([], (1, 1), 0),
        ([(1, 5)], (4, 4), 0),  # worse than the reference in one objective
        ([(4, 1)], (4, 4), 0),  # as bad as it in one
    ],
)
def test_hypervolumes_by_hand(given_points: list, reference: tuple, expected: float) -> None:
    assert hypervolume(given_points, reference=reference) == pytest.approx(expected)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_the_union_of_boxes(objectives: int) -> None:
    @given(points(most=5, objectives=objectives))
    def holds(points_SM: np.ndarray) -> None:
        reference = [5.0] * objectives
        expected = by_inclusion_and_exclusion(points_SM, reference)
        # Whole numbers below 6^4: sums of them are exact.
        assert hypervolume(points_SM, reference=reference) == expected

    holds()


@given(points(most=5, objectives=3))
def test_only_the_front_makes_the_hypervolume(points_SM: np.ndarray) -> None:
    front = points_SM[pareto(points_SM, maximise=(False,) * 3)]
    assert hypervolume(front, reference=(7, 7, 7)) == hypervolume(points_SM, reference=(7, 7, 7))


@pytest.mark.parametrize(
    "given_points",
    [[(1.0, float("nan")), (1.0, 2.0)], [(1.0, 2.0, 3.0)], [1.0, 2.0], [("a", "b")], [(1.0, 2.0), (1.0,)]],
)
def test_points_that_cannot_be_compared_are_refused(given_points: list) -> None:
    with pytest.raises(InvalidInputError, match="points"):
        pareto(given_points, maximise=(True, False))
    with pytest.raises(InvalidInputError, match="points"):
        hypervolume(given_points, reference=(5.0, 5.0))


@pytest.mark.parametrize("reference", [(float("inf"), 2.0), ()])
def test_a_reference_without_a_finite_number_is_refused(reference: tuple) -> None:
    with pytest.raises(InvalidInputError):
        hypervolume([(1.0, 1.0)], reference=reference)
