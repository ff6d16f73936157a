"""What a calibration says of its errors and of its bound: held out, and of the whole procedure."""

import math

import numpy as np
import pytest

from hardware_models.calibration.fitting import Array, conformal_factor, rows_needed
from hardware_models.calibration.held_out import KEPT, bound_coverage, groups_of, hold_out, median_interval
from hardware_models.calibration.roofline_design import AMOUNTS, RooflineDesign
from search_spaces.errors import InvalidInputError


def test_what_measurements_decide_is_the_resolution_by_hand() -> None:
    # One network of the first column alone. J'J = diag(1, 0), pull = 0.015 [[1, -1], [-1, 1]];
    # (J'J + pull)^-1 J'J = [[1, 0], [1, 0]], so the first is decided wholly and the second not at all.
    sums_FP = np.zeros((len(AMOUNTS), 2))
    sums_FP[0, 0] = sums_FP[1, 1] = 1
    fit = RooflineDesign(("first", "second"), sums_FP, np.ones(2))
    amounts_NF = np.zeros((1, len(AMOUNTS)))
    amounts_NF[0, 0] = 5.0
    assert fit.undecided(amounts_NF, np.array([3.0, 2.0])) == ("second",)


@pytest.mark.parametrize(("level", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_rows_needed_are_those_that_make_the_rank_exist(level: float, rows: int) -> None:
    assert rows_needed(level) == rows
    conformal_factor(np.ones(rows), np.ones(rows), level=level)
    if rows > 1:
        with pytest.raises(InvalidInputError):
            conformal_factor(np.ones(rows - 1), np.ones(rows - 1), level=level)


def test_rows_are_left_out_alone_when_few_and_in_twenty_even_groups_when_many() -> None:
    assert sorted(groups_of(20)) == list(range(20))
    assert sorted(np.bincount(groups_of(61))) == [3] * 19 + [4]


def test_rows_that_are_not_judged_are_in_every_fit() -> None:
    groups_N = groups_of(12, [1, 4, 7])
    assert sorted(groups_N[[1, 4, 7]]) == [0, 1, 2]
    assert (np.delete(groups_N, [1, 4, 7]) == KEPT).all()
    measured_N = 2.0 ** np.arange(4)
    held_out = hold_out(
        lambda kept_N: np.full(4, measured_N[kept_N].sum()), measured_N, subject="network", judged=[1, 2]
    )
    assert held_out.rows == (1, 2)
    assert list(held_out.predicted_N) == [13.0, 11.0]


def test_the_interval_of_a_median_is_between_values_of_binomial_ranks() -> None:
    """Of nine values the 2nd and 8th: the median lies outside with 2 (1 + 9) / 512; of five all; of four none."""
    assert median_interval(np.arange(9.0)[::-1]) == (1.0, 7.0)
    assert median_interval(np.arange(5.0)) == (0.0, 4.0)
    assert median_interval(np.arange(4.0)) is None
    generator = np.random.default_rng(0)
    held = [
        low <= 0.0 <= high
        for low, high in filter(None, (median_interval(generator.normal(size=14)) for _ in range(2000)))
    ]
    assert 0.9 <= np.mean(held) < 0.98


def test_a_row_is_predicted_without_itself_and_left_out_where_the_others_have_no_price() -> None:
    measured_N = np.array([1.0, 2.0, 4.0, 8.0])

    def predict(kept_N: Array) -> Array:
        """The sum of what is kept; no price for the last row."""
        return np.where(np.arange(4) < 3, measured_N[kept_N].sum(), np.nan)

    held_out = hold_out(predict, measured_N, subject="network")
    assert held_out.rows == (0, 1, 2)
    assert list(held_out.predicted_N) == [14.0, 13.0, 11.0]
    assert list(held_out.ratio_N) == [1 / 14, 2 / 13, 4 / 11]


def test_coverage_of_the_bound_is_that_of_the_whole_procedure_done_again_without_each_row() -> None:
    measured_N = np.random.default_rng(3).lognormal(size=14)

    def predict(kept_N: Array) -> Array:
        return np.full(14, measured_N[kept_N].mean())

    covered = []
    for i in range(14):
        others = [j for j in range(14) if j != i]
        ratios = [measured_N[j] / np.mean([measured_N[k] for k in others if k != j]) for j in others]
        factor = max(1.0, sorted(ratios)[math.ceil(14 * 0.8 - 1e-9) - 1])
        covered.append(measured_N[i] <= factor * np.mean([measured_N[j] for j in others]))
    expected = sum(covered) / 14
    assert 0 < expected < 1
    assert bound_coverage(predict, measured_N, level=0.8) == pytest.approx(expected)
    assert bound_coverage(predict, measured_N, level=0.95) is None


def test_coverage_over_many_noisy_devices_is_at_the_level() -> None:
    # 60 files of 19 rows: a share of 1,140 rows, each covered with probability 0.9; 3 standard errors are 0.027.
    generator = np.random.default_rng(0)
    coverages = []
    for _ in range(60):
        measured_N = generator.lognormal(sigma=0.2, size=19)

        def predict(kept_N: Array, measured_N: Array = measured_N) -> Array:
            return np.full(19, np.median(measured_N[kept_N]))

        coverages.append(bound_coverage(predict, measured_N, level=0.9))
    assert np.mean(coverages) == pytest.approx(0.92, abs=0.047)  # 0.9 to 0.9 + 1/19, and 3 standard errors
