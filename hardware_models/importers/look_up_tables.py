"""Look-up tables of measured blocks, read from CSV: what each block consists of, and how long it took."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from hardware_models.latency_models.interpolation import Category, Entry, Sizes
from hardware_models.measuring.csv_file import Record, read_csv, refusal
from hardware_models.measuring.measurements import MeasuredRow, Measurements, Subject
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, Shape, parse_operation

OFF_BY = 100.0  # a time this far from those of blocks of its size is in another unit; real tables stay within 8
NEIGHBOURS = 20  # of a block among blocks ordered by size, to compare its time with; fewer than half are not compared
# Multiply-adds per second of half the blocks, at batch size 1: below, a microcontroller; above, more than GPUs reach.
SLOWEST_PER_S, FASTEST_PER_S = 1e6, 3e12
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


def read_rows(path: Path, columns: Sequence[str], read: Callable[[Cells], Block | None]) -> list[Block]:
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
    if problems:
        raise refusal(path, problems)
    return list(blocks.values())


def checked_table(path: Path, device: str | None, blocks: Sequence[Block]) -> BlockTable:
    """The table of these blocks. Raises: InvalidInputError if there is none, or a time is visibly in another unit."""
    if not blocks:
        raise InvalidInputError(f"{path} has no block for {device}")
    problems = list(unit_problems(blocks))
    if problems:
        raise refusal(path, problems)
    return BlockTable(path, device, tuple(blocks))


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


def unit_problems(blocks: Sequence[Block]) -> Iterator[str]:
    """Times that are off by `OFF_BY` beside those of the blocks next in size, and a table that is off as a whole."""
    sized = sorted(((_amount(block), block) for block in blocks if block.operations), key=lambda pair: pair[0])
    log_ms_N = np.log([block.ms for _, block in sized])
    log_amount_N = np.log([amount for amount, _ in sized])
    for i, (_, block) in enumerate(sized):
        low = max(0, min(i - NEIGHBOURS // 2, len(sized) - NEIGHBOURS - 1))
        others = np.delete(np.arange(low, min(low + NEIGHBOURS + 1, len(sized))), i - low)
        if len(others) < NEIGHBOURS // 2:
            break
        # By time and by time per size: a small block among larger ones is off by one of them alone.
        by_time = log_ms_N[i] - np.median(log_ms_N[others])
        by_speed = log_ms_N[i] - log_amount_N[i] - np.median((log_ms_N - log_amount_N)[others])
        off_by = math.exp(min(abs(by_time), abs(by_speed)))
        if off_by >= OFF_BY and by_time * by_speed > 0:
            usual_ms = math.exp(log_ms_N[i] - by_time)
            yield (
                f"line {block.line}: {block.name} takes {block.ms:.4g} ms, blocks of its size about {usual_ms:.4g} ms: "
                f"{off_by:.0f} times off; is the unit right?"
            )
    per_s = [sum(op.macs for op in block.operations) / (block.ms * 1e-3) for _, block in sized]
    typical_per_s = float(np.median(per_s)) if per_s else 0.0
    if typical_per_s and not SLOWEST_PER_S <= typical_per_s <= FASTEST_PER_S:
        yield (
            f"half of the blocks run at {typical_per_s:.2g} multiply-adds per second or more; allowed: "
            f"{SLOWEST_PER_S:g} to {FASTEST_PER_S:g}; are the times in another unit than the column says?"
        )


def _amount(block: Block) -> int:
    return sum(op.macs + op.in_elements + op.out_elements for op in block.operations)
