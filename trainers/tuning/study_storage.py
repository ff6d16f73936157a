"""Where a study is stored: a SQLite file, a journal file or a PostgreSQL database, each with Optuna's heartbeat."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from search_spaces.errors import EspalierError, InvalidInputError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

KINDS = {".db": "sqlite", ".sqlite3": "sqlite", ".journal": "journal"}  # by the ending of a file
ALLOWED = (
    "a file ending in .db or .journal, sqlite:///<path>, journal:///<path>, or postgresql://<user>@<host>/<database>"
)
WAIT_SECONDS = 60  # for another process to end its write to a SQLite file
CONNECT_SECONDS = 10
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 60  # a trial without a heartbeat for so long has lost its process
CREATIONS = 3  # attempts to create the tables, which processes that begin together all try


class StudyError(EspalierError):
    """The storage of a study cannot be used, as when its server is away or its disk is full."""


@dataclass(frozen=True)
class StudyPlace:
    """A storage that is opened by its URL; `path` is none for a database server."""

    kind: str
    url: str
    path: Path | None


def study_place(text: str) -> StudyPlace:
    """The place that a file name or URL means, its path absolute. Raises: InvalidInputError if it cannot be one."""
    scheme, found, rest = text.partition("://")
    if found and scheme in ("postgresql", "postgresql+psycopg"):
        return _server(text, f"postgresql+psycopg://{rest}")
    kind = scheme if found else KINDS.get(Path(text).suffix)
    if kind is None or kind not in KINDS.values() or (found and not (rest.startswith("/") and rest[1:])):
        raise InvalidInputError(f"got {text!r}, allowed: {ALLOWED}")
    path = Path(os.path.expanduser(rest[1:] if found else text)).absolute()
    return StudyPlace(kind, f"{kind}:///{path}", path)


def _server(text: str, url: str) -> StudyPlace:
    try:
        parts = urlsplit(url)
        has_password = parts.password is not None or "password=" in parts.query
    except ValueError as error:
        raise InvalidInputError(f"got {text!r}: {error}; allowed: {ALLOWED}") from error
    if has_password:  # it would stand in the configuration of every run, and in what loggers send
        raise InvalidInputError("a password in a URL ends up in run folders; put it in ~/.pgpass or PGPASSWORD instead")
    if len(parts.path) < 2:
        raise InvalidInputError(f"got {text!r}, which names no database; allowed: {ALLOWED}")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise InvalidInputError("PostgreSQL needs psycopg; pip install 'espalier[postgresql]'") from error
    return StudyPlace("postgresql", url, None)


def open_storage(place: StudyPlace) -> "BaseStorage":
    """The storage at a place. Raises: InvalidInputError if it is none or cannot be made, StudyError if it is away."""
    try:
        if place.path is not None:
            place.path.parent.mkdir(parents=True, exist_ok=True)
        return _journal(place.path) if place.path is not None and place.kind == "journal" else _database(place)
    except (RuntimeError, ValueError, KeyError, OSError) as error:  # made by another version or program, or torn
        raise InvalidInputError(f"cannot open the study at {place.url}: {_line(error)}; name another place") from error


def _database(place: StudyPlace) -> "BaseStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    wait = {"timeout": WAIT_SECONDS} if place.kind == "sqlite" else {"connect_timeout": CONNECT_SECONDS}
    for attempt in range(1, CREATIONS + 1):
        with answering(place), experimental():
            try:
                return RDBStorage(
                    place.url,
                    # A server may close a connection while a search runs for hours; SQLite has none to close.
                    engine_kwargs={"connect_args": wait, "pool_pre_ping": place.kind != "sqlite"},
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                    heartbeat_stale_trial_callback=retry,
                )
            except SQLAlchemyError as error:
                is_race = isinstance(error, IntegrityError) or "already exists" in str(error)
                if not is_race or attempt == CREATIONS:
                    raise
                time.sleep(attempt)
    raise AssertionError("the last attempt returns or raises")


def _journal(path: Path) -> "BaseStorage":
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.storages import JournalStorage
    from optuna.storages._heartbeat import BaseHeartbeat
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    class Journal(JournalStorage, BaseHeartbeat):
        """Optuna's journal with the heartbeat that its databases have. Clocks of its machines agree within a minute."""

        def record_heartbeat(self, trial_id: int) -> None:
            with suppress(UpdateFinishedTrialError):
                self.set_trial_system_attr(trial_id, "heartbeat", time.time())

        def _get_stale_trial_ids(self, study_id: int) -> list[int]:
            stale = []
            for trial in self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,)):
                assert trial.datetime_start is not None
                seen = max(trial.datetime_start.timestamp(), trial.system_attrs.get("heartbeat", 0.0))
                if time.time() - seen > GRACE_SECONDS:
                    stale.append(trial._trial_id)
            return stale

        def get_heartbeat_interval(self) -> int:
            return HEARTBEAT_SECONDS

        def get_heartbeat_stale_trial_callback(self) -> "Callable[[Study, FrozenTrial], None]":
            return retry

    return Journal(JournalFileBackend(str(path)))


def retry(study: "Study", trial: "FrozenTrial") -> None:
    """Queues a trial that has failed, or whose process is gone, to be run again under a new number."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    with experimental():
        RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


@contextmanager
def answering(place: StudyPlace) -> Iterator[None]:
    """Raises StudyError where the storage at a place goes away."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        raise StudyError(f"cannot use the study at {place.url}: {_line(error)}; the same command continues") from error


@contextmanager
def experimental() -> Iterator[None]:
    """Without warnings of Optuna that its heartbeat may change, and that ask and tell do not send it."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage", UserWarning)
        yield


def _line(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())[:300]
