"""How far a search is over all its phases, with numbers worked out by hand."""

from collections.abc import Callable

import pytest

from trainers.search.display import Lines
from trainers.search.phases import (
    SECONDS_PER_PASS,
    Now,
    Phase,
    Progress,
    duration,
    now,
    progress_line,
    seconds_per_unit,
)

TRAINING, CHOOSING, ADAPTING = (
    Phase("training", "steps", 100, 4.0),
    Phase("choosing", "networks", 6, 50.0),
    Phase("adapting", "steps", 30, 10.0),
)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_before_anything_is_timed_units_take_their_passes_at_a_first_guess() -> None:
    assert seconds_per_unit([TRAINING, CHOOSING]) == [4 * SECONDS_PER_PASS, 50 * SECONDS_PER_PASS]
    moment = now([TRAINING, CHOOSING], 0, elapsed_s=0.0)
    assert moment.left_s == pytest.approx((100 * 4 + 6 * 50) * SECONDS_PER_PASS)
    assert (moment.share, moment.measured) == (0.0, False)


def test_what_was_timed_sets_the_pace_of_what_was_not() -> None:
    # 20 steps of 4 passes took 40 s: 2 s a step, half a second a pass, so 25 s a network and 5 s a step of adapting.
    timed = Phase("training", "steps", 100, 4.0, done=20, timed=20, seconds=40.0)
    assert seconds_per_unit([timed, CHOOSING, ADAPTING]) == [2.0, 25.0, 5.0]
    moment = now([timed, CHOOSING, ADAPTING], 0, elapsed_s=41.0)
    assert moment.left_s == 80 * 2 + 6 * 25 + 30 * 5  # 460
    assert moment.share == pytest.approx(40 / 500)
    assert not moment.measured


def test_time_left_is_measured_once_each_phase_that_is_not_over_was_timed() -> None:
    over = Phase("training", "steps", 100, 4.0, done=100)  # by an earlier attempt, so not timed
    timed = Phase("choosing", "networks", 6, 50.0, done=2, timed=2, seconds=8.0)
    moment = now([over, timed], 1, elapsed_s=8.0)
    assert (moment.left_s, moment.measured) == (4 * 4.0, True)
    # The earlier attempt's steps count at the pace of the networks: 8 s for 100 passes, so 0.32 s each.
    assert moment.share == pytest.approx((100 * 0.32 + 8) / (100 * 0.32 + 24))


def test_a_search_that_is_over_has_nothing_left() -> None:
    over = Phase("choosing", "networks", 2, 1.0, done=2, timed=2, seconds=3.0)
    assert now([over], 0, elapsed_s=3.0) == Now(over, 1.0, 3.0, 0.0, True)


def test_time_counts_for_the_phase_that_it_passes_in() -> None:
    clock, shown = Clock(), list[Now]()
    progress = Progress([TRAINING, CHOOSING, ADAPTING], shown.append, clock=clock)
    clock.seconds = 5.0  # of preparing, which no phase takes
    progress.enter("training", done=90)  # resumed
    assert shown[-1].phase.done == 90
    for _ in range(10):
        clock.seconds += 2.0
        progress.advance()
    progress.end()
    clock.seconds += 1.0
    progress.enter("choosing")
    clock.seconds += 6.0
    progress.advance(2)
    progress.end()  # the others were the same networks
    progress.enter("adapting")
    clock.seconds += 3.0
    progress.enter("certifying")  # which has nothing to do
    clock.seconds += 100.0
    progress.enter("adapting")
    progress.advance(30)
    phases = {phase.name: (phase.done, phase.total, phase.seconds) for phase in progress.phases}
    assert phases == {"training": (100, 100, 20.0), "choosing": (2, 2, 6.0), "adapting": (30, 30, 3.0)}
    assert (progress.now.share, progress.now.left_s, progress.now.elapsed_s) == (1.0, 0.0, 135.0)


def test_more_units_than_expected_raise_the_total() -> None:
    progress = Progress([CHOOSING], clock=Clock())
    progress.enter("choosing")
    progress.advance(9)
    assert (progress.now.phase.done, progress.now.phase.total) == (9, 9)


def test_units_that_need_not_be_done_leave_the_total_but_not_what_is_done() -> None:
    progress = Progress([CHOOSING, ADAPTING], clock=Clock())
    progress.enter("choosing", done=4)
    progress.skip("choosing", 5)
    progress.skip("adapting", 10)
    progress.skip("scoring", 10)  # of which there is nothing to do
    assert [(phase.done, phase.total) for phase in progress.phases] == [(4, 4), (0, 20)]


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (3725, "1:02:05")])
def test_durations_are_read_as_on_a_clock(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("measured", "left"), [(True, "0:40 left"), (False, "about 0:40 left")])
def test_the_line_says_how_far_and_whether_the_time_left_is_a_guess(measured: bool, left: str) -> None:
    phase = Phase("choosing", "networks", 9, 1.0, done=3)
    assert progress_line(Now(phase, 0.62, 72.0, 40.0, measured)) == f"choosing 3/9 networks  62%  1:12 so far, {left}"


def test_without_a_terminal_a_line_comes_after_so_many_seconds_of_silence() -> None:
    clock, lines = Clock(), list[str]()
    shown = Lines(lines.append, seconds=10.0, clock=clock)
    moment = Now(CHOOSING, 0.5, 1.0, 1.0, True)
    report_at: dict[float, Callable[[], None]] = {4.0: lambda: shown.report("epoch 1/2")}
    for second in range(26):
        clock.seconds = float(second)
        report_at.get(clock.seconds, lambda: None)()
        shown.show(moment)
    assert lines == ["epoch 1/2", progress_line(moment), progress_line(moment)]  # at 4, 14 and 24 s
