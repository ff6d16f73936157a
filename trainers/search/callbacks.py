"""What others do with a search while it runs and when it ends: reports, loggers, the pruner of a study."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.runs.config import SearchConfig
from trainers.runs.exit_status import ExitStatus

Report = Callable[[str], None]
Row = Mapping[str, Any]


class SearchCallback:
    """Hooks of a search, each of which does nothing here. Nothing that they do changes the result.

    `config.run_folder` holds everything that a hook may need. A hook may raise to end the search; in `on_end` and
    `on_finished` that is reported, and the others are called nevertheless.
    """

    what: str  # that a user is told of when `on_end` or `on_finished` fails

    def on_start(self, config: SearchConfig, report: Report, *, resumed: bool) -> None:
        """Before training; `resumed` if earlier attempts at the same run went before."""

    def on_epoch(self, rows: Sequence[Row]) -> None:
        """After each epoch, with all rows of metrics.csv up to now, those of earlier attempts too."""

    def on_end(self, folder: Path, status: ExitStatus, *, measured: bool) -> None:
        """After status.json says how the search has ended. `measured` if a device of it is at hand."""

    def on_finished(self, config: SearchConfig, result: Mapping[str, Any], report: Report) -> None:
        """When a search is asked for that has finished before: what its process had no time left for."""

    def knows_infeasible(self, config: SearchConfig) -> bool:
        """Whether nothing is left to do for a search that an earlier attempt found infeasible."""
        return True
