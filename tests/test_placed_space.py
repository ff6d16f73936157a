"""Placement as a decision of the search: costs, exact selection, pruning and pools over it, margins of budgets."""

from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spaces import PROFILES, draw, narrow_space, random_limits, small_space, upper_costs, within
from tiny_search import MOBILE_SPACE, composed, tiny_config
from unit_profiles import bus, device, roofline, unit, wireless, with_units

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable, Indices
from hardware_models.infeasible import BudgetInfeasibleError
from hardware_models.measuring.measure import time_module
from hardware_models.placement.chain import network_chain, placed_costs
from hardware_models.placement.placed_space import PlacedSpace, unit_decision, unplaced
from hardware_models.placement.placement import fastest_placement, place, segment_placement
from hardware_models.profile import METRICS, HardwareProfile
from search_spaces.architecture import SPACES
from search_spaces.errors import InvalidInputError
from search_spaces.mobile.space import MobileSpace
from search_spaces.space import SearchSpace
from search_spaces.testing import one_hot
from trainers.runs.config import validate
from trainers.search.certificate import certify
from trainers.search.plan import prepare

# Shapes: S networks, n decisions, M metrics.

PLAIN = PROFILES["iot_terminal"].model_copy(update={"domain": None})


def chip(name: str = "chip") -> HardwareProfile:
    """Two units of one chip whose prices, per work and per operation, make neither best everywhere."""
    units = {"cpu": unit(roofline(2.0, gb_per_s=5.0)), "npu": unit(roofline(30.0, overhead_ms=0.02, gb_per_s=5.0))}
    return device(name, units, {"bus": bus(2.0, 0.01)}, entry="cpu")


SPLIT = with_units(
    "split_phone_server",
    phone={"latency": roofline(2.0, overhead_ms=0.02, gb_per_s=5.0)},
    wireless={"mbit_per_s": 400.0, "round_trip_ms": 0.2},
)


@cache
def placed_table(space: SearchSpace) -> CostTable:
    """Costs on a device of one unit, on a chip of two, and on a phone with a server."""
    return CostTable(space, [PLAIN, chip(), SPLIT])


@pytest.mark.parametrize("name", SPACES)
def test_the_table_prices_a_network_as_its_chain_on_the_units_of_its_segments(name: str) -> None:
    space = narrow_space(name)
    table = placed_table(space)
    for row in draw(table.space, 60, np.random.default_rng(0)):
        choices = table.space.choices(row)
        chain, segments = network_chain(table.space, choices)
        if len(set(segments)) < len(space.segments):
            continue  # a dead cell, at which the table may call for nothing
        for index in (1, 2):
            profile = table.devices[index]
            assert isinstance(table.space, PlacedSpace)
            units = segment_placement(table.space, profile, choices)
            assert table.named(row.tolist(), index) == pytest.approx(placed_costs(profile, chain, units), rel=1e-9)


