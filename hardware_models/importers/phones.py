"""The table of blocks that nn-Meter measured on phones.

A file has columns `kind key hw cin cout expand stride kernel se v_scale macs` and, in milliseconds, `ms_<device>`.
`hw` is the side of the input; `macs` counts the convolutions without squeeze-excite; a cell may be empty where its
column means nothing.
Source of the format: microsoft/nn-Meter, branch dev/hybrid-transformer (MIT), keys `conv_<hw>_<cin>_...` taken apart.
"""

from collections.abc import Callable
from pathlib import Path

from hardware_models.importers.block_operations import eighths, mbconv
from hardware_models.importers.look_up_tables import (
    Block,
    BlockTable,
    Cells,
    device_column,
    read_rows,
)
from hardware_models.latency_models.interpolation import Category, Entry
from hardware_models.measuring.measurements import Measurements
from search_spaces.operation import Operation

COLUMNS = ("kind", "key", "hw", "cin", "cout", "expand", "stride", "kernel", "se", "v_scale", "macs")
HEAD_CHANNELS = 16  # of one attention head: times of attention blocks rise in steps of 16 channels
DOWNSAMPLE_KERNEL = 3  # of `transds`, which the table does not give

# Category, sizes, and operations of a row; what it says about multiply-adds is checked on the way.
Reading = tuple[Category, tuple[float, ...], tuple[Operation, ...]]


def import_phones(path: Path, *, device: str | None) -> Measurements:
    """The blocks of `device` that consist of operations a space may have."""
    return read_phone_blocks(path, device=device).measurements("block")


def read_phone_blocks(path: Path, *, device: str | None) -> BlockTable:
    """The blocks of the table, with the times of `device`.

    Attention and feed-forward blocks come without operations: no space has all of theirs.
    Raises: InvalidInputError that lists what is wrong with the file, line by line, or names the devices that it has.
    """
    column = device_column(path, "ms_", device)

    def read(cells: Cells) -> Block | None:
        kind, ms = cells.text("kind"), cells.time(column)
        if kind not in _READERS:
            cells.wrong(f"kind: got {kind!r}; allowed: {', '.join(_READERS)}")
            return None
        category, sizes, operations = _READERS[kind](cells, cells.whole("hw"), cells.whole("cin"), cells.whole("cout"))
        entry = Entry((kind, *category), tuple(map(float, sizes)), ms)
        return Block(cells.text("key"), entry, cells.possible(operations), cells.record.line)

    return read_rows(path, (*COLUMNS, column), read, device=device)


def _first_convolution(cells: Cells, side: int, c_in: int, c_out: int) -> Reading:
    kernel, stride = cells.whole("kernel"), cells.whole("stride")
    half = -(-side // stride)
    operation = Operation("conv", (c_in, side, side), (c_out, half, half), kernel, stride)
    cells.same_macs("macs", [operation])
    return (f"k{kernel}", f"s{stride}"), (side, c_in, c_out), (operation,)


def _mbconv(cells: Cells, side: int, c_in: int, c_out: int) -> Reading:
    expand, kernel, stride = cells.whole("expand"), cells.whole("kernel"), cells.whole("stride")
    has_squeeze, hidden, shape = cells.flag("se"), c_in * expand, (c_in, side, side)
    squeezed = eighths(hidden / 4) if has_squeeze else None
    cells.same_macs("macs", mbconv(shape, c_out, hidden=hidden, kernel=kernel, stride=stride))
    operations = mbconv(shape, c_out, hidden=hidden, kernel=kernel, stride=stride, squeezed=squeezed)
    category = (f"k{kernel}", f"s{stride}", "se" if has_squeeze else "nose")
    return category, (side, c_in, c_out, expand), tuple(operations)


def _downsampling(cells: Cells, side: int, c_in: int, c_out: int) -> Reading:
    expand, stride = cells.whole("expand"), cells.whole("stride")
    hidden = c_in * expand
    operations = mbconv(
        (c_in, side, side),
        c_out,
        hidden=hidden,
        kernel=DOWNSAMPLE_KERNEL,
        stride=stride,
        squeezed=eighths(hidden / 4),
    )
    return (f"s{stride}",), (side, c_in, c_out, expand), tuple(operations)


def _feed_forward(cells: Cells, side: int, c_in: int, c_out: int) -> Reading:
    expand, shape = cells.whole("expand"), (c_in, side, side)
    wide = (c_in * expand, side, side)
    operations = (Operation("conv", shape, wide), Operation("conv", wide, shape), Operation("add", shape, shape))
    cells.same_macs("macs", operations)
    # Their layer norms are no operation of a space; without them, fits price these blocks a quarter too low.
    return (), (side, c_in, expand), ()


def _attention(cells: Cells, side: int, c_in: int, c_out: int) -> Reading:
    return (), (side, c_in, max(1, c_in // HEAD_CHANNELS), cells.whole("v_scale")), ()


def _pooling_head(cells: Cells, side: int, c_in: int, c_out: int) -> Reading:
    expand = cells.whole("expand")
    wide, one = (c_in * expand, side, side), (c_in * expand, 1, 1)
    operations = (
        Operation("conv", (c_in, side, side), wide),
        Operation("global_pool", wide, one),
        Operation("linear", one, (c_out, 1, 1)),  # written as a convolution of a 1x1 map, which is the same
    )
    return (), (side, c_in, c_out, expand), operations


_READERS: dict[str, Callable[[Cells, int, int, int], Reading]] = {
    "firstconv": _first_convolution,
    "conv": _mbconv,
    "transds": _downsampling,
    "transffn": _feed_forward,
    "transattn": _attention,
    "mbpool": _pooling_head,
}
