"""Table pricing: measured operations as they are, others between measured ones of the same form, nothing else."""

import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from hardware_models.latency_models.interpolation import LookUpTable
from hardware_models.latency_models.latency_model import LatencyModel
from hardware_models.latency_models.operation_entries import operation_entries, position
from hardware_models.measuring.measurements import IMPORTERS
from hardware_models.schema import Positive
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation


class Table(LatencyModel):
    """Latency of one operation from a table of measured ones, written here or in a CSV file, or both.

    `entries` gives ms by notation (`conv 16x112x112 -> 24x56x56 k3 s2`). `file` is looked up from the folder that the
    command runs in and read when the profile is loaded. Its `format` is the name of an importer: `measurements` has
    columns `operation,latency_ms`, `paddlelite` reads Paddle-Lite's tables.
    """

    formula: ClassVar[str] = (
        "Time of an operation in ms: its entry, else between the nearest entries of its form, else an error."
    )

    model: Literal["table"]
    file: str | None = Field(default=None, min_length=1)
    format: str = "measurements"
    entries: Mapping[str, Positive] = Field(default_factory=dict)

    _exact_ms: Mapping[Operation, float] = PrivateAttr()
    _table: LookUpTable = PrivateAttr()
    _origin: Mapping[str, Any] = PrivateAttr()

    @field_validator("entries", mode="before")
    @classmethod
    def _no_entries(cls, entries: Any) -> Any:
        return {} if entries is None else entries

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        if name not in IMPORTERS:
            raise ValueError(f"allowed: {', '.join(IMPORTERS)}")
        return name

    @model_validator(mode="after")
    def _read(self) -> "Table":
        exact_ms, origin = self._read_file() if self.file else ({}, {})
        for operation, ms in _parsed(self.entries).items():
            if operation in exact_ms:
                raise InvalidInputError(f"both `entries` and {self.file} give {operation.notation}; keep one of them")
            exact_ms[operation] = ms
        if not exact_ms:
            raise InvalidInputError("a table needs entries, a file, or both; got neither")
        self._exact_ms, self._table = exact_ms, LookUpTable(operation_entries(exact_ms.items()))
        self._origin = {**origin, "operations": len(exact_ms)}
        return self

    def _read_file(self) -> tuple[dict[Operation, float], dict[str, str]]:
        """Milliseconds by operation of the file, and its name and hash."""
        assert self.file is not None
        path = Path(os.path.expanduser(self.file))
        measurements = IMPORTERS[self.format](path, device=None)
        if measurements.subject != "operation":
            raise InvalidInputError(
                f"{path}: a table prices single operations, this file measures {measurements.subject}s; fit a profile "
                "to it, or give a file with columns operation,latency_ms"
            )
        exact_ms = {row.operations[0]: row.latency_ms for row in measurements.rows}
        return exact_ms, {"file": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}

    @property
    def priced(self) -> str:
        forms = ", ".join(" ".join(map(str, category)) for category in sorted(self._table.categories, key=str))
        return f"{len(self._exact_ms)} operations and what lies between them: {forms}"

    @property
    def origin(self) -> Mapping[str, Any]:
        """The number of its operations; of a file that was read its name, and the SHA-256 of its content."""
        return self._origin

    @property
    def refuses_others(self) -> bool:
        return True

    def price_ms(self, operation: Operation, *, bytes_per_element: int) -> float | None:
        """Exact for a measured operation."""
        measured = self._exact_ms.get(replace(operation, held=0))
        return self._table.price_ms(*position(operation)) if measured is None else measured

    def missing(self, operation: Operation) -> str:
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
