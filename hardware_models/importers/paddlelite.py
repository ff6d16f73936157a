"""The tables of Paddle-Lite: of single operations, in three layouts.

PaddleDetection's and PaddleSlim's text (`latency_855.txt`): a first line `op_type<tab>855<tab>us`, then
`conv,bias,relu,n,cin,h,w,cout,groups,kernel,pad,stride,dilation<tab>time`. Paddle-Lite's own text
(`latency_lookup_table.txt`): the device, then columns between tabs, in milliseconds; the `output_dims` that it writes
for convolutions are wrong and not used. A CSV: columns `op n cin h w cout groups kernel pad stride dilation us`.
`h` and `w` are those of the input.
Source: PaddlePaddle/PaddleDetection, slim/nas/latency_855.txt; PaddlePaddle/PaddleSlim, docs, table_latency;
PaddlePaddle/Paddle-Lite, lite/tests/benchmark (all Apache-2.0).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hardware_models.importers.measured_blocks import Block, Flag, Whole, read_blocks
from hardware_models.measuring.csv_file import CsvFile, read_csv, refusal
from hardware_models.measuring.foreign_text import lines_of, read_text
from hardware_models.measuring.measurements import Measurements, without_devices
from search_spaces.operation import Operation

KEY = ("op", "n", "cin", "h", "w", "cout", "groups", "kernel", "pad", "stride", "pool", "global_pool")
PER_MS = {"us": 1e3, "ms": 1.0}
SLIM_FIELDS = {  # of each operation in PaddleSlim's text
    "conv": "bias relu n cin h w cout groups kernel pad stride dilation",
    "pooling": "global_pool n cin h w kernel pad stride ceil pool",
    "batch_norm": "active n cin h w",
    "activation": "n cin h w",
    "eltwise": "n cin h w",
    "softmax": "axis n cin h w",
}
SLIM_POOLS = {"1": "max", "2": "avg", "3": "avg"}
LITE_FIELDS = {
    **{"ch_out": "cout", "group": "groups", "pooling_type": "pool", "flag_global": "global_pool"},
    **{"ceil_mode": "ceil", "param_dim": "cout"},
}
LITE_COLUMNS = 7


class PaddleOperation(Block):
    """One operation; its name is its notation."""

    op: Literal["conv", "fc", "pooling", "batch_norm", "batchnorm", "activation", "eltwise", "softmax"]
    n: Literal["1"]
    cin: Whole
    h: Whole
    w: Whole
    cout: Whole | None = None
    groups: Whole = 1
    kernel: Whole | None = None
    pad: Annotated[int, Field(ge=0, le=999_999)] = 0
    stride: Whole = 1
    dilation: Literal["1"] = "1"
    global_pool: Flag = 0
    ceil: Literal["0"] = "0"
    pool: Literal["max", "avg"] = "avg"
    dtype: Literal["float"] = "float"

    @property
    def name(self) -> str:
        return next((operation.notation for operation in self.operations()), self.op)

    def operations(self) -> Iterable[Operation]:
        """Of activations, softmax and global maxima none; nor of `eltwise`, which the tables do not tell apart."""
        shape = (self.cin, self.h, self.w)
        if self.op == "conv":
            yield Operation("conv", shape, self._out(self.need("cout")), self.need("kernel"), self.stride, self.groups)
        elif self.op == "fc":
            yield Operation("linear", shape, (self.need("cout"), self.h, self.w))
        elif self.op in ("batch_norm", "batchnorm"):
            yield Operation("batch_norm", shape, shape)
        elif self.op == "pooling" and not self.global_pool:
            yield Operation(f"{self.pool}_pool", shape, self._out(self.cin), self.need("kernel"), self.stride)
        elif self.op == "pooling" and self.pool == "avg":
            yield Operation("global_pool", shape, (self.cin, 1, 1))

    def _out(self, channels: int) -> tuple[int, int, int]:
        height, width = ((side + 2 * self.pad - self.need("kernel")) // self.stride + 1 for side in (self.h, self.w))
        return channels, height, width


def import_paddlelite(path: Path, *, device: str | None) -> Measurements:
    """The operations of a table, of one device."""
    without_devices(device)
    lines = [(number, text) for number, text in enumerate(lines_of(read_text(path)), start=1) if text.strip()]
    names = [_between_tabs(text) for _, text in lines]
    head = next((position for position, cells in enumerate(names) if cells[0] == "op_name"), None)
    if head is not None:
        return _read(_table(path, lines[head + 1 :], _lite_cells), "ms", _stated(names[:head]))
    if not lines or len(names[0]) == 1:
        return _read(read_csv(path).renamed("us", "time"), "us", {})
    if len(names[0]) != 3 or names[0][0] != "op_type" or names[0][2] not in PER_MS:
        got = f"got {lines[0][1]!r}; allowed: op_type, the device, and us or ms, with tabs between"
        raise refusal(path, [f"line {lines[0][0]}: {got}"])
    return _read(_table(path, lines[1:], _slim_cells), names[0][2], {"machine": names[0][1]})


def _read(file: CsvFile, unit: str, constants: Mapping[str, str]) -> Measurements:
    per_ms = PER_MS[unit]
    return read_blocks(
        file, PaddleOperation, key=KEY, time="time", per_ms=per_ms, subject="operation", constants=constants
    )


def _table(
    path: Path, lines: Sequence[tuple[int, str]], cells_of: Callable[[Sequence[str]], dict[str, str]]
) -> CsvFile:
    """The rows of a text with tabs. Raises: InvalidInputError that lists the damaged lines."""
    records, problems = [], []
    for number, text in lines:
        try:
            records.append((number, cells_of(_between_tabs(text))))
        except ValueError as error:
            problems.append(f"line {number}: {error}; is it damaged?")
    if problems:
        raise refusal(path, problems)
    return CsvFile(path, tuple(name for name in PaddleOperation.model_fields if name != "line"), tuple(records))


def _between_tabs(text: str) -> list[str]:
    return [cell.strip() for cell in text.rstrip().split("\t")]


def _slim_cells(cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != 2:
        raise ValueError(f"{len(cells)} values between tabs; allowed: an operation and its time")
    op, *values = cells[0].split(",")
    if op not in SLIM_FIELDS:
        raise ValueError(f"{op!r} is no operation of such a table; allowed: {', '.join(SLIM_FIELDS)}")
    fields = SLIM_FIELDS[op].split()
    if len(values) != len(fields):
        raise ValueError(f"{op} with {len(values)} numbers; allowed: {len(fields)}, {', '.join(fields)}")
    row = {"op": op, "time": cells[1], **dict(zip(fields, values, strict=True))}
    return row | ({"pool": SLIM_POOLS.get(row["pool"], row["pool"])} if "pool" in row else {})


def _lite_cells(cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != LITE_COLUMNS:
        raise ValueError(f"{len(cells)} values between tabs; allowed: {LITE_COLUMNS}, the last one the mean in ms")
    op, dims, _, parameters, *_, mean = cells
    sizes = dims.strip("[]").split()
    if op == "fc":  # rows and columns of a matrix: positions and features
        sizes = ["1", *reversed(sizes), "1"]
    if len(sizes) != 4:
        raise ValueError(f"{op} with dimensions {dims}; allowed: [n c h w], of fc [rows columns]")
    row = dict(zip(("n", "cin", "h", "w"), sizes, strict=True)) | {"op": op, "time": mean}
    for name, _, value in (part.partition("=") for part in parameters.strip("() ").split(",")):
        row[LITE_FIELDS.get(name.strip(), name.strip())] = _same(value.strip())
    return row | ({"cout": row["cout"].split("x")[-1]} if op == "fc" and "cout" in row else {})


def _same(text: str) -> str:
    """One number for several that are the same, as of a 3x3 kernel or of padding [1 1 1 1]."""
    numbers = set(re.findall(r"[0-9]+", text))
    return numbers.pop() if len(numbers) == 1 and re.fullmatch(r"\[?[0-9]+(?:[x ][0-9]+)*\]?", text) else text


def _stated(names: Sequence[Sequence[str]]) -> dict[str, str]:
    """What the first lines say of the device."""
    if len(names) != 2:
        return {"statistic": "mean"}
    stated = dict(zip(names[0], names[1], strict=False))
    threads = stated.get("thread_num", "")
    known = {"machine": stated.get("dev_info", ""), "threads": threads if threads.isdecimal() else ""}
    return {"statistic": "mean", **{key: value for key, value in known.items() if value}}
