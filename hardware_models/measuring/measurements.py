"""Measured times as CSV: whole networks, each with its operations in a second file beside it, or single operations.

`bench.csv` has a column `network` or `operation` (written as `Operation.notation` does) and one `latency_ms`; a file of
networks has beside it `bench.layers.csv` with `network,operation,count`, and optionally `reached`: false for operations
whose output nothing reads. Times are milliseconds at batch size 1.
"""

import csv
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation

# A block is part of a network, several operations measured together; only other projects' tables have blocks.
Subject = Literal["network", "operation", "block"]
SUBJECTS: tuple[Subject, ...] = ("network", "operation")  # that a column of a CSV file is named after
TIMES = ("latency_ms", "p90_ms", "min_ms")
COUNTS = ("repeats", "warmup", "threads")
# `statistic` says what latency_ms is over the repeats, `median` or `mean`; where it is left out, the median.
CONSTANTS = ("runtime", "threads", "precision", "machine", "statistic")
COLUMNS = (
    *TIMES,
    *COUNTS,
    *("runtime", "precision", "statistic", "machine", "versions", "governor", "date"),
)
LAYER_COLUMNS = ("network", "operation", "count")
REACHED = "reached"  # optional among them: `false` where nothing reads the output
MAX_LISTED = 20  # problems told at once
MAX_COUNT = 1_000  # of one operation in one network; a larger one is a mistake and would fill the memory
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_COUNT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One measured network or operation. `operations` are what it runs, each as often as it runs; `line` is from 1.

    `unread` are those of them whose output nothing reads: a runtime may leave them out.
    """

    name: str
    latency_ms: float
    operations: tuple[Operation, ...]
    line: int
    fields: Mapping[str, str]
    unread: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True)
class Measurements:
    """The rows of one file, in its order. `constants` holds what is the same in all of them, where the file says it."""

    path: Path
    subject: Subject
    rows: tuple[MeasuredRow, ...]
    constants: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a CSV file as text, by column; `line` is where it begins, from 1."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Layers:
    """What a network runs, each operation as often as it runs, and those of them whose output nothing reads."""

    operations: tuple[Operation, ...]
    unread: tuple[Operation, ...] = ()


def layers_path(path: Path) -> Path:
    """Where the operations of the networks in `path` stand: `bench.layers.csv` beside `bench.csv`."""
    return path.with_name(f"{path.name.removesuffix('.csv')}.layers.csv")


def read_measurements(path: Path) -> Measurements:
    """The measurements in a CSV file, of networks or of operations.

    Raises: InvalidInputError that lists what is wrong, line by line, in the file and in the one beside it.
    """
    path = Path(path)
    columns, records, problems = read_records(path)
    subjects = [subject for subject in SUBJECTS if subject in columns]
    problems = list(_column_problems(columns, subjects)) or problems  # a wrong header makes every row wrong
    if problems:
        raise refusal(path, problems)
    subject = subjects[0]
    layers, problems = _operations(path, subject, records)
    for record in records:
        problems += [f"line {record.line}: {problem}" for problem in _row_problems(record.cells, subject)]
    problems += [*_duplicates(records, (subject,)), *_changes(records)]
    if problems:
        raise refusal(path, problems)
    rows = tuple(
        MeasuredRow(name, float(cells["latency_ms"]), layers[name].operations, line, cells, layers[name].unread)
        for line, cells in ((record.line, record.cells) for record in records)
        for name in (cells[subject],)
    )
    constants = {column: rows[0].fields[column] for column in CONSTANTS if rows[0].fields.get(column)}
    return Measurements(path, subject, rows, constants)


def read_layers(path: Path) -> Mapping[str, Layers]:
    """What each network in a file of layers runs. Raises: InvalidInputError that lists what is wrong with it."""
    layers, problems = _layers(Path(path), [])
    if problems:
        raise refusal(path, problems)
    return layers


def read_records(path: Path) -> tuple[tuple[str, ...], list[Record], list[str]]:
    """Columns and rows of a CSV file with a header, cells stripped of spaces, and what is wrong with its form.

    What is wrong with the header itself is told alone.
    Raises: InvalidInputError if it is not a text file with a header and at least one row.
    """
    columns: tuple[str, ...] = ()
    records, problems = [], []
    try:
        for line, cells in _csv_rows(_text(path)):
            if not columns:
                columns = tuple(cells)
            elif len(cells) != len(columns):
                problems.append(f"line {line}: {len(cells)} values for {len(columns)} columns; numbers have a point")
            else:
                records.append(Record(line, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        problems.append(f"not readable as CSV: {error}")
    if not columns:
        raise InvalidInputError(f"{path} is empty; it needs a header of columns and a row for each measurement")
    problems = list(_header_problems(columns)) or problems
    if not records and not problems:
        raise InvalidInputError(f"{path} has a header and no rows; measure something first")
    return columns, records, problems


def refusal(path: Path, problems: Sequence[str]) -> InvalidInputError:
    """The error that tells what is wrong with a file, the first problems in full and the number of the others."""
    more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
    return InvalidInputError("\n  ".join([f"{path} cannot be used:", *problems[:MAX_LISTED], *more]))


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"cannot read measurements from {path}: {error.strerror}; give a CSV file") from error
    try:
        text = content.decode("utf-8-sig")  # spreadsheets put a mark first
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInputError(f"{path}: line {line}: not UTF-8 text; save it as CSV in UTF-8") from error
    if "\0" in text:
        raise InvalidInputError(f"{path}: line {text[: text.index(chr(0))].count(chr(10)) + 1}: a binary file, not CSV")
    return text


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row that is not blank."""
    reader, line = csv.reader(StringIO(text, newline=""), strict=True), 1
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            yield line, stripped
        line = reader.line_num + 1


