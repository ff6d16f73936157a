"""The one face that a run shows to whoever follows it: six methods, each tracker a file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.tracking.logger_config import check_logger


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
    """Follows one run. Nothing that it does changes the run's result or the files that it mirrors."""

    @abstractmethod
    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One row, of `step` updates of weights; a row of a step that was told already is left out."""

    @abstractmethod
    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...

    @abstractmethod
    def picture(self, name: str, content: bytes | str) -> None:
        """A PNG as bytes, or a stand-alone SVG as text."""

    @abstractmethod
    def artifact(self, name: str, *, kind: str, files: Mapping[str, Path], parents: Sequence[str]) -> None:
        """Files under the names that they get, and the names of the artifacts that they were made from."""

    @abstractmethod
    def alert(self, title: str, text: str) -> None: ...

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """The last call of a run, in a `finally`; 0 if it has done its work."""


class LocalTracker(Tracker):
    """Nobody follows: the run folder holds everything."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def picture(self, name: str, content: bytes | str) -> None:
        pass

    def artifact(self, name: str, *, kind: str, files: Mapping[str, Path], parents: Sequence[str]) -> None:
        pass

    def alert(self, title: str, text: str) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass


def make_tracker(content: Mapping[str, Any], record: RunRecord, report: Callable[[str], None]) -> Tracker:
    """The tracker that the section `logger` asks for. Raises: InvalidInputError as `check_logger` does."""
    check_logger(content)
    return LocalTracker()
