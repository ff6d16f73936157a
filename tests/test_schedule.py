"""When a search prunes."""

import pytest

from trainers.search.module import Schedule


def schedule(steps: int) -> Schedule:
    return Schedule(steps, warmup_share=0.2, arch_every=2, prune_events=8, prune_from=0.5, prune_to=0.9)


def test_events_come_in_equal_intervals() -> None:
    due = {step: event for step in range(1, 101) if (event := schedule(100).prune_event(step))}
    assert due == {55: 1, 60: 2, 65: 3, 70: 4, 75: 5, 80: 6, 85: 7, 90: 8}


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 16, 33])
def test_a_search_too_short_for_every_event_still_has_the_last_one(steps: int) -> None:
    # Several events fall on one step; the last of them has the tightest cap, and the one of the budgets must come.
    assert schedule(steps).prune_event(max(1, round(steps * 0.9))) == 8
    assert sum(schedule(steps).prune_event(step) == 8 for step in range(1, steps + 1)) == 1