def _header_problems(columns: Sequence[str]) -> Iterator[str]:
    """What is wrong with a header whatever its columns should be."""
    separator = next((name for mark, name in ((";", "a semicolon"), ("\t", "a tab")) if mark in columns[0]), None)
    if len(columns) == 1 and separator:
        yield f"line 1: columns are separated by commas, got {separator}: {columns[0]!r}; save the file with commas"
    yield from (f"line 1: column {name!r} stands twice" for name in sorted(set(columns)) if columns.count(name) > 1)


def _column_problems(columns: Sequence[str], subjects: Sequence[Subject]) -> Iterator[str]:
    yield from (header := list(_header_problems(columns)))
    if header and len(columns) == 1:  # not taken apart, so nothing more can be said of it
        return
    if len(subjects) != 1:
        found = "both" if subjects else f"neither (columns: {', '.join(columns)})"
        yield f"line 1: one column must be 'network' or 'operation', got {found}"
    if "latency_ms" not in columns:
        yield f"line 1: column 'latency_ms' is missing (columns: {', '.join(columns)})"
    unknown = [name for name in columns if name not in (*SUBJECTS, *COLUMNS)]
    if unknown:
        yield f"line 1: unknown columns {unknown}; allowed: network or operation, {', '.join(COLUMNS)}"


def _row_problems(cells: Mapping[str, str], subject: Subject) -> Iterator[str]:
    if not cells[subject]:
        yield f"no {subject} is named"
    times = {column: cells[column] for column in TIMES if cells.get(column) or column == "latency_ms"}
    wrong = [f"{column}: {problem}" for column, text in times.items() if (problem := _time_problem(text))]
    yield from wrong
    for column in COUNTS:
        text = cells.get(column, "")
        least = 0 if column == "warmup" else 1
        if text and not (_COUNT.fullmatch(text) and int(text) >= least):
            yield f"{column}: got {text!r}; allowed: a whole number of at least {least}"
    statistic = cells.get("statistic") or "median"
    if statistic not in ("median", "mean"):
        yield f"statistic: got {statistic!r}; allowed: median, mean"
    if not wrong:
        ordered = ["min_ms", "latency_ms", "p90_ms"] if statistic == "median" else ["min_ms", "latency_ms"]
        values = [float(times[column]) for column in ordered if column in times]
        if values != sorted(values):
            yield f"{' <= '.join(c for c in ordered if c in times)} does not hold: {values}; are columns exchanged?"


def _time_problem(text: str) -> str | None:
    if not _NUMBER.fullmatch(text):
        return f"got {text!r}; allowed: a number of milliseconds, as 12.5"
    value = float(text)
    return None if 0 < value < math.inf else f"got {text}; allowed: a finite number greater than 0"


