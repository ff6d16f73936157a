"""The monotone map from the sum of operations to latency: by hand, fitted, and through budgets."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import ROOT
from tiny_search import networks_of, small_space

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.calibration.calibrator_fit import fit_calibrator
from hardware_models.latency_models.calibrator import Calibrator
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from search_spaces.errors import InvalidInputError

SQUARE = Calibrator(points=((1.0, 2.0), (10.0, 200.0)))  # 2 sum^2


def test_between_and_beyond_its_points_it_is_straight_in_logarithms() -> None:
    assert [SQUARE.latency_ms(x) for x in (0.0, 0.5, 1.0, 3.0, 20.0)] == pytest.approx([0, 0.5, 2, 18, 800])
    assert Calibrator(points=((2.0, 3.0),)).latency_ms(10.0) == pytest.approx(15.0)


@given(
    steps=st.lists(st.tuples(st.floats(0.1, 2), st.floats(0.11, 1.9)), min_size=1, max_size=6),
    sums=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
)
def test_it_rises_and_is_undone_by_its_inverse(steps: list[tuple[float, float]], sums: tuple[float, float]) -> None:
    points = np.exp(np.cumsum(steps, axis=0))
    calibrator = Calibrator(points=tuple((float(x), float(y)) for x, y in points))
    low, high = sorted(sums)
    assert calibrator.latency_ms(low) <= calibrator.latency_ms(high)
    assert calibrator.sum_ms(calibrator.latency_ms(low)) == pytest.approx(low, rel=1e-9)


@pytest.mark.parametrize(
    "points",
    [[], [[1, 2], [1, 3]], [[1, 2], [2, 2]], [[0, 1]], [[1, float("nan")]], [[2, 1], [1, 2]], [[1, 1], [1.01, 9]]],
)
def test_points_that_do_not_rise_steadily_are_refused_with_their_key(points: list[list[float]]) -> None:
    with pytest.raises(InvalidInputError, match=r"hardware\.x\.calibrator\S*: "):
        calibrated([[float(a), float(b)] for a, b in points])


@pytest.mark.parametrize("num", [9, 40])
def test_a_power_law_is_recovered(num: int) -> None:
    sums_N = np.geomspace(1, 100, num)
    noise_N = np.exp(0.02 * np.random.default_rng(0).standard_normal(num))
    fitted = fit_calibrator(sums_N, 3 * sums_N**0.8 * noise_N)
    assert fitted is not None
    assert fitted.latency_ms(20.0) == pytest.approx(3 * 20**0.8, rel=0.03)


def test_a_bend_that_no_power_law_has_is_followed_from_twenty_networks_on() -> None:
    sums_N = np.geomspace(1, 100, 60)
    measured_N = np.where(sums_N < 10, sums_N, 10 * (sums_N / 10) ** 3)
    fitted = fit_calibrator(sums_N, measured_N)
    assert fitted is not None
    assert fitted.latency_ms(3.0) == pytest.approx(3, rel=0.05) and fitted.latency_ms(50.0) == pytest.approx(
        1250, rel=0.1
    )


def test_where_the_sum_is_the_latency_no_map_is_used() -> None:
    sums_N = np.geomspace(1, 100, 30)
    noise_N = np.exp(0.05 * np.random.default_rng(0).standard_normal(30))
    assert fit_calibrator(sums_N, sums_N * noise_N) is None


def calibrated(points: list[list[float]] | None) -> HardwareProfile:
    plain = load_profile(ROOT / "conf" / "hardware" / "iot_terminal.yaml").model_dump(mode="json", exclude={"name"})
    return profile_from_dict(
        "x", {**plain, "domain": None, "calibrator": None if points is None else {"points": points}}
    )


@pytest.mark.parametrize("margin", ["upper", "point"])
def test_a_budget_holds_the_calibrated_figure_of_every_network(margin: str) -> None:
    space = small_space()
    profile = calibrated([[1.0, 2.0], [30.0, 90.0]])
    table = CostTable(space, [profile])
    networks_Sn = networks_of(space)
    sums_S = table.of(networks_Sn, 0)[:, 0]
    figures_S = np.array(
        [getattr(profile, "upper" if margin == "upper" else "estimate")("latency_ms", s) for s in sums_S]
    )
    limit = float(np.median(figures_S))
    problem = BudgetProblem(table, "x", {"latency_ms": limit}, margin=margin)
    assert (problem.is_feasible(networks_Sn) == (figures_S <= limit * (1 + 1e-12))).mean() > 0.99
    assert problem.utilisation(networks_Sn[0]) == pytest.approx({"latency_ms": figures_S[0] / limit})
    assert not np.allclose(figures_S, sums_S)


@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 60)), deadline=None)
@given(
    levels=st.lists(st.floats(-4, 6), min_size=1, max_size=5),
    spread=st.sampled_from([0.0, 1e-12, 1e-6, 1e-4, 1e-3, 0.02, 0.5]),
    noise=st.sampled_from([0.0, 1e-9, 1e-4, 0.02, 0.3, 1.0]),
    num=st.integers(9, 70),
    seed=st.integers(0, 99),
)
def test_ties_near_ties_and_clusters_give_a_map_that_a_profile_can_hold(
    levels: list[float], spread: float, noise: float, num: int, seed: int
) -> None:
    """Sums in clusters, many of them nearly the same, and times that have little to do with them."""
    generator = np.random.default_rng(seed)
    sums_N = np.exp(generator.choice(levels, num) + spread * generator.standard_normal(num))
    measured_N = np.exp(
        generator.choice([0.0, 0.5, 1.0, 3.0]) * np.log(sums_N) + noise * generator.standard_normal(num)
    )
    fitted = fit_calibrator(sums_N, measured_N)
    if fitted is not None:
        written = [[float(f"{value:.4g}") for value in point] for point in fitted.points]
        assert written == [list(point) for point in fitted.points]
        assert Calibrator.model_validate({"points": written}) == fitted
