"""The interface of a logger, and how a logger is found by its name, checked and made for a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from search_spaces.errors import InvalidInputError
from search_spaces.registry import Registry
from trainers.runs.validation import checked
from trainers.search.callbacks import Report

Cell = str | float | bool | None
LOGGERS: Registry[type["RunLogger"]] = Registry("loggers")


@dataclass(frozen=True)
class RunRecord:
    """A run as a logger knows it: `name` is its key, `group` its sweep, `job_type` its stage, `config` plain values."""

    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    folder: Path


class LoggerConfig(BaseModel):
    """The section `logger` of a configuration. A logger with more keys than its name has a subclass for them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str


class RunLogger:
    """Logs one run. Each method does nothing here; a logger overrides those that it has a use for.

    Nothing that a logger does changes the result of the run. What it raises after it was made is reported once, and
    the run goes on without it.
    """

    Config: ClassVar[type[LoggerConfig]] = LoggerConfig

    def __init__(self, config: Any, record: RunRecord, report: Report) -> None:
        """`config` is a `Config`; `report` prints a line. Raises: InvalidInputError if the service refuses the run."""
        self.record = record

    @classmethod
    def check(cls, config: Any, *, tags: Sequence[str]) -> None:
        """Asks before any work what `Config` cannot. Raises: InvalidInputError."""

    @classmethod
    def open(cls, config: Any, record: RunRecord, report: Report) -> "RunLogger":
        """The logger of a run that starts or goes on. Raises: as the class."""
        return cls(config, record, report)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Logs one row, after `step` updates of weights. Each attempt at a run logs all rows, each once."""

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None: ...

    def picture(self, name: str, content: bytes | str) -> None:
        """Logs a PNG as bytes, or a stand-alone SVG as text."""

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        """Logs files of the run folder, and the names of the artifacts that they were made from."""

    def alert(self, title: str, text: str) -> None: ...

    def finish(self, exit_code: int) -> None:
        """Ends the log, with the exit code of the command: 0 if it has done its work. Always the last call."""


class LocalRunLogger(RunLogger):
    """Logs nothing: the run folder holds everything."""


class SteadyRunLogger(RunLogger):
    """Passes all on to another logger, each step once. When that one fails, it is reported once and left out."""

    def __init__(self, logger: RunLogger, report: Report) -> None:
        self.logger, self.report, self.has_failed, self.last_step = logger, report, False, 0
        for name in ("table", "picture", "artifact", "alert", "finish"):
            setattr(self, name, partial(self._try, getattr(logger, name)))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.last_step:
            self._try(self.logger.metrics, step, values)
            self.last_step = step

    def _try(self, method: Callable[..., None], *given: Any, **named: Any) -> None:
        if self.has_failed:
            return
        try:
            method(*given, **named)
        except Exception as error:  # whatever a service raises: hours of a search are worth more than its curves
            self.report(f"the logger failed and is left out from here: {type(error).__name__}: {error}")
            self.has_failed = True


def check_logger(content: Mapping[str, Any], *, tags: Sequence[str] = ()) -> LoggerConfig:
    """The checked section `logger`, for a run with these tags. Raises: InvalidInputError for all wrong keys."""
    name = content.get("name")
    if not isinstance(name, str) or name not in LOGGERS:
        raise InvalidInputError(f"logger.name: got {name!r}, allowed: {', '.join(LOGGERS)}; as logger=wandb")
    try:
        kind = LOGGERS[name]
    except InvalidInputError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        needed = f"logger={name} needs the package {error.__cause__.name}, which is not installed"
        raise InvalidInputError(f"{needed}: pip install 'espalier[{name}]'") from error
    config = checked(kind.Config, content, section="logger")
    kind.check(config, tags=tags)
    return config


def make_logger(content: Mapping[str, Any], record: RunRecord, report: Report) -> RunLogger:
    """The logger of the section `logger`, a `LocalRunLogger` if nothing is logged. Raises: as `check_logger`."""
    config = check_logger(content, tags=record.tags)
    logger = LOGGERS[config.name].open(config, record, report)
    return logger if isinstance(logger, LocalRunLogger) else SteadyRunLogger(logger, report)
