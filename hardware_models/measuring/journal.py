"""The file that measurements go into, row by row: what is in it survives any end, and is not measured again."""

import csv
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TextIO

from hardware_models.measuring.csv_file import refusal
from hardware_models.measuring.measurements import COLUMNS, CONSTANTS, Subject, read_measurements
from search_spaces.errors import InvalidInputError

CONDITIONS = (*CONSTANTS, "versions")  # what must be the same for times to be comparable


@dataclass(frozen=True)
class Journal:
    """An open file of measurements; `done` are the names that were in it."""

    path: Path
    subject: Subject
    done: frozenset[str]
    file: TextIO

    def append(self, name: str, values: Mapping[str, str]) -> None:
        """Writes one row, whole and on disk when this returns."""
        _write(self.file, [name, *(values.get(column, "") for column in COLUMNS)])


@contextmanager
def open_journal(path: Path, subject: Subject, conditions: Mapping[str, str]) -> Iterator[Journal]:
    """The file at `path`, made or continued. A last line that was cut off by a crash is removed first.

    Raises: InvalidInputError if it cannot be written, is in use, or holds what was measured under other conditions.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8", newline="")
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror}; set output to a file you can write") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInputError(f"{path} is in use by another espalier-measure; wait, or set output") from error
        done = _continue(path, file, subject, conditions)
        yield Journal(path, subject, done, file)


def _continue(path: Path, file: TextIO, subject: Subject, conditions: Mapping[str, str]) -> frozenset[str]:
    """Makes the file end with a whole row, and returns the names in it."""
    header = _line([subject, *COLUMNS]).encode()
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if not (whole or content).startswith(header if whole else header[: len(content)]):
        raise refusal(path, [f"line 1: its columns are not {header.decode().strip()}; set output to another file"])
    file.truncate(len(whole))
    if not whole:
        _write(file, [subject, *COLUMNS])
    if len(whole) <= len(header):
        return frozenset()
    rows = read_measurements(path).rows
    there = {column: rows[0].fields.get(column, "") for column in CONDITIONS}
    here = {column: conditions.get(column, "") for column in CONDITIONS}
    differing = [column for column in CONDITIONS if there[column] != here[column]]
    if differing:
        problems = [f"{column}: there {there[column]!r}, here {here[column]!r}" for column in differing]
        raise refusal(path, [*problems, "times in one file must be comparable: restore them, or set output"])
    return frozenset(row.name for row in rows)


def _write(file: TextIO, cells: Sequence[str]) -> None:
    file.write(_line(cells))
    file.flush()
    os.fsync(file.fileno())


def _line(cells: Sequence[str]) -> str:
    line = StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
