"""Feasibility, presolve and bounds against brute force over every network."""

# Shapes: S networks, n decisions, M metrics, N choices of all decisions.

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from spaces import (
    SMALL,
    all_networks,
    cost_table,
    draw,
    random_limits,
    random_mask,
    small_space,
    upper_costs,
    within,
    yaml_space,
)
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable, Indices
from hardware_models.budgets.exact import tightest_network
from hardware_models.infeasible import BudgetInfeasibleError
from hardware_models.profile import METRICS
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from search_spaces.space import Choice, Decision, SearchSpace, Site, Supernet
from search_spaces.tensor_spec import TensorSpec


class OpposedSpace(SearchSpace):
    """Each part spends parameters (a linear layer) or multiply-adds (a convolution). Declared for its costs alone."""

    name = "opposed"
    num_classes = 2

    def __init__(self) -> None:
        self.inputs = {"image": TensorSpec((4, 1, 1))}
        self.decisions = tuple(Decision(f"part{k}", ("linear", "conv")) for k in range(5))
        self.sites = tuple(Site(d.name, (d.name,), partial(self._part, k + 1)) for k, d in enumerate(self.decisions))

    def _part(self, size: int, choices: Mapping[str, Any]) -> list[Operation]:
        if "linear" in choices.values():
            return [Operation("linear", (100 * size, 1, 1), (100, 1, 1))]
        return [Operation("conv", (8, 16 * size, 16), (8, 16 * size, 16))]

    def spec(self) -> dict[str, Any]:
        return {}

    def notation(self, choices: Mapping[str, Choice]) -> str:
        return " ".join(map(str, choices.values()))

    def supernet(self) -> Supernet:
        raise TypeError("declared for its costs alone")

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        raise TypeError("declared for its costs alone")


OPPOSED = OpposedSpace()


def problem_of(table: CostTable, limits: Mapping[str, float], device: int = 0) -> BudgetProblem:
    return BudgetProblem(table, table.device_names[device], limits)


def meets(upper_SM: np.ndarray, limits: Mapping[str, float]) -> np.ndarray:
    columns = [upper_SM[:, METRICS.index(metric)] <= limit for metric, limit in limits.items()]
    return np.all(columns, axis=0)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("metric", METRICS)
def test_a_budget_below_the_smallest_network_is_refused_with_its_numbers(name: str, metric: str) -> None:
    table = cost_table(small_space(name))
    smallest = upper_costs(table, all_networks(table.space), 0)[:, METRICS.index(metric)].min()
    other = next(m for m in METRICS if m != metric)
    with pytest.raises(BudgetInfeasibleError) as caught:
        problem_of(table, {metric: 0.8 * smallest, other: 1e9}).start()
    assert caught.value.smallest == pytest.approx({metric: smallest}, rel=1e-6)
    assert table.space.name in str(caught.value) and table.device_names[0] in str(caught.value)


def test_every_budget_that_cannot_be_met_is_named() -> None:
    table = cost_table(small_space("depths"))
    smallest_M = upper_costs(table, all_networks(table.space), 0).min(axis=0)
    with pytest.raises(BudgetInfeasibleError) as caught:
        problem_of(table, {"latency_ms": smallest_M[0] / 2, "gflops": smallest_M[1] / 4, "params_m": 1e9}).start()
    smallest = {"latency_ms": smallest_M[0], "gflops": smallest_M[1]}
    assert caught.value.smallest == pytest.approx(smallest, rel=1e-6)
    for metric, figure in smallest.items():
        assert f"{metric}: " in str(caught.value) and f"{figure:.4g}" in str(caught.value)
    assert "margin=point" not in str(caught.value), "the estimate of latency is out of reach too"


def test_a_latency_out_of_reach_at_its_bound_alone_is_reported_with_the_setting_that_holds_the_estimate() -> None:
    table = cost_table(small_space("depths"))
    smallest = upper_costs(table, all_networks(table.space), 0)[:, 0].min()
    with pytest.raises(BudgetInfeasibleError, match="margin=point"):
        problem_of(table, {"latency_ms": 0.99 * smallest}).start()


