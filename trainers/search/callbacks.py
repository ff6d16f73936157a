"""What others do with a search while it runs and when it ends: reports, loggers, the pruner of a study."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainers.runs.exit_status import ExitStatus
from trainers.runs.result import Result

Report = Callable[[str], None]
Row = Mapping[str, Any]


class SearchCallback:
    """Hooks of one search, each of which does nothing here. Nothing that they do changes the result.

    A hook may raise to end the search; in `on_end` and `on_finished` that is reported, and the others are called
    nevertheless.
    """

    what: str  # that is reported as missing when `on_end` or `on_finished` fails

    def on_start(self) -> None:
        """Before training; earlier attempts at the same run may have gone before."""

    def on_epoch(self, rows: Sequence[Row]) -> None:
        """After each epoch, with all rows of metrics.csv up to now, those of earlier attempts too."""

    def on_end(self, status: ExitStatus, *, measured: bool) -> None:
        """After status.json says how the search has ended. `measured` if one of its devices can be measured here."""

    def on_finished(self, result: Result) -> None:
        """When a search is asked for that has finished before: does what its process had no time left for."""

    def knows_infeasible(self) -> bool:
        """Whether nothing is left to do for a search that an earlier attempt found infeasible."""
        return True
