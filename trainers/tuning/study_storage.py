"""Where a study is stored: a SQLite file, a journal file or a PostgreSQL database."""

import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.errors import EspalierError, InvalidInputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

KINDS = {".db": "sqlite", ".sqlite3": "sqlite", ".journal": "journal"}  # by the ending of a file
ALLOWED = (
    "a file ending in .db or .journal, sqlite:///<path>, journal:///<path>, or postgresql://<user>@<host>/<database>"
)
WAIT_SECONDS = 60  # for another process to end its write to a SQLite file
CONNECT_SECONDS = 10
CREATIONS = 3  # attempts to create the tables, which processes that begin together all try


class StudyError(EspalierError):
    """The storage of a study cannot be used, as when its server is away or its disk is full."""


def storage_url(text: str) -> str:
    """The URL that a file name or URL means, its path absolute. Raises: InvalidInputError if it cannot be one."""
    scheme, found, rest = text.partition("://")
    if found and scheme in ("postgresql", "postgresql+psycopg"):
        if re.search(r"^[^/]*:[^/]*@|password=", rest):  # it would stand in the configuration of every run
            raise InvalidInputError("a password in a URL ends up in run folders; put it in ~/.pgpass or PGPASSWORD")
        return f"postgresql+psycopg://{rest}"
    kind = scheme if found else KINDS.get(Path(text).suffix)
    if kind not in KINDS.values() or (found and not re.match("/.", rest)):
        raise InvalidInputError(f"got {text!r}, allowed: {ALLOWED}")
    path = Path(os.path.expanduser(rest[1:] if found else text)).absolute()
    return f"{kind}:///{path}"


def open_storage(url: str) -> "BaseStorage":
    """The storage at a URL. Raises: InvalidInputError if it is none or cannot be made, StudyError if it is away."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    kind, _, path = url.partition(":///")
    with answering(url):
        try:
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(path)) if kind == "journal" else _database(url)
        except (RuntimeError, ValueError, KeyError, ImportError, OSError) as error:  # of another program, or torn
            raise InvalidInputError(f"cannot open the study at {url}: {_line(error)}; name another place") from error


def _database(url: str) -> "BaseStorage":
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    is_file = url.startswith("sqlite")
    wait = {"timeout": WAIT_SECONDS} if is_file else {"connect_timeout": CONNECT_SECONDS}
    for attempt in range(1, CREATIONS + 1):
        try:
            # A server may close a connection while a search runs for hours; SQLite has none to close.
            return RDBStorage(url, engine_kwargs={"connect_args": wait, "pool_pre_ping": not is_file})
        except SQLAlchemyError as error:
            is_race = re.search("already exists|UNIQUE constraint", str(error))
            if not is_race or attempt == CREATIONS:
                raise
            time.sleep(attempt)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Raises StudyError where the storage at a URL goes away."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        raise StudyError(f"cannot use the study at {url}: {_line(error)}; the same command continues") from error


@contextmanager
def experimental() -> Iterator[None]:
    """Without Optuna's warnings that what is called may change."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


def _line(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())[:300]
