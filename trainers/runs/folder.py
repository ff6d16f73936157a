"""The folder of one run: which process runs it and what became of it."""

import os
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock, Timeout

from search_spaces.errors import InvalidInputError
from trainers.runs.exit_status import RunFolderError, RunInUseError
from trainers.runs.files import PART, write_json
from trainers.runs.plain_text import printable_lines
from trainers.runs.result import Result, missing_files, read_result
from trainers.runs.state import FINISHED, ORIGIN, RunState, State, state_of, this_process

HEARTBEAT_SECONDS = 30.0  # a quarter of the silence after which a run counts as interrupted


class RunFolder:
    """The folder of one run. `status.json` says what became of it; a thread renews its heartbeat while it is open."""

    def __init__(self, path: Path, *, command: str) -> None:
        self.path, self.command = path, command
        self.attempt = 1
        self._started = self._now()
        self._progress: dict[str, int] | None = None
        self._origin: Mapping[str, Any] = {field: {} for field in ORIGIN}
        self._lock = FileLock(path / ".lock", timeout=0)
        self._writing = threading.Lock()
        self._closed = threading.Event()

    def take(self) -> None:
        """Makes the folder and locks it for this process; the system releases the lock however the process ends.

        Raises: InvalidInputError if it cannot be written; RunInUseError if another process is at it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            state = self._earlier()
            # Locks do not reach other hosts everywhere; heartbeats do.
            busy = state is not None and state.state == "running" and state.host != os.uname().nodename
        except Timeout:
            state, busy = self._earlier(), True
        except OSError as error:
            raise InvalidInputError(
                f"cannot write the run folder {self.path}: {error.strerror}; set paths.runs to a folder you can write"
            ) from error
        if busy:
            self.release()
            who = "another process" if state is None else f"process {state.pid} on {state.host}"
            raise RunInUseError(f"{self.path} is being run by {who}; wait for it, or end it, and repeat the command")
        if state is not None:
            self.attempt = state.attempt + 1
            if state.epoch is not None and state.epochs is not None:  # from which this attempt goes on
                self._progress = {"epoch": state.epoch, "epochs": state.epochs}

    def start(self, origin: Mapping[str, Any]) -> None:
        """Marks the run as running, and renews its heartbeat. `origin` is what it starts from, for `status.json`.

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
        """Writes how far the run is."""
        self._progress = {"epoch": epoch, "epochs": epochs}
        self._write("running", None)

    def close(self, state: str, error: str | None = None) -> None:
        """Writes how this attempt ended. The folder stays locked."""
        assert state in get_args(State)
        self._closed.set()
        self._write(state, None if error is None else printable_lines(error))  # of a file whose name is no text, say

    def read_result(self) -> Result | None:
        """The result of a finished run; none if it has not finished, or has lost a file.

        Raises: InvalidInputError, naming the field, if the result is malformed: from elsewhere.
        """
        state = self._earlier()
        if state is None or state.state not in FINISHED or missing_files(self.path):
            return None
        return read_result(self.path / "result.json")

    def log(self, line: str) -> None:
        """Adds a line to `run.log`, with the time in UTC. A disk that is full loses it, and not the run."""
        with suppress(OSError), (self.path / "run.log").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}  {line}\n")

    def log_exception(self) -> None:
        """Adds the traceback to `run.log`; the terminal gets one line."""
        self.log(traceback.format_exc().rstrip())

    def release(self) -> None:
        """Unlocks the folder."""
        self._lock.release()

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
