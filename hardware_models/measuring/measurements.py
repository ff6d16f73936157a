"""Measured times as CSV: whole networks, each with its operations in a second file beside it, or single operations.

`bench.csv` has a column `network` or `operation` (written as `Operation.notation` does) and one `latency_ms`; a file of
networks has beside it `bench.layers.csv` (see `layers`). Times are milliseconds at batch size 1. Importers read the
tables of other projects as the same `Measurements`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, Field, ValidationError

from hardware_models.measuring.csv_file import CsvFile, read_csv, refusal
from hardware_models.measuring.layers import Layers, cell_problems, layers_path, read_layers
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation
from search_spaces.registry import Registry

# A block is part of a network, several operations measured together; only other projects' tables have blocks.
Subject = Literal["network", "operation", "block"]
SUBJECTS: tuple[Subject, ...] = ("network", "operation")  # that a column of a CSV file is named after
# `statistic` says what latency_ms is over the repeats, `median` or `mean`; where it is left out, the median.
CONSTANTS = ("runtime", "threads", "precision", "machine", "statistic")
COLUMNS = (
    *("latency_ms", "p90_ms", "min_ms", "repeats", "warmup", "threads"),
    *("runtime", "precision", "statistic", "machine", "versions", "governor", "date"),
)


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


class Importer(Protocol):
    """Reads a file of measurements in one format. `device` is one of the devices of a file that has several.

    Raises: InvalidInputError that lists what is wrong line by line, or names the devices of the file.
    """

    def __call__(self, path: Path, *, device: str | None) -> Measurements: ...


IMPORTERS: Registry[Importer] = Registry("importers")


class _Cells(BaseModel):
    """The cells of a row that have a meaning here; empty ones are left out."""

    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    threads: Annotated[int, Field(ge=1)] = 1
    statistic: Literal["median", "mean"] = "median"


def read_measurements(path: Path, *, device: str | None = None) -> Measurements:
    """The measurements in a CSV file, of networks or of operations. It is of one device, so `device` is None.

    Raises: InvalidInputError that lists what is wrong, line by line, in the file or in the one beside it.
    """
    without_devices(device)
    file = read_csv(path)
    subject = _subject(file)
    times, problems = _times(file, subject)
    problems += [*file.duplicates([subject]), *_changes(file)]
    if subject == "network":
        layers = read_layers(layers_path(file.path)) if not problems else {}
        problems += [
            f"line {record.line}: network {record.cells[subject]!r} has no operations in {layers_path(file.path).name}"
            for record in file.records
            if layers and record.cells[subject] not in layers
        ]
    else:
        layers = _own_operations(file, problems)
    if problems:
        raise refusal(file.path, problems)
    rows = tuple(
        MeasuredRow(name, times[name], layers[name].operations, record.line, record.cells, layers[name].unread)
        for record in file.records
        for name in (record.cells[subject],)
    )
    constants = {column: rows[0].fields[column] for column in CONSTANTS if rows[0].fields.get(column)}
    return Measurements(file.path, subject, rows, constants)


def without_devices(device: str | None) -> None:
    """Raises: InvalidInputError if a device is named where a format has the times of one alone."""
    if device is not None:
        raise InvalidInputError(f"device: got {device!r}; allowed: null, because this format has no devices")


def _subject(file: CsvFile) -> Subject:
    """What a file measures. Raises: InvalidInputError for columns that are missing or unknown."""
    problems, subjects = [], [subject for subject in SUBJECTS if subject in file.columns]
    if len(subjects) != 1:
        found = "both" if subjects else f"neither (columns: {', '.join(file.columns)})"
        problems.append(f"line 1: one column must be 'network' or 'operation', got {found}")
    if "latency_ms" not in file.columns:
        problems.append(f"line 1: column 'latency_ms' is missing (columns: {', '.join(file.columns)})")
    unknown = [name for name in file.columns if name not in (*SUBJECTS, *COLUMNS)]
    if unknown:
        problems.append(f"line 1: unknown columns {unknown}; allowed: network or operation, {', '.join(COLUMNS)}")
    if problems:
        raise refusal(file.path, problems)
    return subjects[0]


def _times(file: CsvFile, subject: Subject) -> tuple[dict[str, float], list[str]]:
    """Milliseconds by name, and what is wrong with the cells of each row."""
    times: dict[str, float] = {}
    problems: list[str] = []
    for record in file.records:
        if not record.cells[subject]:
            problems.append(f"line {record.line}: no {subject} is named")
        cells = {column: text for column, text in record.cells.items() if text or column == "latency_ms"}
        try:
            times[record.cells[subject]] = _Cells.model_validate(cells).latency_ms
        except ValidationError as error:
            problems += cell_problems(error, record.line)
    return times, problems


def _changes(file: CsvFile) -> Iterator[str]:
    """Rows taken on something else than the first: one profile cannot be fitted to both."""
    first = file.records[0]
    for column in (column for column in CONSTANTS if column in file.columns):
        other = next((record for record in file.records if record.cells[column] != first.cells[column]), None)
        if other is not None:
            yield (
                f"line {other.line}: {column} is {other.cells[column]!r}, in line {first.line} "
                f"{first.cells[column]!r}; split the file"
            )


def _own_operations(file: CsvFile, problems: list[str]) -> dict[str, Layers]:
    """The operation that each row of a file of operations names; what is wrong joins `problems`."""
    layers: dict[str, Layers] = {}
    first: dict[Operation, str] = {}
    for record in file.records:
        name = record.cells["operation"]
        try:
            operation = parse_operation(name)
        except InvalidInputError as error:
            problems.append(f"line {record.line}: {error}")
            continue
        layers[name] = Layers((operation,))
        if first.setdefault(operation, name) != name:  # the same one, its defaults spelled out
            problems.append(f"line {record.line}: {name!r} is {first[operation]!r}; keep one of them")
    return layers
