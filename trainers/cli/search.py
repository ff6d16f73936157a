"""A search with all that its users meet: the report, the logger of its configuration, and the study of a trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.loggers.alerts import epoch_alerts
from trainers.loggers.identity import follower, is_published
from trainers.loggers.logger import LocalTracker, RunRecord, SteadyTracker, Tracker, make_tracker
from trainers.loggers.logger_config import check_logger
from trainers.runs.config import SearchConfig
from trainers.runs.exit_status import EXIT_CODES, ExitStatus
from trainers.runs.files import finite
from trainers.runs.metric_names import STEP
from trainers.runs.state import FINISHED
from trainers.search.callbacks import Report, Row, SearchCallback
from trainers.search.console import REPORT
from trainers.search.run import FROM_PYTHON, run


def run_search(config: SearchConfig, report: Report, *, command: str = FROM_PYTHON) -> dict[str, Any]:
    """The content of result.json of a search, as `trainers.search.run.run` gives it, after its report and its logger.

    Raises: as that.
    """
    callbacks: list[SearchCallback] = [WriteReport(), Log(config)]
    if config.trial is not None:
        callbacks.append(ReportToStudy(config))
    return run(config, report, command=command, callbacks=callbacks)


class WriteReport(SearchCallback):
    """`report.html` in the run folder, however the search ends."""

    what = REPORT

    def on_end(self, folder: Path, status: ExitStatus, *, measured: bool) -> None:
        from trainers.reports.report import write_report  # needs matplotlib, which takes a second to import

        write_report(folder)

    def on_finished(self, config: SearchConfig, result: Mapping[str, Any], report: Report) -> None:
        if not (config.run_folder / REPORT).exists():
            self.on_end(config.run_folder, ExitStatus(result["status"], None, 0), measured=False)


class Log(SearchCallback):
    """The logger of the section `logger`: rows of metrics, alerts, and the result when there is one."""

    what = "the logger's copy of the result"

    def __init__(self, config: SearchConfig) -> None:
        check_logger(config.logger, tags=config.tags)
        self.tracker: Tracker = LocalTracker()
        self.num_rows = 0

    def on_start(self, config: SearchConfig, report: Report, *, resumed: bool) -> None:
        self.tracker = make_tracker(config.logger, _record(config, resumed=resumed), report)

    def on_epoch(self, rows: Sequence[Row]) -> None:
        for row in rows[self.num_rows :]:  # those of earlier attempts too: it leaves out what it has
            self.tracker.metrics(row[STEP], finite(row))
        self.num_rows = len(rows)
        for title, text in epoch_alerts(rows[-2] if len(rows) > 1 else None, rows[-1]):
            self.tracker.alert(title, text)

    def on_end(self, folder: Path, status: ExitStatus, *, measured: bool) -> None:
        try:
            if status.state in ("infeasible", "interrupted"):
                self.tracker.alert(status.state, str(status.reason))
            if status.state == "infeasible" and isinstance(self.tracker, SteadyTracker):
                self.tracker.is_complete = not measured
            if status.state in FINISHED and not isinstance(self.tracker, LocalTracker):
                from trainers.reports.publish import publish_result  # draws too

                publish_result(self.tracker, folder)
        finally:
            self.tracker.finish(status.exit_code)

    def on_finished(self, config: SearchConfig, result: Mapping[str, Any], report: Report) -> None:
        if config.logger["name"] == "local":
            return
        from trainers.reports.publish import publish_if_missing

        exit_code = EXIT_CODES[result["status"]]
        publish_if_missing(config.logger, _record(config, resumed=True), report, exit_code=exit_code)

    def knows_infeasible(self, config: SearchConfig) -> bool:
        name = config.logger["name"]
        return name == "local" or is_published(config.run_folder, follower(name))


class ReportToStudy(SearchCallback):
    """The metric of each epoch, for the study that the search is a trial of, whose pruner may end it."""

    what = "the study"

    def __init__(self, config: SearchConfig) -> None:
        from trainers.tuning.trial import watcher  # needs optuna

        assert config.trial is not None
        self.watch = watcher(**config.trial.model_dump())

    def on_epoch(self, rows: Sequence[Row]) -> None:
        self.watch(rows[-1])


def _record(config: SearchConfig, *, resumed: bool) -> RunRecord:
    return RunRecord(
        name=config.run_key,
        group=config.sweep,
        job_type="search",
        tags=tuple(config.tags),
        config=config.model_dump(mode="json"),
        folder=config.run_folder,
        resumed=resumed,
    )
