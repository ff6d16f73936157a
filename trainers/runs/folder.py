"""The folder of one run: who is at it and what became of it. Each file is written whole or not at all."""

import csv
import fcntl
import io
import json
import math
import os
import threading
import traceback
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from search_spaces.errors import InvalidInputError
from trainers.runs.exit_status import RunFolderError, RunInUseError
from trainers.runs.plain_text import printable_lines
from trainers.runs.state import FINISHED, ORIGIN, STATES, RunState, json_of, missing_files, state_of, this_process

PART = ".part"  # ends the names of files that are being written
HEARTBEAT_SECONDS = 30.0  # a quarter of the silence after which a run counts as interrupted


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file in one step: a temporary file in the same folder, flushed to disk, renamed.

    Raises: RunFolderError if it cannot be written; the file that was there is then untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not one of tempfile, which would be for its owner alone: others read the files of a shared folder.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PART}")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path}: {error.strerror or error}; free space or allow writing there and repeat the command"
        ) from error


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """JSON without NaN: a missing number is `null` with its reason beside it."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """The cell of a value that is missing, or of a number that is none, is empty. Raises: as `write_bytes`."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(finite(row) for row in rows)
    write_text(path, buffer.getvalue())


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row is a figure or a word: a loss may be NaN in the epoch that a search diverges in."""
    return {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}


class RunFolder:
    """The folder of one run. `status.json` says what became of it; a thread keeps its heartbeat while it is open."""

    def __init__(self, path: Path, *, command: str) -> None:
        self.path, self.command = path, command
        self.attempt = 1
        self._started = self._now()
        self._progress: dict[str, int] | None = None
        self._origin: Mapping[str, Any] = {field: {} for field in ORIGIN}
        self._lock: IO[bytes] | None = None
        self._writing = threading.Lock()
        self._closed = threading.Event()

    def take(self) -> None:
        """Makes the folder and holds it for this process; the system lets go of it however the process ends.

        Raises: InvalidInputError if it cannot be written; RunInUseError if another process is at it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("ab")
        except OSError as error:
            raise InvalidInputError(
                f"cannot write the run folder {self.path}: {error.strerror}; set paths.runs to a folder you can write"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = self._earlier()
            # Locks do not reach other hosts everywhere; heartbeats do.
            busy = state is not None and state.state == "running" and state.host != os.uname().nodename
        except BlockingIOError:
            state, busy = self._earlier(), True
        if busy:
            self.release()
            who = "another process" if state is None else f"process {state.pid} on {state.host}"
            raise RunInUseError(f"{self.path} is being run by {who}; wait for it, or end it, and repeat the command")
        if state is not None:
            self.attempt = state.attempt + 1
            if state.epoch is not None and state.epochs is not None:  # from which this attempt goes on
                self._progress = {"epoch": state.epoch, "epochs": state.epochs}

    def start(self, origin: Mapping[str, Any]) -> None:
        """Marks the run as running, and keeps saying so. `origin` is what it starts from, for `status.json` to tell.

        Raises: RunFolderError if a folder in it is a link, through which the run would write elsewhere.
        """
        for path in self.path.glob("*"):
            if path.is_symlink() and not path.is_file():  # a link to a file is replaced by the file
                raise RunFolderError(
                    f"{path} is a link out of its run; put a folder there and repeat the command; "
                    "where disks are small, link the run folder or set paths.runs"
                )
        self._origin = origin
        for torn in self.path.rglob(f".*{PART}"):  # of an attempt that was killed while it wrote
            torn.unlink()
        self._write("running", None)
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def progress(self, epoch: int, *, epochs: int) -> None:
        """Tells how far the run is."""
        self._progress = {"epoch": epoch, "epochs": epochs}
        self._write("running", None)

    def close(self, state: str, error: str | None = None) -> None:
        """The last word on this attempt. The folder stays held."""
        assert state in STATES
        self._closed.set()
        self._write(state, None if error is None else printable_lines(error))  # of a file whose name is no text, say

    def read_result(self) -> dict[str, Any] | None:
        """The result of a finished run; none if it has not finished, its result is torn, or a file of it is missing.

        Raises: InvalidInputError, naming the field, if the result is whole and yet malformed: from elsewhere.
        """
        path = self.path / "result.json"
        try:
            if state_of(self.path).state not in FINISHED:
                return None
            json_of(path)
        except InvalidInputError:
            return None
        from trainers.analysis.run_files import read_result  # needs pandas

        result = read_result(path)
        return None if missing_files(self.path) else result

    def log_exception(self) -> None:
        """Keeps the traceback in `run.log`; the terminal gets one line."""
        write_text(self.path / "run.log", traceback.format_exc())

    def release(self) -> None:
        """Lets go of the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _earlier(self) -> RunState | None:
        """What the attempt before left; none if there was none, or if its status was torn."""
        try:
            return state_of(self.path)
        except InvalidInputError:
            return None

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            try:
                self._write("running", None)
            except RunFolderError:
                continue  # the run itself says so when it next writes

    def _write(self, state: str, error: str | None) -> None:
        with self._writing:
            if state == "running" and self._closed.is_set():
                return
            write_json(self.path / "status.json", self._content(state, error))

    def _content(self, state: str, error: str | None) -> dict[str, Any]:
        return {
            "status": state,
            **this_process(),
            "started": self._started,
            "heartbeat": self._now(),
            "attempt": self.attempt,
            "command": self.command,
            "progress": self._progress,
            "error": error,
            **self._origin,
        }

    @staticmethod
    def _now() -> str:
        return datetime.now(UTC).isoformat(timespec="seconds")
