"""Look-up tables of measured blocks, read from CSV: what each block consists of, and how long it took."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from hardware_models.latency_models.interpolation import Category, Entry, Sizes
from hardware_models.measuring.csv_file import Record, read_csv, refusal
from hardware_models.measuring.measurements import MeasuredRow, Measurements, Subject
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, Shape, parse_operation

_WHOLE = re.compile(r"[0-9]{1,6}(?:\.0*)?")
_SHAPE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})x([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Block:
    """One measured block: `entry` to interpolate, and its operations, none where a space has no such operations."""

    name: str
    entry: Entry
    operations: tuple[Operation, ...]
    line: int

    @property
    def ms(self) -> float:
        return self.entry.ms


@dataclass(frozen=True, slots=True)
class BlockTable:
    """The measured blocks of one device, in the order of the file."""

    path: Path
    device: str | None
    blocks: tuple[Block, ...]

    @property
    def entries(self) -> list[Entry]:
        """One entry for each place in the table; blocks measured several times give their geometric mean."""
        log_ms: dict[tuple[Category, Sizes], list[float]] = {}
        for block in self.blocks:
            log_ms.setdefault((block.entry.category, block.entry.sizes), []).append(math.log(block.ms))
        return [Entry(*place, math.exp(sum(logs) / len(logs))) for place, logs in log_ms.items()]

    def measurements(self, subject: Subject) -> Measurements:
        """The blocks that consist of operations a space may have. Raises: InvalidInputError if there is none."""
        rows = tuple(
            MeasuredRow(block.name, block.ms, block.operations, block.line, {})
            for block in self.blocks
            if block.operations
        )
        if not rows:
            raise refusal(self.path, ["none of its blocks consists of operations that a space may have"])
        return Measurements(self.path, subject, rows, {} if self.device is None else {"machine": self.device})


@final
@dataclass
class Cells:
    """One row while it is read: each value that cannot be used leaves a line in `problems`, and 1 in its place."""

    record: Record
    problems: list[str] = field(default_factory=list)

    def text(self, column: str) -> str:
        return self.record.cells[column]

    def wrong(self, problem: str) -> None:
        self.problems.append(f"line {self.record.line}: {problem}")

    def whole(self, column: str, *, least: int = 1) -> int:
        """A whole number, as 3 or 3.0."""
        text = self.text(column)
        if _WHOLE.fullmatch(text) and int(float(text)) >= least:
            return int(float(text))
        self.wrong(f"{column}: got {text!r}; allowed: a whole number from {least} to 999999")
        return 1

    def number(self, column: str) -> float:
        """A finite number of any sign."""
        try:
            number = float(self.text(column))
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
        self.wrong(f"{column}: got {self.text(column)!r}; allowed: a finite number, with a point")
        return 1.0

    def time(self, column: str) -> float:
        """A finite number above 0."""
        value = self.number(column)
        if value > 0:
            return value
        self.wrong(f"{column}: got {self.text(column)}; allowed: a number above 0; leave out what was not measured")
        return 1.0

    def flag(self, column: str) -> bool:
        """0 or 1; empty is 0."""
        text = self.text(column)
        if text not in ("", "0", "0.0", "1", "1.0"):
            self.wrong(f"{column}: got {text!r}; allowed: 0, 1 or empty")
        return text in ("1", "1.0")

    def shape(self, column: str) -> Shape:
        """Height, width and channels, as 112x112x16; one number is a vector."""
        text = self.text(column)
        found = _SHAPE.fullmatch(f"1x1x{text}" if "x" not in text else text)
        height, width, channels = map(int, found.groups()) if found else (0, 0, 0)
        if min(height, width, channels) >= 1:
            return channels, height, width
        self.wrong(f"{column}: got {text!r}; allowed: HEIGHTxWIDTHxCHANNELS, as 112x112x16")
        return 1, 1, 1

    def possible(self, operations: Iterable[Operation]) -> tuple[Operation, ...]:
        """The operations, each checked unless the row is wrong already."""
        operations = tuple(operations)
        for operation in operations if not self.problems else ():
            try:
                parse_operation(operation.notation)
            except InvalidInputError as error:
                self.wrong(str(error))
        return operations

    def same_macs(self, column: str, operations: Iterable[Operation]) -> None:
        """Checks the file's number of multiply-adds, where it has one, against that of `operations`."""
        if not self.text(column) or self.problems:
            return
        given, own = self.number(column), sum(operation.macs for operation in operations)
        if given != own:
            self.wrong(f"{column}: got {given:.10g}, but its shapes make {own}; is a size or the number wrong?")


def read_rows(
    path: Path, columns: Sequence[str], read: Callable[[Cells], Block | None], *, device: str | None
) -> BlockTable:
    """A block of each row that `read` makes one of. The file must have `columns`; others are not looked at.

    Raises: InvalidInputError that lists missing columns, wrong values and repeated blocks, line by line.
    """
    file = read_csv(path)
    missing = [column for column in columns if column not in file.columns]
    if missing:
        raise refusal(path, [f"line 1: columns {missing} are missing (columns: {', '.join(file.columns)})"])
    blocks: dict[str, Block] = {}
    problems: list[str] = []
    for cells in map(Cells, file.records):
        block = read(cells)
        if block is not None and block.name in blocks:
            cells.wrong(f"{block.name} stands already in line {blocks[block.name].line}; keep one of them")
        if block is not None and not cells.problems:
            blocks[block.name] = block
        problems += cells.problems
    if problems or not blocks:
        raise refusal(path, problems or ["it has no block"])
    return BlockTable(Path(path), device, tuple(blocks.values()))


def no_device(path: Path, device: str | None, devices: Iterable[str]) -> InvalidInputError:
    """The error that names the devices of a file, of which `device` is none."""
    return InvalidInputError(f"device: got {device!r}; allowed: one of the devices of {path}: {', '.join(devices)}")


def device_column(path: Path, prefix: str, device: str | None) -> str:
    """The column of `device`'s times. Raises: InvalidInputError that names the file's devices if it is none."""
    columns = read_csv(path).columns
    devices = [column.removeprefix(prefix) for column in columns if column.startswith(prefix)]
    if device not in devices:
        raise no_device(path, device, devices)
    return f"{prefix}{device}"