def test_budgets_reachable_alone_but_not_together_are_refused_with_the_ratio_they_lack() -> None:
    table = cost_table(OPPOSED)
    upper_SM = upper_costs(table, all_networks(OPPOSED), 0)
    limits = {"gflops": 1.5 * upper_SM[:, 1].min(), "params_m": 1.5 * upper_SM[:, 2].min()}
    ratio = np.maximum(upper_SM[:, 1] / limits["gflops"], upper_SM[:, 2] / limits["params_m"]).min()
    assert ratio > 1.05
    with pytest.raises(BudgetInfeasibleError) as caught:
        problem_of(table, limits).start()
    assert caught.value.smallest == {} and caught.value.ratio == pytest.approx(ratio, rel=1e-4)
    # With as much room as it asks for, they can be met.
    survivors, _ = problem_of(table, {m: limit * ratio * 1.0001 for m, limit in limits.items()}).start()
    assert problem_of(table, {m: limit * ratio * 1.0001 for m, limit in limits.items()}).is_feasible(
        np.array([survivors.incumbent])
    )


def test_reachable_is_the_smallest_upper_cost_of_each_budgeted_metric() -> None:
    table = cost_table(OPPOSED)
    smallest_M = upper_costs(table, all_networks(OPPOSED), 0).min(axis=0)
    assert problem_of(table, {"latency_ms": 1.0, "params_m": 2.0}).reachable() == pytest.approx(
        {"latency_ms": smallest_M[0], "params_m": smallest_M[2]}
    )


@pytest.mark.parametrize("space", [*map(small_space, SMALL), OPPOSED], ids=[*SMALL, "opposed"])
def test_tightest_network_has_the_least_largest_share_of_its_budgets(space: SearchSpace) -> None:
    table, generator = cost_table(space), np.random.default_rng(0)
    networks_Sn = all_networks(space)
    for round_ in range(8):
        device = round_ % 2
        limits = random_limits(upper_costs(table, networks_Sn, device), generator)
        mask_N = random_mask(table, generator, 0.8)
        limits_M = np.array([limits.get(metric, np.inf) for metric in METRICS])
        found = tightest_network(table, device, mask_N=mask_N, limits_M=limits_M)
        ratios_S = (table.of(networks_Sn, device) / limits_M).max(axis=1)
        kept = within(table, networks_Sn, mask_N)
        assert found.value == pytest.approx(ratios_S[kept].min(), rel=1e-5)
        row = int((networks_Sn == found.indices).all(axis=1).argmax())
        assert kept[row]
        assert ratios_S[row] == pytest.approx(found.value)


@pytest.mark.parametrize("name", SMALL)
def test_presolve_removes_only_choices_that_no_feasible_network_takes(name: str) -> None:
    space, generator = small_space(name), np.random.default_rng(1)
    table, networks_Sn = cost_table(space), all_networks(space)
    num_removed = 0
    for round_ in range(10):
        device = round_ % 2
        upper_SM = upper_costs(table, networks_Sn, device)
        problem = problem_of(table, limits := random_limits(upper_SM, generator, high=0.15), device)
        feasible_S = meets(upper_SM, limits)
        if not feasible_S.any():
            with pytest.raises(BudgetInfeasibleError):
                problem.start()
            continue
        survivors, removals = problem.start()
        assert problem.is_feasible(np.array([survivors.incumbent])).all()
        assert np.array_equal(problem.is_feasible(networks_Sn), feasible_S)
        assert within(table, networks_Sn, survivors.mask_N)[feasible_S].all()
        assert len(removals) == (~survivors.mask_N).sum()
        assert {removal.reason for removal in removals} <= {"presolve"}
        num_removed += len(removals)
    assert num_removed


