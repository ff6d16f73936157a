"""Where a study lies: a SQLite file, a journal file or a PostgreSQL database; and the lock that its processes share."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from search_spaces.errors import EspalierError, InvalidInputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

ALLOWED = (
    "a file ending in .db or .sqlite3, a journal file ending in .journal or .log, "
    "sqlite:///<path>, journal:///<absolute path>, or postgresql://<user>@<host>/<database>"
)
WAIT_SECONDS = 60  # for another process to end its write to a SQLite file
CONNECT_SECONDS = 10


class StudyError(EspalierError):
    """The storage of a study does not answer."""


@dataclass(frozen=True)
class StudyPlace:
    """A storage that is opened by its URL; `path` is none for a database server."""

    kind: str
    url: str
    path: Path | None


def study_place(text: str) -> StudyPlace:
    """The place that a file name or URL means, its path absolute. Raises: InvalidInputError if it cannot be one."""
    scheme, found, rest = text.partition("://")
    if not found:
        kind = {".db": "sqlite", ".sqlite3": "sqlite", ".journal": "journal", ".log": "journal"}.get(Path(text).suffix)
        return _file(text, kind, Path(text))
    if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/") and "?" not in rest:
        return _file(text, "sqlite", Path(rest[1:]))  # three slashes and a relative path, or four and an absolute one
    if scheme == "journal" and len(rest) > 1 and rest.startswith("/"):
        return _file(text, "journal", Path("/" + rest.lstrip("/")))
    if scheme in ("postgresql", "postgresql+psycopg"):
        return _server(text, f"postgresql+psycopg://{rest}")
    raise InvalidInputError(f"got {text!r}, allowed: {ALLOWED}")


def _file(text: str, kind: str | None, given: Path) -> StudyPlace:
    path = Path(os.path.expanduser(given)).absolute()
    if kind is None:
        raise InvalidInputError(f"got {text!r}, allowed: {ALLOWED}")
    if os.path.isdir(path):
        raise InvalidInputError(f"{path} is a folder; name a file in it")
    begins = {"sqlite": b"SQLite format 3\x00", "journal": b'{"op_code":'}[kind]
    try:
        start = _first_bytes(path, len(begins)) if os.path.exists(path) else b""
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    if not begins.startswith(start):  # a first write may have been cut short
        raise InvalidInputError(f"{path} is no {kind} file of a study; name another file")
    return StudyPlace(kind, f"{kind}:///{path}", path)


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _server(text: str, url: str) -> StudyPlace:
    try:
        parts = urlsplit(url)
        secret, named = parts.password is not None or "password=" in parts.query, len(parts.path) > 1
    except ValueError as error:
        raise InvalidInputError(f"got {text!r}: {error}; allowed: {ALLOWED}") from error
    if secret:  # it would stand in the configuration of every run, and in what loggers send
        raise InvalidInputError("a password in a URL ends up in run folders; put it in ~/.pgpass or PGPASSWORD instead")
    if not named:
        raise InvalidInputError(f"got {text!r}, which names no database; allowed: {ALLOWED}")
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise InvalidInputError("PostgreSQL needs psycopg; pip install 'espalier[postgresql]'") from error
    return StudyPlace("postgresql", url, None)


def open_storage(place: StudyPlace) -> "BaseStorage":
    """The storage at a place. Raises: InvalidInputError if something else lies there, StudyError if nothing answers."""
    from optuna.storages import JournalStorage, RDBStorage

    try:
        if place.path is not None and place.kind == "journal":
            from trainers.tuning.study_journal import Journal

            return JournalStorage(Journal(place.path))
        wait = {"timeout": WAIT_SECONDS} if place.kind == "sqlite" else {"connect_timeout": CONNECT_SECONDS}
        # A server may close a connection while a search runs for hours; SQLite has none to close.
        with answering(place):
            return RDBStorage(place.url, engine_kwargs={"connect_args": wait, "pool_pre_ping": place.path is None})
    except (RuntimeError, ValueError, KeyError, OSError) as error:  # made by another version, or torn
        raise InvalidInputError(f"cannot open the study at {place.url}: {_line(error)}; name another place") from error


@contextmanager
def answering(place: StudyPlace) -> Iterator[None]:
    """Raises StudyError where the database at a place goes away."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        raise _away(place, error) from error


@contextmanager
def locked(place: StudyPlace) -> Iterator[None]:
    """Holds the one lock of a place; the kernel or the server frees it when its holder dies, however it dies.

    Raises: InvalidInputError if the folder of a file cannot be written, StudyError if a server does not answer.
    """
    if place.path is not None:
        try:
            place.path.parent.mkdir(parents=True, exist_ok=True)
            file = place.path.with_name(f"{place.path.name}.turn").open("ab")
        except OSError as error:
            raise InvalidInputError(
                f"cannot write beside {place.path}: {error.strerror}; name another place"
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    import psycopg

    key = int.from_bytes(hashlib.sha256(b"espalier study").digest()[:8], "big", signed=True)
    try:
        with psycopg.connect(place.url.replace("+psycopg", "", 1), connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
            yield
    except psycopg.Error as error:
        raise _away(place, error) from error


def _away(place: StudyPlace, error: BaseException) -> StudyError:
    return StudyError(f"{place.url} does not answer: {_line(error)}; the same command continues")


def _line(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())[:300]
