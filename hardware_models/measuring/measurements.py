"""Measured times as CSV: whole networks, each with its operations in a second file beside it, or single operations.

`bench.csv` has a column `network` or `operation` (written as `Operation.notation` does) and one `latency_ms`; a file of
networks has beside it `bench.layers.csv`, with columns `network,operation,count`. Times are milliseconds at batch
size 1. A column `part` marks networks drawn at random. Importers read the tables of other projects as the same
`Measurements`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import ConfigDict, Field

from hardware_models.measuring.csv_file import CsvFile, Milliseconds, OperationCell, Row, parsed, read_csv, refusal
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from search_spaces.registry import Registry

# A block is part of a network, several operations measured together; only other projects' tables have blocks.
Subject = Literal["network", "operation", "block"]
# How a network came to be measured: drawn at random from a space, or chosen for what it tells about the device.
Part = Literal["random", "telling"]
RANDOM: Part = "random"
# `statistic` says what latency_ms is over the repeats, `median` or `mean`; where it is left out, the median.
CONSTANTS = ("runtime", "threads", "precision", "machine", "statistic")
MAX_COUNT = 1_000  # of one operation in one network; a larger one is a mistake and would fill the memory


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One measured network or operation. `operations` are what it runs, each as often as it runs; `line` is from 1.

    `fields` are the cells of the row as the file has them.
    """

    name: str
    latency_ms: float
    operations: tuple[Operation, ...]
    line: int
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Measurements:
    """The rows of one file, in its order. `constants` holds what is the same in all of them, where the file says it."""

    path: Path
    subject: Subject
    rows: tuple[MeasuredRow, ...]
    constants: Mapping[str, str]

    @property
    def random(self) -> tuple[int, ...]:
        """Places of the rows that are marked as drawn at random."""
        return tuple(place for place, row in enumerate(self.rows) if row.fields.get("part") == RANDOM)


class Importer(Protocol):
    """Reads a file of measurements in one format. `device` is one of the devices of a file that has several.

    Raises: InvalidInputError that lists what is wrong line by line, or names the devices of the file.
    """

    def __call__(self, path: Path, *, device: str | None) -> Measurements: ...


IMPORTERS: Registry[Importer] = Registry("importers")


class _Times(Row):
    """What is known of a measured row, in the order of the columns of a file that is written here."""

    model_config = ConfigDict(extra="forbid")

    latency_ms: Milliseconds
    p90_ms: str = ""
    min_ms: str = ""
    repeats: str = ""
    warmup: str = ""
    threads: Annotated[int, Field(ge=1)] = 1
    runtime: str = ""
    precision: str = ""
    statistic: Literal["median", "mean"] = "median"
    part: Part | None = None
    machine: str = ""
    versions: str = ""
    governor: str = ""
    date: str = ""


class _Network(_Times):
    network: str


class _Operation(_Times):
    operation: OperationCell


class Layer(Row):
    """An operation of a network, and how often the network runs it."""

    model_config = ConfigDict(extra="forbid")

    network: str
    operation: OperationCell
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)]


COLUMNS, LAYER_COLUMNS = (tuple(name for name in row.model_fields if name != "line") for row in (_Times, Layer))


def read_measurements(path: Path, *, device: str | None = None) -> Measurements:
    """The measurements in a CSV file, of networks or of operations. It is of one device, so `device` is None.

    Raises: InvalidInputError that lists what is wrong, line by line, in the file or in the one beside it.
    """
    without_devices(device)
    file = read_csv(path)
    subject: Subject = "network" if "network" in file.columns else "operation"
    model: type[_Times] = _Network if subject == "network" else _Operation
    times, names = file.rows(model, key=[subject]), [cells[subject] for _, cells in file.records]
    problems = list(_changes(file))
    if subject == "network":
        layers, beside = read_layers(layers_path(file.path)), layers_path(file.path).name
        missing = [(name, row.line) for name, row in zip(names, times, strict=True) if name not in layers]
        problems += [f"line {line}: network {name!r} has no operations in {beside}" for name, line in missing]
    else:
        layers = {name: (parsed(name),) for name in names}
        first = {layers[name]: name for name in reversed(names)}
        again = [(name, row.line) for name, row in zip(names, times, strict=True) if first[layers[name]] != name]
        problems += [f"line {line}: {name!r} is {first[layers[name]]!r}; keep one of them" for name, line in again]
    if problems:
        raise refusal(file.path, problems)
    rows = tuple(
        MeasuredRow(name, row.latency_ms, layers[name], row.line, cells)
        for name, row, (_, cells) in zip(names, times, file.records, strict=True)
    )
    constants = {column: rows[0].fields[column] for column in CONSTANTS if rows[0].fields.get(column)}
    return Measurements(file.path, subject, rows, constants)


def layers_path(path: Path) -> Path:
    """Where the operations of the networks in `path` stand."""
    return path.with_name(f"{path.name.removesuffix('.csv')}.layers.csv")


def read_layers(path: Path) -> dict[str, tuple[Operation, ...]]:
    """What each network in a file of layers runs. Raises: InvalidInputError that lists what is wrong with it."""
    layers: dict[str, list[Operation]] = {}
    for row in read_csv(path).rows(Layer, key=["network", "operation"]):
        layers.setdefault(row.network, []).extend([row.operation] * row.count)
    return {name: tuple(operations) for name, operations in layers.items()}


def without_devices(device: str | None) -> None:
    """Raises: InvalidInputError if a device is named where a format has the times of one alone."""
    if device is not None:
        raise InvalidInputError(f"device: got {device!r}; allowed: null, because this format has no devices")


def _changes(file: CsvFile) -> Iterator[str]:
    """Rows taken on something else than the first: one profile cannot be fitted to both."""
    (first_line, first), *others = file.records
    for column in (column for column in CONSTANTS if column in file.columns):
        other = next(((line, cells[column]) for line, cells in others if cells[column] != first[column]), None)
        if other:
            got = f"got {other[1]!r}, in line {first_line} {first[column]!r}"
            yield f"line {other[0]}: {column}: {got}; split the file"
