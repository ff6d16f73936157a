"""What a search has spent computing, over all its attempts."""

import math
import time
from typing import Any

import pytest
from tiny_search import TINY, tiny_config

from trainers.search.module import SearchModule, make_module
from trainers.search.plan import Plan, prepare
from trainers.search.provenance import computed_here
from trainers.search.search_state import SearchState


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return prepare(tiny_config(tmp_path_factory.mktemp("runs"), *TINY))


def attempt(plan: Plan, checkpoint: dict[str, Any] | None = None) -> SearchModule:
    """A training that begins, or goes on from a checkpoint."""
    state = SearchState(plan.problems, [problem.start()[0] for problem in plan.problems], steps=6)
    module = make_module(plan, state, computed_here(plan))
    if checkpoint is not None:
        module.on_load_checkpoint(checkpoint)
    return module


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_resumed_training_counts_all_its_parts_or_says_that_one_was_not_counted(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, is_counted: bool
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])
    checkpoint: dict[str, Any] = {}
    first = attempt(plan)
    clock[0] += 7
    first.on_save_checkpoint(checkpoint)
    clock[0] += 50  # lost: no checkpoint has it
    if not is_counted:
        del checkpoint["search"]["cpu_seconds"]  # as of an earlier version
    clock[0] = 3.0  # of another process
    second = attempt(plan, checkpoint)
    clock[0] += 2
    assert second.cpu_seconds == 9.0 if is_counted else math.isnan(second.cpu_seconds)
    again: dict[str, Any] = {}
    second.on_save_checkpoint(again)
    third = attempt(plan, again)
    clock[0] += 1
    assert third.cpu_seconds == 10.0 if is_counted else math.isnan(third.cpu_seconds)
