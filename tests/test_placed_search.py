"""Whole searches for devices of several units: budgets of a split network, and the unit of every operation."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_search import MOBILE_SPACE, tiny_config
from unit_profiles import with_units

from hardware_models.infeasible import BudgetInfeasibleError
from hardware_models.placement.chain import network_chain, placed_costs
from search_spaces.architecture import SPACES, read_architecture
from trainers.cli.search import run_search
from trainers.search.plan import prepare

LATENCY_MS, MEMORY_MB = 5.5, 0.2
SEARCH = (
    *MOBILE_SPACE,
    "hardware=[split_phone_server,mid_tablet]",
    f"hardware.split_phone_server.budgets.latency_ms={LATENCY_MS}",
    f"hardware.split_phone_server.budgets.peak_memory_mb={MEMORY_MB}",
    "hardware.mid_tablet.budgets.latency_ms=15",
    "strategy.pool_size=32",
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, list[str]]:
    lines: list[str] = []
    config = tiny_config(tmp_path_factory.mktemp("runs"), *SEARCH)
    return run_search(config, lines.append).model_dump(), config.run_folder, lines


def test_a_search_with_a_server_ends_within_latency_and_device_memory(searched: Any) -> None:
    result, _, lines = searched
    split, tablet = (result["devices"][name] for name in ("split_phone_server", "mid_tablet"))
    assert result["status"] == "done" and split["met"] and tablet["met"]
    assert split["predicted"]["latency_ms"] <= LATENCY_MS
    assert split["recounted"]["peak_memory_mb"] <= MEMORY_MB * (1 + 1e-6)
    assert split["recounted"]["peak_memory_mb"] == pytest.approx(split["predicted"]["peak_memory_mb"])
    assert max(split["utilisation"].values()) <= 1
    assert tablet["placement"] is None
    assert any("phone (" in line and "server (" in line for line in lines)
    assert any("of unknown error: the server and the link are assumed" in line for line in lines)


def test_a_search_tells_the_use_of_a_split_budget_once_by_the_certified_placement(searched: Any) -> None:
    # It was once reported by the segments in one line and by the operations, which run faster, in the verdict.
    result, _, lines = searched
    used = max(result["devices"]["split_phone_server"]["utilisation"].values())
    [line] = [line for line in lines if line.startswith("split_phone_server: inherited")]
    assert line.endswith(f"uses {used:.0%} of its binding budget")
    split = result["devices"]["split_phone_server"]
    assert split["notation"] not in [lost["notation"] for lost in split["larger_candidates_that_lost"] or []]


def test_the_result_lists_the_unit_of_every_operation_of_the_architecture(searched: Any) -> None:
    result, folder, _ = searched
    split = result["devices"]["split_phone_server"]
    architecture = read_architecture(folder / split["architecture"])
    assert not any("unit" in name for name in architecture.choices)
    space = SPACES[architecture.space](**architecture.spec)
    chain, _ = network_chain(space, architecture.choices)
    listed = [(stay["unit"], notation) for stay in split["placement"] for notation in stay["operations"]]
    assert [notation for _, notation in listed] == [op.notation for op in chain.operations]
    assert {unit_name for unit_name, _ in listed} == {"phone", "server"}
    profile = with_units("split_phone_server")
    costs = placed_costs(profile, chain, [unit_name for unit_name, _ in listed])
    assert costs == pytest.approx(split["predicted"], rel=1e-9)
    assert json.loads((folder / "result.json").read_text())["devices"]["split_phone_server"] == split


def test_the_same_search_held_against_the_estimate_says_so(tmp_path: Path) -> None:
    overrides = [*MOBILE_SPACE, "hardware=[iot_terminal]", "strategy.pool_size=32"]
    [problem] = prepare(tiny_config(tmp_path, *overrides)).problems
    # Below what the bound of any network allows, above what the estimate of one does.
    limit_ms = problem.reachable()["latency_ms"] * 0.95
    budget = f"hardware.iot_terminal.budgets.latency_ms={limit_ms}"
    with pytest.raises(BudgetInfeasibleError, match="latency_ms"):
        run_search(tiny_config(tmp_path, *overrides, budget), lambda line: None)
    lines: list[str] = []
    result = run_search(tiny_config(tmp_path, *overrides, budget, "margin=point"), lines.append).model_dump()
    terminal = result["devices"]["iot_terminal"]
    assert terminal["met"] and terminal["margin"] == "point"
    assert terminal["predicted"]["latency_ms"] <= limit_ms < terminal["upper"]["latency_ms"]
    assert any("checked against the estimate" in line for line in lines)