def _duplicates(records: Sequence[Record], key: Sequence[str]) -> Iterator[str]:
    first: dict[tuple[str, ...], int] = {}
    for record in records:
        name = tuple(record.cells[column] for column in key)
        line = first.setdefault(name, record.line)
        if line != record.line and all(name):
            yield f"line {record.line}: {', '.join(name)!r} stands already in line {line}; keep one of them"


def _changes(records: Sequence[Record]) -> Iterator[str]:
    """Rows taken on something else than the first: one profile cannot be fitted to both."""
    for column in CONSTANTS:
        first = records[0].cells.get(column, "")
        for record in records:
            got = record.cells.get(column, "")
            if got != first:
                yield f"line {record.line}: {column} is {got!r}, in line {records[0].line} {first!r}; split the file"
                break


def _operations(path: Path, subject: Subject, records: Sequence[Record]) -> tuple[dict[str, Layers], list[str]]:
    """The operations of each name, and what is wrong with them."""
    if subject == "network":
        return _layers(layers_path(path), [(record.line, record.cells["network"]) for record in records])
    layers: dict[str, Layers] = {}
    problems: list[str] = []
    first: dict[Operation, tuple[int, str]] = {}
    for record in records:
        name = record.cells["operation"]
        try:
            operation = parse_operation(name)
        except InvalidInputError as error:
            problems.append(f"line {record.line}: {error}")
            continue
        layers[name] = Layers((operation,))
        line, other = first.setdefault(operation, (record.line, name))
        if other != name:  # the same one, its defaults spelled out
            problems.append(f"line {record.line}: {name!r} is {other!r} of line {line}; keep one of them")
    return layers, problems


def _layers(path: Path, measured: Sequence[tuple[int, str]]) -> tuple[dict[str, Layers], list[str]]:
    """The operations of each network in a file of layers, and what is wrong with it or missing from it."""
    if not os.path.isfile(path):
        return {}, [f"the operations of its networks are missing: write {path} with columns {','.join(LAYER_COLUMNS)}"]
    columns, records, problems = read_records(path)
    if sorted(set(columns) - {REACHED}) != sorted(LAYER_COLUMNS):
        unlike = f"line 1: columns must be {','.join(LAYER_COLUMNS)}, got {','.join(columns)}"
        problems = list(_header_problems(columns)) or [unlike]
        return {}, [f"{path.name}: {problem}" for problem in problems]
    problems += _duplicates(records, ("network", "operation", *(column for column in columns if column == REACHED)))
    operations: dict[str, list[Operation]] = {}
    unread: dict[str, list[Operation]] = {}
    for record in records:
        wrong = list(_layer_problems(record.cells))
        problems += [f"line {record.line}: {problem}" for problem in wrong]
        if wrong:
            continue
        name, repeated = record.cells["network"], _repeated(record.cells)
        operations.setdefault(name, []).extend(repeated)
        if record.cells.get(REACHED) == "false":
            unread.setdefault(name, []).extend(repeated)
    found = [f"{path.name}: {problem}" for problem in problems]
    listed = {record.cells["network"] for record in records}
    found += [
        f"line {line}: network {name!r} has no operations in {path.name}; add a row for each"
        for line, name in measured
        if name and name not in listed
    ]
    return {name: Layers(tuple(run), tuple(unread.get(name, ()))) for name, run in operations.items()}, found


def _layer_problems(cells: Mapping[str, str]) -> Iterator[str]:
    if not (_COUNT.fullmatch(cells["count"]) and 1 <= int(cells["count"]) <= MAX_COUNT):
        yield f"count: got {cells['count']!r}; allowed: a whole number from 1 to {MAX_COUNT}"
    if cells.get(REACHED, "true") not in ("true", "false"):
        yield f"{REACHED}: got {cells[REACHED]!r}; allowed: true, false"
    try:
        parse_operation(cells["operation"])
    except InvalidInputError as error:
        yield str(error)


def _repeated(cells: Mapping[str, str]) -> list[Operation]:
    """The operation of a sound row, as often as it runs."""
    return [parse_operation(cells["operation"])] * int(cells["count"])
