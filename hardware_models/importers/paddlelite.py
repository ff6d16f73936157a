"""Paddle-Lite's table of convolutions, in microseconds.

A file has columns `op n cin h w cout groups kernel pad stride dilation macs us`; `h` and `w` are those of the input.
Source of the format: PaddlePaddle/PaddleDetection, slim/nas/latency_855.txt (Apache-2.0), its fields by name.
"""

from pathlib import Path

from hardware_models.importers.look_up_tables import Block, BlockTable, Cells, read_rows
from hardware_models.latency_models.interpolation import Entry
from hardware_models.latency_models.operation_entries import position
from hardware_models.measuring.measurements import Measurements, without_devices
from search_spaces.operation import Operation

COLUMNS = ("op", "n", "cin", "h", "w", "cout", "groups", "kernel", "pad", "stride", "dilation", "macs", "us")


def import_paddlelite(path: Path, *, device: str | None) -> Measurements:
    """The convolutions of a table, each an operation."""
    without_devices(device)
    return read_paddlelite(path).measurements("operation")


def read_paddlelite(path: Path) -> BlockTable:
    """The convolutions of a table, one operation each, their times in ms. Names are those of `Operation.notation`.

    Raises: InvalidInputError that lists what is wrong with the file, line by line.
    """
    return read_rows(path, COLUMNS, _convolution, device=None)


def _convolution(cells: Cells) -> Block | None:
    for column, allowed in (("op", "conv"), ("n", "1"), ("dilation", "1")):
        if cells.text(column) != allowed:
            cells.wrong(f"{column}: got {cells.text(column)!r}; allowed: {allowed}")
    c_in, height, width, c_out = (cells.whole(column) for column in ("cin", "h", "w", "cout"))
    groups, kernel, stride = (cells.whole(column) for column in ("groups", "kernel", "stride"))
    pad, ms = cells.whole("pad", least=0), cells.time("us") / 1e3
    out_height, out_width = ((side + 2 * pad - kernel) // stride + 1 for side in (height, width))
    if min(out_height, out_width) < 1:
        cells.wrong(f"kernel: {kernel} is larger than the padded map")
    if c_in % groups or c_out % groups:
        cells.wrong(f"groups: {groups} do not divide {c_in} and {c_out} channels")
    if cells.problems:
        return None
    operation = Operation("conv", (c_in, height, width), (c_out, out_height, out_width), kernel, stride, groups)
    cells.same_macs("macs", [operation])
    operations = cells.possible([operation])
    return Block(operation.notation, Entry(*position(operation), ms), operations, cells.record.line)
