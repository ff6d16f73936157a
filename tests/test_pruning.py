"""Pruning keeps its promise whatever the utilities, budgets and caps: the incumbent lives and the worst case lands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import PROFILES, SMALL, all_networks, cost_table, small_space, upper_costs, within

from hardware_models.budgets.budget_problem import BudgetProblem, Removal, Survivors
from hardware_models.budgets.cost_table import CostTable
from hardware_models.profile import METRICS, profile_from_dict

SHARES = st.lists(st.floats(0.0, 1.0), max_size=3).map(lambda shares: [*sorted(shares, reverse=True), 0.0])
QUANTILES = st.dictionaries(st.sampled_from(METRICS), st.floats(0.0, 1.0), min_size=1)


def limits_between(table: CostTable, quantiles: dict[str, float], device: int) -> dict[str, float]:
    """Budgets between the cheapest and the most expensive network, that at least one network meets together."""
    upper_SM = upper_costs(table, all_networks(table.space), device)
    low_M, high_M = upper_SM.min(axis=0), upper_SM.max(axis=0)
    asked = {m: low_M[METRICS.index(m)] + q * (high_M - low_M)[METRICS.index(m)] for m, q in quantiles.items()}
    columns = [METRICS.index(metric) for metric in asked]
    ratio = (upper_SM[:, columns] / list(asked.values())).max(axis=1).min()
    return {metric: float(limit * max(1.0, ratio) * (1 + 1e-6)) for metric, limit in asked.items()}


def positions(table: CostTable, removals: list[Removal]) -> list[int]:
    """Places of removed choices among all choices."""
    space = table.space
    decisions = [space.decision(removal.decision) for removal in removals]
    return [
        int(table.first_choice[space.decisions.index(decision)]) + decision.index(removal.choice)
        for decision, removal in zip(decisions, removals, strict=True)
    ]


def check_invariant(problem: BudgetProblem, survivors: Survivors) -> None:
    """The incumbent is feasible and alive."""
    incumbent = np.array([survivors.incumbent])
    assert problem.is_feasible(incumbent).all()
    assert within(problem.table, incumbent, survivors.mask_N).all()


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(quantiles=QUANTILES, shares=SHARES, seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.0, 1.0, 30.0]))
def test_pruning_ends_within_every_budget_and_never_loses_the_incumbent(
    name: str, quantiles: dict[str, float], shares: list[float], seed: int, spread: float
) -> None:
    table, device = cost_table(small_space(name)), seed % 2
    networks_Sn, generator = all_networks(table.space), np.random.default_rng(seed)
    limits = limits_between(table, quantiles, device)
    problem = BudgetProblem(table, table.device_names[device], limits)
    survivors, removals = problem.start()
    check_invariant(problem, survivors)
    initial_M = problem.overshoot(survivors.mask_N)
    for share in shares:
        utilities_N = spread * generator.normal(size=len(survivors.mask_N))
        caps_M = np.maximum(1.0, 1 + (initial_M - 1) * share)
        before_N = survivors.mask_N
        survivors, removed = problem.prune(survivors, utilities_N, caps_M)
        check_invariant(problem, survivors)
        assert (problem.overshoot(survivors.mask_N) <= caps_M).all()
        assert not (survivors.mask_N & ~before_N).any()
        assert [removal.utility for removal in removed] == pytest.approx(utilities_N[positions(table, removed)])
        removals += removed
    gone = positions(table, removals)
    assert len(set(gone)) == len(gone)
    left_N = np.ones_like(survivors.mask_N)
    left_N[gone] = False
    assert np.array_equal(left_N, survivors.mask_N)
    surviving_SM = upper_costs(table, networks_Sn, device)[within(table, networks_Sn, survivors.mask_N)]
    for metric, limit in limits.items():
        assert surviving_SM[:, METRICS.index(metric)].max() <= limit * (1 + 1e-9)


def test_pruning_under_a_budget_that_nothing_exceeds_removes_nothing() -> None:
    table = cost_table(small_space("depths"))
    problem = BudgetProblem(table, table.device_names[0], {"gflops": 1e6})
    survivors, removals = problem.start()
    assert removals == []
    after, removed = problem.prune(survivors, np.zeros(len(survivors.mask_N)), np.ones(len(METRICS)))
    assert removed == []
    assert after.mask_N.all()


def test_where_any_removal_is_relief_enough_the_choice_of_least_utility_goes() -> None:
    table = cost_table(small_space("depths"))
    worst = float(table.worst(np.ones(table.space.num_choices, dtype=bool), 0)[1])
    problem = BudgetProblem(table, table.device_names[0], {"gflops": 0.999 * worst})
    survivors, _ = problem.start()
    utilities_N = np.zeros(table.space.num_choices)
    disliked = int(table.first_choice[[d.name for d in table.space.decisions].index("resolution")]) + 2
    utilities_N[disliked] = -50.0
    _, removed = problem.prune(survivors, utilities_N, np.ones(len(METRICS)))
    assert [(removal.decision, removal.choice) for removal in removed] == [("resolution", 160)]


def test_under_a_calibrator_the_worst_case_is_a_share_of_the_latency_and_pruning_ends_within_it() -> None:
    space = small_space("depths")
    plain = PROFILES["iot_terminal"].model_dump(mode="json", exclude={"name"})
    square = {"points": [[1e-6, 1e-12], [1.0, 1.0]]}
    profile = profile_from_dict("x", {**plain, "domain": None, "calibrator": square})
    table = CostTable(space, [profile])
    totals_S = table.of(all_networks(space), 0)[:, 0]
    median = float(np.median(totals_S))
    problem = BudgetProblem(table, "x", {"latency_ms": profile.upper("latency_ms", median)})
    survivors, _ = problem.start()
    worst = float(table.worst(survivors.mask_N, 0)[0])
    initial_M = problem.overshoot(survivors.mask_N)
    assert initial_M[0] == pytest.approx((worst / median) ** 2, rel=1e-9)
    assert not initial_M[1:].any()
    for share in (0.5, 0.0):
        caps_M = np.maximum(1.0, 1 + (initial_M - 1) * share)
        before = float(table.worst(survivors.mask_N, 0)[0])
        survivors, removals = problem.prune(survivors, np.zeros(len(survivors.mask_N)), caps_M)
        check_invariant(problem, survivors)
        after = float(table.worst(survivors.mask_N, 0)[0])
        assert (after / median) ** 2 <= caps_M[0] * (1 + 1e-9)
        saved = sum(removal.saved["latency_ms"] for removal in removals)
        assert saved == pytest.approx(before**2 - after**2, rel=1e-9)
    assert totals_S[within(table, all_networks(space), survivors.mask_N)].max() <= median * (1 + 1e-9)
