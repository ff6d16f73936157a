"""What measured networks run: `bench.layers.csv` beside `bench.csv`, with columns `network,operation,count`.

Optionally `reached`: false for operations whose output nothing reads.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from hardware_models.measuring.csv_file import read_csv, refusal
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation

LAYER_COLUMNS = ("network", "operation", "count")
REACHED = "reached"
MAX_COUNT = 1_000  # of one operation in one network; a larger one is a mistake and would fill the memory


@dataclass(frozen=True, slots=True)
class Layers:
    """What a network runs, each operation as often as it runs, and those of them whose output nothing reads."""

    operations: tuple[Operation, ...]
    unread: tuple[Operation, ...] = ()


class _Row(BaseModel):
    network: str = Field(min_length=1)
    operation: Operation
    count: int = Field(ge=1, le=MAX_COUNT)
    reached: Literal["true", "false"] = "true"

    @field_validator("operation", mode="before")
    @classmethod
    def _parse(cls, notation: str) -> Operation:
        return _parsed(notation)

    @property
    def operations(self) -> list[Operation]:
        return [self.operation] * self.count


_parsed = cache(parse_operation)  # networks repeat their layers


def layers_path(path: Path) -> Path:
    """Where the operations of the networks in `path` stand."""
    return path.with_name(f"{path.name.removesuffix('.csv')}.layers.csv")


def read_layers(path: Path) -> dict[str, Layers]:
    """What each network in a file of layers runs. Raises: InvalidInputError that lists what is wrong with it."""
    rows: dict[str, list[_Row]] = {}
    for row in _read(Path(path)):
        rows.setdefault(row.network, []).append(row)
    return {
        name: Layers(
            tuple(operation for row in own for operation in row.operations),
            tuple(operation for row in own if row.reached == "false" for operation in row.operations),
        )
        for name, own in rows.items()
    }


def write_layers(path: Path, networks: Mapping[str, Sequence[Operation]]) -> None:
    """Puts the operations of networks beside the measurements at `path`, with those that are there already.

    Raises: InvalidInputError if a network of the same name has other operations there.
    """
    beside = layers_path(path)
    counts: dict[str, dict[str, int]] = {}
    for row in _read(beside) if beside.is_file() else ():
        counts.setdefault(row.network, {})[row.operation.notation] = row.count
    added = {name: Counter(operation.notation for operation in operations) for name, operations in networks.items()}
    changed = [name for name in added if counts.get(name, added[name]) != added[name]]
    if changed:
        raise InvalidInputError(f"{beside} has other operations for {', '.join(changed)}; set output to another file")
    content = StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(LAYER_COLUMNS)
    for name, own in {**counts, **added}.items():
        writer.writerows((name, notation, count) for notation, count in own.items())
    unfinished = beside.with_name(f".{beside.name}.{os.getpid()}")
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(content.getvalue(), encoding="utf-8")
        unfinished.replace(beside)
    except OSError as error:
        raise InvalidInputError(f"cannot write {beside}: {error.strerror}; set output") from error


def _read(path: Path) -> list[_Row]:
    if not path.is_file():
        raise InvalidInputError(
            f"the operations of the networks are missing: write {path} with columns {','.join(LAYER_COLUMNS)}"
        )
    file = read_csv(path)
    if set(file.columns) - {REACHED} != set(LAYER_COLUMNS):
        columns = f"columns must be {','.join(LAYER_COLUMNS)}, got {','.join(file.columns)}"
        raise refusal(path, [f"line 1: {columns}"])
    problems = list(file.duplicates([column for column in file.columns if column != "count"]))
    rows = []
    for record in file.records:
        try:
            rows.append(_Row.model_validate(record.cells))
        except ValidationError as error:
            problems += cell_problems(error, record.line)
    if problems:
        raise refusal(path, problems)
    return rows


def cell_problems(error: ValidationError, line: int) -> Iterable[str]:
    """A line for each wrong cell of a row: its column, what was got and what is allowed."""
    for details in error.errors(include_url=False):
        message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        column = ".".join(map(str, details["loc"]))
        yield (
            f"line {line}: {column}: got {details['input']!r}; allowed: {message}"
            if column
            else (
                f"line {line}: {message}"  # of several cells
            )
        )
