"""How far a search is, as its user sees it: a bar on a terminal, else a line now and then."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from trainers.search.callbacks import Report
from trainers.search.phases import Now, counted_words, duration, left_words, progress_line

SILENT_SECONDS = 10.0  # after which a line says how far the search is


class Display(ABC):
    """Shows how far a search is, among the lines that it reports, while it is entered."""

    @abstractmethod
    def report(self, line: str) -> None: ...

    @abstractmethod
    def show(self, moment: Now) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


class Lines(Display):
    """A line of progress after so many seconds without another line."""

    def __init__(
        self, report: Report, *, seconds: float = SILENT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report, self._seconds, self._clock = report, seconds, clock
        self._last = clock()

    def report(self, line: str) -> None:
        self._report(line)
        self._last = self._clock()

    def show(self, moment: Now) -> None:
        if self._clock() - self._last >= self._seconds:
            self.report(progress_line(moment))


class Bar(Display):
    """One bar at the foot of a terminal, which shows each phase at once; what is reported scrolls by above it."""

    def __init__(self, report: Report) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        def text(words: str) -> TextColumn:
            return TextColumn(words, markup=False)

        columns = (text("{task.description}"), BarColumn(bar_width=None), text("{task.percentage:.0f}%"))
        self._report, self._bar = report, Progress(*columns, text("{task.fields[times]}"), transient=True, expand=True)
        self._task = self._bar.add_task("", total=1.0, times="", visible=False)
        self._phase = ""

    def report(self, line: str) -> None:
        self._report(line)

    def show(self, moment: Now) -> None:
        times = f"{duration(moment.elapsed_s)}, {left_words(moment)}"
        words, begins = counted_words(moment), moment.phase.name != self._phase
        self._phase = moment.phase.name
        self._bar.update(
            self._task, description=words, completed=moment.share, times=times, visible=True, refresh=begins
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
