"""A search with all that its users meet: the report, the logger of its configuration, and the study of a trial."""

from collections.abc import Sequence

from trainers.cli.command import has_bar
from trainers.loggers.alerts import epoch_alerts
from trainers.loggers.base import LocalRunLogger, RunLogger, RunRecord, SteadyRunLogger, check_logger, make_logger
from trainers.loggers.identity import is_published, keep_published
from trainers.runs.config import SearchConfig
from trainers.runs.exit_status import ExitStatus, status_with
from trainers.runs.files import finite
from trainers.runs.metric_names import STEP
from trainers.runs.result import Result
from trainers.runs.state import FINISHED
from trainers.search.callbacks import Report, Row, SearchCallback
from trainers.search.identification import identified
from trainers.search.run import FROM_PYTHON, run
from trainers.search.verdict import REPORT


def run_search(config: SearchConfig, report: Report, *, command: str = FROM_PYTHON) -> Result:
    """The result of a search, as `trainers.search.run.run` gives it, after its report and its logger.

    Raises: as `identified`, and as that.
    """
    return run_identified(identified(config, report=report), report, command=command)


def run_identified(config: SearchConfig, report: Report, *, command: str) -> Result:
    """As `run_search`, of a configuration that says what its figures come from."""
    callbacks: list[SearchCallback] = [WriteReport(config), LogRun(config, report)]
    if config.trial is not None:
        callbacks.append(ReportToStudy(config))
    return run(config, report, command=command, callbacks=callbacks, bar=has_bar())


class WriteReport(SearchCallback):
    """`report.html` in the run folder, however the search ends."""

    what = REPORT

    def __init__(self, config: SearchConfig) -> None:
        self.folder = config.run_folder

    def on_end(self, status: ExitStatus, *, measured: bool) -> None:
        from trainers.reports.report import write_report  # needs matplotlib, which takes a second to import

        write_report(self.folder)

    def on_finished(self, result: Result) -> None:
        if not (self.folder / REPORT).exists():
            self.on_end(status_with(result.status), measured=False)


class LogRun(SearchCallback):
    """Sends metrics, alerts and the result to the logger of the section `logger`."""

    what = "the logger's copy of the result"

    def __init__(self, config: SearchConfig, report: Report) -> None:
        check_logger(config.logger, tags=config.tags)
        self.config, self.report = config, report
        self.logger: RunLogger = LocalRunLogger(None, self.record, report)
        self.num_rows = 0

    @property
    def record(self) -> RunRecord:
        config = self.config
        content = config.model_dump(mode="json")
        return RunRecord(config.run_key, config.sweep, "search", tuple(config.tags), content, config.run_folder)

    def on_start(self) -> None:
        self.logger = make_logger(self.config.logger, self.record, self.report)

    def on_epoch(self, rows: Sequence[Row]) -> None:
        for row in rows[self.num_rows :]:  # in a first epoch, those of earlier attempts too
            self.logger.metrics(int(row[STEP]), finite(row))
        self.num_rows = len(rows)
        for title, text in epoch_alerts(rows[-2] if len(rows) > 1 else None, rows[-1]):
            self.logger.alert(title, text)

    def on_end(self, status: ExitStatus, *, measured: bool) -> None:
        try:
            if status.state in ("infeasible", "interrupted"):
                self.logger.alert(status.state, str(status.reason))
            if status.state in FINISHED and isinstance(self.logger, SteadyRunLogger):
                from trainers.reports.publish import publish_result  # draws too

                publish_result(self.logger, self.config.run_folder)
        finally:
            self.logger.finish(status.exit_code)
        is_whole = status.state in FINISHED or (status.state == "infeasible" and not measured)
        if is_whole and isinstance(self.logger, SteadyRunLogger) and not self.logger.has_failed:
            keep_published(self.config.run_folder, self.config.logger["name"])

    def on_finished(self, result: Result) -> None:
        """Logs a finished run, alerts and all, unless it is logged.

        It is not if its process was killed at its very end, if it was logged elsewhere, or if a W&B sweep asks for it
        once more.
        """
        if self.knows_infeasible():
            return
        from trainers.reports.publish import epochs, own_run

        rows = epochs(own_run(self.config.run_folder))
        self.on_start()
        for number in range(1, len(rows) + 1):
            self.on_epoch(rows[:number])
        self.on_end(status_with(result.status), measured=False)

    def knows_infeasible(self) -> bool:
        name = self.config.logger["name"]
        return name == "local" or is_published(self.config.run_folder, name)


class ReportToStudy(SearchCallback):
    """Reports the metric of each epoch to the study that the search is a trial of, whose pruner may end it."""

    what = "the study"

    def __init__(self, config: SearchConfig) -> None:
        from trainers.tuning.trial import watcher  # needs optuna

        assert config.trial is not None
        self.watch = watcher(**config.trial.model_dump())

    def on_epoch(self, rows: Sequence[Row]) -> None:
        self.watch(rows[-1])
