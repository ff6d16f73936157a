"""The journal file of a study: Optuna's, made whole again after a write that a full disk or a kill has cut short."""

import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from trainers.tuning.study_place import StudyError


class Journal(JournalFileBackend):
    """Raises: StudyError if the file cannot be read or written, or a line within it is no record."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _MendingLock(path))
        self.path = path

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        try:
            yield from super().read_logs(log_number_from)
        except OSError as error:
            raise StudyError(f"cannot read {self.path}: {error.strerror}; the same command continues") from error
        except ValueError as error:
            raise StudyError(
                f"{self.path} is not whole, a line within it is no record of a study: {error}; "
                "remove that line, or name another place"
            ) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            raise StudyError(
                f"cannot write {self.path}: {error.strerror}; free space or allow writing there, "
                "then the same command continues"
            ) from error


class _MendingLock(JournalFileSymlinkLock):
    """The lock of whoever appends, who finds whole lines: after a torn one its record would be lost, and all later."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def acquire(self) -> bool:
        acquired = super().acquire()
        try:
            _cut_torn_line(self.path)
        except BaseException:
            self.release()
            raise
        return acquired


def _cut_torn_line(path: Path) -> None:
    """Cuts off the last line if it has no end or is no record: no process has read it as one."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.rfind(b"\n", 0, size - 1) + 1
            line = content[start:]
        if not (line.endswith(b"\n") and _is_record(line)):
            file.truncate(start)


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
