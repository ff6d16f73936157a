"""Table pricing: measured operations as they are, others between measured ones of the same form, nothing else."""

import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, PrivateAttr, field_validator, model_validator

from hardware_models.importers.paddlelite import read_paddlelite
from hardware_models.latency_models.interpolation import LookUpTable
from hardware_models.latency_models.operation_entries import operation_entries, position
from hardware_models.latency_models.roofline import NonNegative, Positive, Section
from hardware_models.measuring.measurements import read_measurements
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation

TableFormat = Literal["measurements", "paddlelite"]
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)


class Table(Section):
    """Latency of one operation from a table of measured ones, written here or in a CSV file, or both.

    `entries` gives ms by notation (`conv 16x112x112 -> 24x56x56 k3 s2`). `file` is looked up from the folder that the
    command runs in and read when the profile is loaded; in its format `measurements` it has columns
    `operation,latency_ms`, in `paddlelite` those of Paddle-Lite's latency tables, in microseconds.
    """

    model: Literal["table"]
    constant_ms: NonNegative = 0.0
    file: str | None = Field(default=None, min_length=1)
    format: TableFormat = "measurements"
    entries: Mapping[str, Positive] = Field(default_factory=dict)

    _exact_ms: Mapping[Operation, float] = PrivateAttr()
    _table: LookUpTable = PrivateAttr()
    _origin: Mapping[str, Any] = PrivateAttr()

    @field_validator("entries", mode="before")
    @classmethod
    def _no_entries(cls, entries: Any) -> Any:
        return {} if entries is None else entries

    @model_validator(mode="after")
    def _read(self) -> "Table":
        from_file, origin = _read_file(Path(os.path.expanduser(self.file)), self.format) if self.file else ({}, {})
        exact_ms = _merged(_parsed(self.entries), from_file, self.file)
        if not exact_ms:
            raise InvalidInputError("a table needs entries, a file, or both; got neither")
        self._exact_ms, self._table = exact_ms, LookUpTable(operation_entries(exact_ms.items()))
        self._origin = {**origin, "operations": len(exact_ms)}
        return self

    @property
    def priced(self) -> str:
        """What it can price, in words."""
        forms = ", ".join(" ".join(map(str, category)) for category in sorted(self._table.categories, key=str))
        return f"{len(self._exact_ms)} operations and what lies between them: {forms}"

    @property
    def origin(self) -> dict[str, Any]:
        """The number of its operations; of a file that was read its name, and the SHA-256 of its content."""
        return dict(self._origin)

    def price_ms(self, operation: Operation, *, bytes_per_element: int) -> float | None:
        """Milliseconds of `operation`, exact if it was measured, or None where `missing` has a reason."""
        measured = self._exact_ms.get(replace(operation, held=0))
        return self._table.price_ms(*position(operation)) if measured is None else measured

    def missing(self, operation: Operation) -> str:
        """Why there is no price for `operation`."""
        return self._table.missing(*position(operation))


def _parsed(entries: Mapping[str, float]) -> dict[Operation, float]:
    """Milliseconds by operation. Raises: InvalidInputError that lists all notations that are wrong or stand twice."""
    exact_ms: dict[Operation, float] = {}
    problems = []
    for notation, ms in entries.items():
        try:
            operation = parse_operation(notation)
        except InvalidInputError as error:
            problems.append(str(error))
            continue
        if operation in exact_ms:
            problems.append(f"{notation!r} stands twice, spelled differently; keep one")
        exact_ms[operation] = ms
    if problems:
        raise InvalidInputError("; ".join(problems))
    return exact_ms


def _read_file(path: Path, file_format: TableFormat) -> tuple[dict[Operation, float], dict[str, Any]]:
    """Milliseconds by operation of a file, and its name and hash."""
    if file_format == "paddlelite":
        exact_ms = {block.operations[0]: block.ms for block in read_paddlelite(path).blocks}
    else:
        measurements = read_measurements(path)
        if measurements.subject != "operation":
            raise InvalidInputError(
                f"{path}: a table prices single operations, this file measures whole networks; fit a profile to it, or "
                "give a file with columns operation,latency_ms"
            )
        exact_ms = {row.operations[0]: row.latency_ms for row in measurements.rows}
    return exact_ms, {"file": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}


def _merged(
    inline: dict[Operation, float], from_file: dict[Operation, float], file: str | None
) -> dict[Operation, float]:
    both = [operation.notation for operation in inline if operation in from_file]
    if both:
        raise InvalidInputError(f"both `entries` and {file} give {', '.join(both[:5])}; keep one of them")
    return {**from_file, **inline}