@pytest.mark.parametrize("name", SPACES)
def test_a_device_of_one_unit_costs_the_same_beside_devices_of_several(name: str) -> None:
    space = narrow_space(name)
    table, alone = placed_table(space), CostTable(space, [PLAIN])
    rows = draw(table.space, 200, np.random.default_rng(1))
    np.testing.assert_allclose(table.of(rows, 0), alone.of(rows[:, : len(space.decisions)], 0), rtol=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_expected_cost_of_one_placed_network_is_its_cost(name: str) -> None:
    table = placed_table(narrow_space(name))
    for row in draw(table.space, 10, np.random.default_rng(2)):
        weights = torch.cat(list(one_hot(table.space, row, torch.float64).values()))
        expected_DM = table.expected(weights).numpy()
        for index in range(3):
            np.testing.assert_allclose(expected_DM[index], table.of(row[None], index)[0], rtol=1e-9)


def placed_networks(table: CostTable, index: int, size: int, generator: np.random.Generator) -> tuple[Indices, Any]:
    """Networks (S, n) of some of a space's choices with every placement on one device, and the mask of their choices.

    Where other devices run them stands still: it changes nothing here.
    """
    mask_N = np.zeros(int(table.first_choice[-1]), dtype=bool)
    kept_choices = []
    for k, decision in enumerate(table.space.decisions):
        num = len(decision.choices)
        still = k >= table.num_own and k not in table.placements[index]
        num_kept = 1 if still else num if k >= table.num_own else min(size, num)
        kept = np.sort(generator.choice(num, size=num_kept, replace=False))
        mask_N[table.first_choice[k] + kept] = True
        kept_choices.append(kept)
    return np.array(list(product(*kept_choices))), mask_N


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize(("name", "size"), [("depths", 3), ("blocks", 2), ("cells", 2)])
def test_exact_selection_of_networks_and_placements_equals_brute_force(name: str, size: int, index: int) -> None:
    table, generator = placed_table(small_space(name)), np.random.default_rng(3)
    for _ in range(4):
        networks_Sn, mask_N = placed_networks(table, index, size, generator)
        upper_SM = upper_costs(table, networks_Sn, index)
        limits = random_limits(upper_SM, generator)
        problem = BudgetProblem(table, table.device_names[index], limits)
        scores_N = generator.normal(size=len(mask_N))
        allowed_S = within(table, networks_Sn, mask_N)
        for metric, limit in limits.items():
            allowed_S &= upper_SM[:, METRICS.index(metric)] <= limit
        values_S = scores_N[networks_Sn + table.first_choice[:-1]].sum(axis=1)
        order = np.argsort(-values_S[allowed_S])
        ranked, forbidden = networks_Sn[allowed_S][order], list[tuple[int, ...]]()
        # The best network, then the best of another network: one is forbidden wherever it is placed.
        for _ in range(3):
            own = {tuple(row) for row in forbidden}
            left = [row for row in ranked.tolist() if tuple(row[: table.num_own]) not in own]
            found = problem.select(scores_N, mask_N=mask_N, forbidden=forbidden)
            if not left:
                assert found is None
                break
            assert found is not None
            assert found.indices == tuple(left[0])
            forbidden.append(found.indices[: table.num_own])


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize("name", ["depths", "cells"])
def test_a_network_is_placed_where_it_uses_the_least_of_its_tightest_budget(name: str, index: int) -> None:
    table, generator = placed_table(small_space(name)), np.random.default_rng(4)
    for row in draw(table.space, 5, generator):
        costs_M = table.of(row[None], index)[0]
        problem = BudgetProblem(
            table, table.device_names[index], {"latency_ms": float(costs_M[0]), "peak_memory_mb": float(costs_M[3]) / 2}
        )
        placed = problem.with_best_placement(tuple(row.tolist()))
        networks_Sn, _ = placed_networks(table, index, 1, generator)
        networks_Sn[:, : table.num_own] = row[: table.num_own]
        shares_S = (table.of(networks_Sn, index) / problem.limits_M).max(axis=1)
        assert placed[: table.num_own] == tuple(row[: table.num_own])
        assert max(problem.utilisation(placed).values()) == pytest.approx(shares_S.min(), rel=1e-9)


def test_networks_stay_where_they_are_on_a_device_of_one_unit() -> None:
    table = placed_table(small_space("depths"))
    row = tuple([0] * len(table.space.decisions))
    assert BudgetProblem(table, PLAIN.name, {"latency_ms": 1.0}).with_best_placement(row) == row


@pytest.mark.parametrize("name", SPACES)
def test_the_certified_placement_is_never_slower_than_the_segments(name: str) -> None:
    table = placed_table(narrow_space(name))
    for row in draw(table.space, 12, np.random.default_rng(5)):
        for index in (1, 2):
            costs = table.named(row.tolist(), index)
            for limits in ({"latency_ms": 1e3}, {"latency_ms": 1e3, "peak_memory_mb": costs["peak_memory_mb"]}):
                problem = BudgetProblem(table, table.device_names[index], limits)
                placed = place(problem, row.tolist())
                assert placed.costs["latency_ms"] <= costs["latency_ms"] * (1 + 1e-9)
                if "peak_memory_mb" in limits:
                    assert placed.costs["peak_memory_mb"] <= limits["peak_memory_mb"] * (1 + 1e-9)
                else:
                    fastest = fastest_placement(table.devices[index], placed.chain)
                    assert fastest is not None
                    assert placed.costs["latency_ms"] == pytest.approx(fastest.latency_ms, rel=1e-9)


def specialists() -> HardwareProfile:
    """A phone that is good at one kind of operation and a server at all others, almost without a way between."""
    phone, server = roofline(1.0, gb_per_s=50.0), roofline(1.0, gb_per_s=50.0)
    phone["kinds"]["pointwise"]["throughput_gops"] = 100.0
    server["kinds"]["depthwise"]["throughput_gops"] = server["kinds"]["dense"]["throughput_gops"] = 100.0
    units = {"phone": unit(phone), "server": unit(server, remote=True)}
    return device("specialists", units, {"air": wireless(1e9, 0.0, 8)}, entry="phone")


@pytest.mark.parametrize("name", SPACES)
def test_the_recount_finds_the_memory_of_the_device_on_the_module(name: str) -> None:
    table = CostTable(narrow_space(name), [specialists()])
    problem = BudgetProblem(table, "specialists", {"latency_ms": 1e3})
    num_mixed = 0
    for row in draw(table.space, 12, np.random.default_rng(6)):
        network = table.space.network(table.space.choices(row)).eval()
        certificate = certify(problem, table.space, network, tuple(row.tolist()))
        assert certificate.recounted["peak_memory_mb"] == pytest.approx(certificate.predicted["peak_memory_mb"])
        assert certificate.recounted["gflops"] == pytest.approx(certificate.predicted["gflops"])
        assert certificate.refuted_by is None
        assert certificate.placement is not None
        num_mixed += len(certificate.placement) > 2
        listed = [notation for stay in certificate.placement for notation in stay["operations"]]
        chain, _ = network_chain(table.space, table.space.choices(row))
        assert listed == [op.notation for op in chain.operations]
        everywhere = placed_costs(table.devices[0], chain, ["phone"] * len(chain.operations))["peak_memory_mb"]
        assert certificate.recounted["peak_memory_mb"] < everywhere
    assert num_mixed >= 3


def test_all_memory_counts_of_a_module_that_is_not_the_network_that_was_placed() -> None:
    table = placed_table(small_space("depths"))
    smallest, largest = ([k * (len(d.choices) - 1) for d in table.space.decisions] for k in (0, 1))
    problem = BudgetProblem(table, "split_phone_server", {"latency_ms": 1e3, "peak_memory_mb": 0.5})
    network = table.space.network(table.space.choices(largest)).eval()
    certificate = certify(problem, table.space, network, tuple(smallest))
    plain = BudgetProblem(table, PLAIN.name, {"latency_ms": 1e3})
    whole = certify(plain, table.space, network, tuple(smallest))
    assert certificate.recounted["peak_memory_mb"] == pytest.approx(whole.recounted["peak_memory_mb"])
    assert certificate.refuted_by == "peak_memory_mb"


def test_a_placed_space_computes_and_writes_the_networks_of_the_space_below() -> None:
    base = narrow_space("nasbench201")
    space = placed_table(base).space
    row = draw(space, 1, np.random.default_rng(7))[0]
    choices = space.choices(row)
    torch.manual_seed(0)
    supernet, x = space.supernet().eval(), torch.randn(2, *base.deploy_shape)
    with torch.no_grad():
        inside = supernet(x, space.selection(row))
        assert torch.allclose(inside, supernet.extract(choices)(x), atol=1e-5)
        weights = one_hot(space, row, torch.float32)
        assert torch.allclose(inside, supernet(x, weights), atol=1e-5)
    below, own = unplaced(space, choices)
    assert below is base
    assert space.notation(choices) == base.notation(own)
    assert space.spec() == base.spec()
    assert unplaced(base, own) == (base, own)


def test_a_choice_that_goes_goes_from_the_supernet_below() -> None:
    space = placed_table(narrow_space("nasbench201")).space
    supernet: Any = space.supernet()
    supernet.restrict({"edge01": (0, 1)})
    assert supernet.base.active["edge01"] == (0, 1)


def test_memory_that_no_placement_meets_is_infeasible_with_what_is_reachable() -> None:
    table = placed_table(small_space("depths"))
    with pytest.raises(BudgetInfeasibleError):
        BudgetProblem(table, "split_phone_server", {"peak_memory_mb": 1e-6}).start()


def test_a_margin_of_the_point_holds_budgets_against_the_estimate() -> None:
    table = placed_table(small_space("depths"))
    bound = PLAIN.bound
    assert bound is not None and bound.factor > 1
    row = np.array([0] * len(table.space.decisions))
    cost = table.named(row.tolist(), 0)["latency_ms"]
    limits = {"latency_ms": cost * (1 + bound.factor) / 2}
    upper, point = (BudgetProblem(table, PLAIN.name, limits, margin=margin) for margin in ("upper", "point"))  # type: ignore[arg-type]
    assert not upper.is_feasible(row[None])[0]
    assert point.is_feasible(row[None])[0]
    assert point.utilisation(row.tolist()) == {"latency_ms": pytest.approx(2 / (1 + bound.factor))}
    assert upper.held("latency_ms", cost) == pytest.approx(cost * bound.factor)
    assert point.held("latency_ms", cost) == cost
    assert point.tightened("latency_ms", largest_total=0.5).margin == "point"
    network = table.space.network(table.space.choices(row)).eval()
    refuted = [certify(problem, table.space, network, tuple(row.tolist())).refuted_by for problem in (upper, point)]
    assert refuted == ["latency_ms", None]
    # A measurement decides whatever the margin: no network of this size takes ten seconds.
    problem = BudgetProblem(table, PLAIN.name, {"latency_ms": 1e4}, margin="point")
    problem.limits_M[0] = 1e-9
    clock = partial(time_module, inputs=table.space.inputs)
    assert certify(problem, table.space, network, tuple(row.tolist()), clock=clock).refuted_by is None


def test_a_space_without_segments_cannot_be_placed() -> None:
    space = MobileSpace(**small_space("depths").spec())
    space.segments = ()
    assert CostTable(space, [PLAIN]).space is space
    with pytest.raises(InvalidInputError):
        CostTable(space, [PLAIN, chip()])


def test_the_margin_of_the_configuration_reaches_every_problem(tmp_path: Path) -> None:
    for margin in ("upper", "point"):
        plan = prepare(tiny_config(tmp_path, *MOBILE_SPACE, "hardware=[mid_tablet,iot_terminal]", f"margin={margin}"))
        assert [problem.margin for problem in plan.problems] == [margin, margin]


def test_units_of_a_composed_configuration_are_set_by_key() -> None:
    content = composed("hardware=[split_phone_server]", "hardware.split_phone_server.links.wireless.mbit_per_s=7.5")
    assert validate(content).hardware["split_phone_server"]["links"]["wireless"]["mbit_per_s"] == 7.5
    assert unit_decision("split_phone_server", "stem") == "split_phone_server.stem.unit"
