"""How far a search is over all its phases, and how long the rest of it takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

SCORING, TRAINING, CHOOSING, ADAPTING, CERTIFYING = "scoring", "training", "choosing", "adapting", "certifying"
SECONDS_PER_PASS = 1e-3  # of one image forwards, before any is timed: the default search on one core of a server


@dataclass(frozen=True)
class Phase:
    """A part of a search: `done` of `total` units, `timed` of which took `seconds` in this process.

    A unit takes about as long as `passes` of one image forwards.
    """

    name: str
    unit: str
    total: int
    passes: float
    done: int = 0
    timed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Now:
    """A search at one moment: its phase, the share of all its work that is done, seconds since it began, and left.

    It is `measured` if some units of each phase that is not over were timed, else the time left is a guess.
    """

    phase: Phase
    share: float
    elapsed_s: float
    left_s: float
    measured: bool


def seconds_per_unit(phases: Sequence[Phase]) -> list[float]:
    """Of each phase: as measured; until some units are timed, its passes at the pace of the phases that were."""
    timed = [phase for phase in phases if phase.timed]
    passes = sum(phase.timed * phase.passes for phase in timed)
    pace_s = sum(phase.seconds for phase in timed) / passes if passes else SECONDS_PER_PASS
    return [phase.seconds / phase.timed if phase.timed else pace_s * phase.passes for phase in phases]


def now(phases: Sequence[Phase], current: int, *, elapsed_s: float) -> Now:
    """How far a search is that is at the phase of this number."""
    costs = seconds_per_unit(phases)
    left_s = sum(cost * (phase.total - phase.done) for cost, phase in zip(costs, phases, strict=True))
    done_s = sum(cost * phase.done for cost, phase in zip(costs, phases, strict=True))
    share = done_s / (done_s + left_s) if done_s + left_s else 1.0
    measured = all(phase.timed for phase in phases if phase.done < phase.total)
    return Now(phases[current], share, elapsed_s, left_s, measured)


class Progress:
    """Follows a search through its phases, which may come in turns, and gives `show` each step of it."""

    def __init__(
        self,
        phases: Sequence[Phase],
        show: Callable[[Now], object] = lambda now: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.phases, self._show, self._clock = list(phases), show, clock
        self._places = {phase.name: place for place, phase in enumerate(phases)}
        self._current, self._runs = 0, False
        self._began = self._since = clock()

    @property
    def now(self) -> Now:
        return now(self.phases, self._current, elapsed_s=self._clock() - self._began)

    def enter(self, name: str, *, done: int = 0) -> None:
        """Goes on with a phase, of which an earlier attempt has `done` some units; one without units takes no time."""
        self._count(0)
        self._runs = name in self._places
        if self._runs:
            self._current = self._places[name]
            if done:
                self._replace(done=done)
            self._show(self.now)

    def advance(self, units: int = 1) -> None:
        """So many more units of the current phase are done; there may be more than were expected."""
        self._count(units)
        if self._runs:
            self._show(self.now)

    def skip(self, name: str, units: int) -> None:
        """A phase has so many units less to do than was expected."""
        if name in self._places:
            place = self._places[name]
            phase = self.phases[place]
            self.phases[place] = replace(phase, total=max(phase.done, phase.total - units))

    def end(self) -> None:
        """The current phase has no more units."""
        self._count(0)
        if self._runs:
            self._replace(total=self.phases[self._current].done)
        self._runs = False

    def _count(self, units: int) -> None:
        moment = self._clock()
        if self._runs:
            phase = self.phases[self._current]
            done, seconds = phase.done + units, phase.seconds + moment - self._since
            self._replace(done=done, total=max(phase.total, done), timed=phase.timed + units, seconds=seconds)
        self._since = moment

    def _replace(self, **changes: float) -> None:
        self.phases[self._current] = replace(self.phases[self._current], **changes)  # type: ignore[arg-type]


def progress_line(moment: Now) -> str:
    """`choosing 3/9 networks  62%  1:12 so far, about 0:40 left`"""
    return f"{counted_words(moment)}  {moment.share:.0%}  {duration(moment.elapsed_s)} so far, {left_words(moment)}"


def counted_words(moment: Now) -> str:
    phase = moment.phase
    return f"{phase.name} {phase.done}/{phase.total} {phase.unit}"


def left_words(moment: Now) -> str:
    return f"{'' if moment.measured else 'about '}{duration(moment.left_s)} left"


def duration(seconds: float) -> str:
    """Minutes and seconds, as 1:05; with hours from an hour on, as 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
