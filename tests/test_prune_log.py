"""The pruning log: what it writes, replayed, is what was left."""

from pathlib import Path

import numpy as np
import pytest
from spaces import cost_table, small_space

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import METRICS
from search_spaces.errors import InvalidInputError
from search_spaces.space import Choice
from trainers.search.prune_log import COLUMNS, prune_rows, replay, replay_network, write_prune_log
from trainers.search.search_state import PruneRecord

SPACE = small_space("depths")
TABLE = cost_table(SPACE)


def pruned() -> tuple[list[PruneRecord], dict[str, Survivors]]:
    """Two devices, pruned in turn until their budgets hold."""
    generator, records, left = np.random.default_rng(0), [], {}
    for share, device in zip((0.5, 0.8), TABLE.device_names, strict=True):
        worst_M = TABLE.worst(np.ones(SPACE.num_choices, dtype=bool), TABLE.device(device))
        problem = BudgetProblem(TABLE, device, {"gflops": share * float(worst_M[METRICS.index("gflops")])})
        survivors, removals = problem.start()
        survivors, more = problem.prune(survivors, generator.normal(size=SPACE.num_choices), np.ones(len(METRICS)))
        records += [PruneRecord(0, device, removal) for removal in removals]
        records += [PruneRecord(7, device, removal) for removal in more]
        left[device] = survivors
    return records, left


def derived_from(left: dict[str, Survivors]) -> dict[str, dict[str, Choice]]:
    return {device: SPACE.choices(survivors.incumbent) for device, survivors in left.items()}


def test_replayed_removals_leave_the_masks_of_the_search(tmp_path: Path) -> None:
    records, left = pruned()
    path = tmp_path / "prune.csv"
    write_prune_log(path, prune_rows(records, SPACE, derived_from(left), last_step=9))
    masks = [replay(path, SPACE, device, reasons=("presolve", "budget")) for device in left]
    for mask_N, survivors in zip(masks, left.values(), strict=True):
        assert np.array_equal(mask_N, survivors.mask_N)
        assert not mask_N.all()
    assert not np.array_equal(*masks)


def test_the_whole_log_leaves_the_derived_networks(tmp_path: Path) -> None:
    records, left = pruned()
    path, derived = tmp_path / "prune.csv", derived_from(left)
    write_prune_log(path, prune_rows(records, SPACE, derived, last_step=9))
    assert {device: replay_network(path, SPACE, device) for device in left} == derived


def test_a_network_that_was_found_for_another_device_brings_its_choices_back(tmp_path: Path) -> None:
    records, left = pruned()
    gone = records[-1]
    found = SPACE.choices(left[gone.device].incumbent) | {gone.removal.decision: gone.removal.choice}
    path, derived = tmp_path / "prune.csv", derived_from(left) | {gone.device: found}
    write_prune_log(path, prune_rows(records, SPACE, derived, last_step=9))
    assert {device: replay_network(path, SPACE, device) for device in left} == derived
    mask_N = replay(path, SPACE, gone.device, reasons=("presolve", "budget"))
    assert np.array_equal(mask_N, left[gone.device].mask_N)


def test_every_choice_goes_once_at_its_step_and_for_a_reason() -> None:
    records, left = pruned()
    rows = prune_rows(records, SPACE, derived_from(left), last_step=9)
    for device in left:
        mine = [row for row in rows if row["device"] == device]
        assert len({(row["decision"], row["choice"]) for row in mine}) == len(mine)
        assert len(mine) == SPACE.num_choices - len(SPACE.decisions)
    assert {(row["step"], row["reason"]) for row in rows} <= {(0, "presolve"), (7, "budget"), (9, "validation")}


def write_rows(folder: Path, *lines: str) -> Path:
    """A pruning log in which `lines` (decision,choice) go from the device `phone`."""
    path = folder / "prune.csv"
    rows = [dict(zip(("decision", "choice"), line.split(","), strict=True)) for line in lines]
    write_prune_log(path, [{"step": 1, "device": "phone", "reason": "budget", **row} for row in rows])
    return path


def test_prune_log_has_the_columns_of_its_format(tmp_path: Path) -> None:
    header = write_rows(tmp_path, "resolution,96").read_text().splitlines()[0]
    assert header == ",".join(COLUMNS)
    assert header.startswith("step,device,decision,choice,logit,saved_latency_ms,")


def test_rows_of_other_devices_are_left_alone(tmp_path: Path) -> None:
    assert replay(write_rows(tmp_path, "resolution,96"), SPACE, "tablet").all()
    assert list(np.flatnonzero(~replay(write_rows(tmp_path, "resolution,96"), SPACE, "phone"))) == [0]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (("resolution,96", "resolution,96"), "resolution = 96"),
        (("resolution,97",), "resolution = 97"),
        (("stage9.depth,1",), "stage9.depth = 1"),
    ],
)
def test_row_that_repeats_or_names_what_is_unknown_is_refused(
    lines: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        replay(write_rows(tmp_path, *lines), SPACE, "phone")
    assert named in str(refused.value)


def test_prune_log_that_leaves_more_than_one_network_names_the_open_decisions(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as refused:
        replay_network(write_rows(tmp_path, "resolution,96", "resolution,128"), SPACE, "phone")
    assert "'stage4.depth'" in str(refused.value) and "'resolution'" not in str(refused.value)
