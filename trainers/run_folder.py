"""The files a run leaves, each written whole or not at all."""

import csv
import io
import json
import os
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError

STATES = ("running", "done", "failed", "infeasible", "interrupted", "unmet")


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file in one step: a temporary file in the same folder, flushed to disk, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """JSON without NaN: a missing number is `null` with its reason beside it."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


class RunFolder:
    """The folder of one run. `status.json` says what became of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Makes the folder and marks the run as running. Raises: InvalidInputError if it cannot be written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.status("running")
        except OSError as error:
            raise InvalidInputError(
                f"cannot write the run folder {self.path}: {error.strerror}; set paths.runs to a folder you can write"
            ) from error

    def status(self, state: str, error: str | None = None) -> None:
        assert state in STATES
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"status": state, "pid": os.getpid(), "host": os.uname().nodename, "time": now, "error": error}
        write_json(self.path / "status.json", content)

    def read_result(self) -> dict[str, Any] | None:
        """The result of a finished run; none if the run has not finished."""
        try:
            status = json.loads((self.path / "status.json").read_text(encoding="utf-8"))
            result = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # a torn file is neither UTF-8 nor JSON
            return None
        if not (isinstance(status, dict) and isinstance(result, dict)):
            return None
        return result if status.get("status") in ("done", "unmet") else None

    def log_exception(self) -> None:
        """Keeps the traceback in `run.log`; the terminal gets one line."""
        write_text(self.path / "run.log", traceback.format_exc())