@pytest.mark.parametrize("space", [*map(small_space, SMALL), yaml_space("mobile")], ids=[*SMALL, "mobile"])
def test_worst_and_cheapest_bound_every_network(space: SearchSpace) -> None:
    table, generator = cost_table(space), np.random.default_rng(2)
    for _ in range(5):
        mask_N = random_mask(table, generator, 0.5)
        networks_Sn = draw_within(table, mask_N, generator)
        for device in range(2):
            costs_SM = table.of(networks_Sn, device)
            assert (costs_SM <= table.worst(mask_N, device) * (1 + 1e-12)).all()
            assert (costs_SM >= table.cheapest(mask_N, device) * (1 - 1e-12)).all()


def draw_within(table: CostTable, mask_N: np.ndarray, generator: np.random.Generator) -> Indices:
    """Networks (300, n) of the choices in a mask."""
    blocks = zip(table.first_choice[:-1], table.first_choice[1:], strict=True)
    return np.stack([generator.choice(np.flatnonzero(mask_N[a:b]), size=300) for a, b in blocks], axis=1)


@pytest.mark.parametrize("space", [*map(small_space, SMALL), yaml_space("mobile")], ids=[*SMALL, "mobile"])
def test_worst_without_a_choice_equals_the_worst_of_the_mask_without_it(space: SearchSpace) -> None:
    table, generator = cost_table(space), np.random.default_rng(3)
    for share in (0.3, 0.7, 1.0):
        mask_N = random_mask(table, generator, share)
        for device in range(2):
            without_NM = table.worst_without(mask_N, device)
            for choice in generator.permutation(np.flatnonzero(mask_N))[:40]:
                decision = int(np.searchsorted(table.first_choice, choice, side="right")) - 1
                smaller_N = mask_N.copy()
                smaller_N[choice] = False
                if smaller_N[table.first_choice[decision] : table.first_choice[decision + 1]].any():
                    np.testing.assert_allclose(without_NM[choice], table.worst(smaller_N, device), rtol=1e-9)
                elif table.strides[decision].any():  # a decision that some factor prices
                    assert (without_NM[choice] == -np.inf).all()


def test_latency_budget_binds_the_upper_bound_and_not_the_estimate() -> None:
    table = cost_table(small_space("depths"))
    device = table.devices[0]
    assert device.bound is not None
    factor = device.bound.factor * device.widening
    assert factor > 1.1
    smallest = table.of(all_networks(table.space), 0)[:, 0].min()
    with pytest.raises(BudgetInfeasibleError) as caught:
        problem_of(table, {"latency_ms": smallest * (1 + factor) / 2}).start()
    assert caught.value.smallest == pytest.approx({"latency_ms": factor * smallest}, rel=1e-6)
    problem = problem_of(table, {"latency_ms": smallest * factor * 1.001})
    incumbent = problem.start()[0].incumbent
    assert problem.utilisation(incumbent) == pytest.approx({"latency_ms": 1 / 1.001})


def test_tightened_problem_lowers_one_limit_alone_and_never_raises_it() -> None:
    table = cost_table(small_space("depths"))
    limits = {"latency_ms": 30.0, "gflops": 1.0}
    indices = draw(table.space, 1, np.random.default_rng(4))[0]
    before = problem_of(table, limits).utilisation(indices)
    half = problem_of(table, limits).limits_M[0] / 2
    tightened = problem_of(table, limits).tightened("latency_ms", largest_total=half)
    assert tightened.tightened("latency_ms", largest_total=2 * half).limits_M.tolist() == tightened.limits_M.tolist()
    after = tightened.utilisation(indices)
    assert after == pytest.approx({"latency_ms": 2 * before["latency_ms"], "gflops": before["gflops"]})


def test_a_device_without_a_budget_is_refused_by_its_key() -> None:
    table = cost_table(small_space("depths"))
    with pytest.raises(InvalidInputError) as caught:
        problem_of(table, {})
    assert caught.value.fields == (f"hardware.{table.device_names[0]}.budgets",)
