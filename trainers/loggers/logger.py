"""The one face that a run shows to whoever follows it: six methods, each tracker a file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.loggers.identity import follower, keep_published
from trainers.loggers.logger_config import (
    CsvConfig,
    LoggerConfig,
    MlflowConfig,
    TensorBoardConfig,
    WandbConfig,
    check_logger,
)

Report = Callable[[str], None]
Cell = str | float | bool | None


@dataclass(frozen=True)
class RunRecord:
    """What a tracker is told of a run at its start.

    `name` is the run's key, `group` its sweep, `job_type` its stage, `config` a plain dictionary; `resumed` says that
    earlier attempts at the same run folder went before.
    """

    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    folder: Path
    resumed: bool


class Tracker(ABC):
    """Follows one run. Nothing that it does changes the run's result."""

    @abstractmethod
    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One row, after `step` updates of weights. A step that was told before, by an earlier attempt, is left out."""

    @abstractmethod
    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None: ...

    @abstractmethod
    def picture(self, name: str, content: bytes | str) -> None:
        """A PNG as bytes, or a stand-alone SVG as text."""

    @abstractmethod
    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        """Files of the run folder, and the names of the artifacts that they were made from."""

    @abstractmethod
    def alert(self, title: str, text: str) -> None: ...

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """The last call of a run, in a `finally`: the exit code of the command, 0 if it has done its work."""


class LocalTracker(Tracker):
    """Nobody follows: the run folder holds everything."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        pass

    def picture(self, name: str, content: bytes | str) -> None:
        pass

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        pass

    def alert(self, title: str, text: str) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass


class SteadyTracker(Tracker):
    """Passes all on to another tracker. When that one fails, it says so once and leaves it: the run goes on.

    Once `is_complete` is set, it calls `delivered` if the other tracker has taken everything to the end of the run.
    """

    def __init__(self, tracker: Tracker, report: Report, *, delivered: Callable[[], None] = lambda: None) -> None:
        self.tracker, self.report, self.delivered = tracker, report, delivered
        self.has_failed = self.is_complete = False

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda: self.tracker.metrics(step, values))

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self._try(lambda: self.tracker.table(name, columns=columns, rows=rows))

    def picture(self, name: str, content: bytes | str) -> None:
        self._try(lambda: self.tracker.picture(name, content))

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        self._try(lambda: self.tracker.artifact(name, kind=kind, files=files, parents=parents))

    def alert(self, title: str, text: str) -> None:
        self._try(lambda: self.tracker.alert(title, text))

    def finish(self, exit_code: int) -> None:
        self._try(lambda: self.tracker.finish(exit_code))
        if self.is_complete and not self.has_failed:
            self._try(self.delivered)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a service raises: hours of a search are worth more than its curves
            self.report(f"the logger failed and is left out from here: {type(error).__name__}: {error}")
            self.tracker, self.has_failed = LocalTracker(), True


def make_tracker(content: Mapping[str, Any], record: RunRecord, report: Report) -> Tracker:
    """The tracker that the section `logger` asks for. Raises: InvalidInputError as `check_logger` does."""
    config = check_logger(content, tags=record.tags)
    tracker = _tracker(config, record, report)
    if isinstance(tracker, LocalTracker):
        return tracker
    who = follower(config.name)
    return SteadyTracker(tracker, report, delivered=lambda: keep_published(record.folder, who))


def _tracker(config: LoggerConfig, record: RunRecord, report: Report) -> Tracker:
    if isinstance(config, WandbConfig):
        from trainers.loggers.wandb import start_wandb

        return start_wandb(config, record, report)
    if isinstance(config, MlflowConfig):
        from trainers.loggers.mlflow import MlflowTracker

        return MlflowTracker(config, record)
    if isinstance(config, TensorBoardConfig):
        from trainers.loggers.tensorboard import TensorBoardTracker

        return TensorBoardTracker(record)
    if isinstance(config, CsvConfig):
        from trainers.loggers.csv import CsvTracker

        return CsvTracker(record)
    return LocalTracker()
