"""CSV files as rows that a pydantic model checks: a field for each column, a line for each wrong cell."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from hardware_models.field_errors import problems_of
from hardware_models.measuring.foreign_text import read_text
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation

MAX_LISTED = 20  # problems of one file in a message
Milliseconds = Annotated[float, Field(ge=1e-6, le=1e9)]  # a nanosecond, eleven days
parsed = cache(parse_operation)  # networks repeat their layers
OperationCell = Annotated[Operation, BeforeValidator(parsed)]


class Row(BaseModel):
    """A row of a file: its fields are columns, but for the `line` it begins in, from 1. An empty cell is left out."""

    model_config = ConfigDict(frozen=True)

    line: int


RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A file with its columns, and line and cells of each row, stripped of spaces. `part` is what a line is called."""

    path: Path
    columns: tuple[str, ...]
    records: tuple[tuple[int, Mapping[str, str]], ...]
    part: str = "line"

    def where(self, keep: Callable[[Mapping[str, str]], bool]) -> "CsvFile":
        """The file with those of its rows whose cells are to be kept."""
        return replace(self, records=tuple(record for record in self.records if keep(record[1])))

    def renamed(self, column: str, name: str) -> "CsvFile":
        """The file with another name for a column, if it has that."""
        new = {column: name}
        records = ((line, {new.get(old, old): text for old, text in cells.items()}) for line, cells in self.records)
        return replace(self, columns=tuple(new.get(old, old) for old in self.columns), records=tuple(records))

    def rows(self, model: type[RowT], *, key: Sequence[str]) -> list[RowT]:
        """The rows as `model` has them, no two with the same cells in the columns `key`.

        Raises: InvalidInputError that lists columns that are missing or that a model with extra="forbid" does not know,
        else wrong cells and repeated rows, by line.
        """
        problems = [f"line 1: {problem} (columns: {', '.join(self.columns)})" for problem in self._wrong_columns(model)]
        rows, first = [], dict[tuple[str, ...], int]()
        for line, cells in self.records if not problems else ():
            name = tuple(cells.get(column, "") for column in key)
            if first.setdefault(name, line) != line:
                again = f"stands already in {self.part} {first[name]}; keep one"
                problems.append(f"{self.part} {line}: {', '.join(name)!r} {again}")
            try:
                rows.append(model.model_validate({"line": line} | {name: text for name, text in cells.items() if text}))
            except ValidationError as error:
                problems += [f"{self.part} {line}: {problem}" for problem in problems_of(error)]
        if problems or not rows:
            raise refusal(self.path, problems or ["it has no row that is of use"])
        return rows

    def _wrong_columns(self, model: type[Row]) -> Iterator[str]:
        fields = {name: field for name, field in model.model_fields.items() if name != "line"}
        yield from (f"{name}: missing" for name in fields if fields[name].is_required() and name not in self.columns)
        if model.model_config.get("extra") == "forbid":
            allowed = ", ".join(fields)
            yield from (f"{name}: unknown; allowed: {allowed}" for name in self.columns if name not in fields)


def refusal(path: Path, problems: Sequence[str]) -> InvalidInputError:
    """The error that says what is wrong with a file: the first problems in full, and the number of the others."""
    more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
    return InvalidInputError("\n  ".join([f"{path} cannot be used:", *problems[:MAX_LISTED], *more]))


def read_csv(path: Path) -> CsvFile:
    """Raises: InvalidInputError if it is no text file with a header and a row, or lists rows that are not as wide."""
    path, text = Path(path), read_text(Path(path))
    try:
        reader = csv.reader(StringIO(text, newline=""), strict=True)
        rows, line = [], 1
        for cells in reader:
            rows.append((line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise refusal(path, [f"not readable as CSV: {error}"]) from error
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if len(rows) < 2:
        raise refusal(path, ["it needs a header of columns and a row for each measurement"])
    (_, header), *body = rows
    problems = [f"line 1: column {name!r} stands twice" for name in sorted(set(header)) if header.count(name) > 1]
    problems += [
        f"line {line}: {len(cells)} values for {len(header)} columns; numbers have a point"
        for line, cells in body
        if len(cells) != len(header)
    ]
    if problems:
        raise refusal(path, problems)
    return CsvFile(path, tuple(header), tuple((line, dict(zip(header, cells, strict=True))) for line, cells in body))
