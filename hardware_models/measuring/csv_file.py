"""CSV files of measurements as text: a header, rows by column, and the line of each for messages."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from search_spaces.errors import InvalidInputError

MAX_LISTED = 20  # problems of one file in a message
SEPARATORS = {";": "a semicolon", "\t": "a tab"}  # that spreadsheets write in place of a comma


@dataclass(frozen=True, slots=True)
class Record:
    """One row by column, cells stripped of spaces; `line` is where it begins, from 1."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CsvFile:
    """The columns and rows of a file, at least one of each."""

    path: Path
    columns: tuple[str, ...]
    records: tuple[Record, ...]

    def duplicates(self, key: Sequence[str]) -> Iterator[str]:
        """Rows with the same cells in the columns `key` as an earlier one."""
        first: dict[tuple[str, ...], int] = {}
        for record in self.records:
            name = tuple(record.cells[column] for column in key)
            line = first.setdefault(name, record.line)
            if line != record.line:
                yield f"line {record.line}: {', '.join(name)!r} stands already in line {line}; keep one of them"


def refusal(path: Path, problems: Sequence[str]) -> InvalidInputError:
    """The error that says what is wrong with a file: the first problems in full, and the number of the others."""
    more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
    return InvalidInputError("\n  ".join([f"{path} cannot be used:", *problems[:MAX_LISTED], *more]))


def read_csv(path: Path) -> CsvFile:
    """Raises: InvalidInputError if it is no text file with a header and a row, or lists rows that are not as wide."""
    path = Path(path)
    try:
        rows = list(_rows(_text(path)))
    except csv.Error as error:
        raise refusal(path, [f"not readable as CSV: {error}"]) from error
    if not rows:
        raise InvalidInputError(f"{path} is empty; it needs a header of columns and a row for each measurement")
    (_, header), *body = rows
    problems = list(_header_problems(header)) or [
        f"line {line}: {len(cells)} values for {len(header)} columns; numbers have a point"
        for line, cells in body
        if len(cells) != len(header)
    ]
    if problems:
        raise refusal(path, problems)
    if not body:
        raise InvalidInputError(f"{path} has a header and no rows; measure something first")
    records = tuple(Record(line, dict(zip(header, cells, strict=True))) for line, cells in body)
    return CsvFile(path, tuple(header), records)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"cannot read measurements from {path}: {error.strerror}; give a CSV file") from error
    try:
        return content.decode("utf-8-sig")  # spreadsheets put a mark first
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refusal(path, [f"line {line}: not UTF-8 text; save it as CSV in UTF-8"]) from error


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank."""
    reader, line = csv.reader(StringIO(text, newline=""), strict=True), 1
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            yield line, stripped
        line = reader.line_num + 1


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    separator = next((name for mark, name in SEPARATORS.items() if mark in header[0]), None)
    if len(header) == 1 and separator:
        yield f"line 1: columns are separated by commas, got {separator}: {header[0]!r}; save the file with commas"
    yield from (f"line 1: column {name!r} stands twice" for name in sorted(set(header)) if header.count(name) > 1)
