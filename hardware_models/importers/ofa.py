"""The tables of ProxylessNAS and of Once-for-all (OFA) networks.

A file has columns `source device op input output expand kernel stride idskip se hs mean_ms`, shapes as
HEIGHTxWIDTHxCHANNELS. `expand` is the ratio of hidden to input channels (ProxylessNAS) or, where it is at least the
input's channels, the hidden channels themselves (Once-for-all). A ratio of 1 has no expansion.
Source of the format: mit-han-lab/proxylessnas (arXiv:1812.00332), mit-han-lab/once-for-all (arXiv:1908.09791).
"""

from pathlib import Path

from hardware_models.importers.block_operations import eighths, mbconv
from hardware_models.importers.look_up_tables import Block, BlockTable, Cells, no_device, read_rows
from hardware_models.latency_models.interpolation import Entry
from hardware_models.measuring.csv_file import read_csv
from hardware_models.measuring.measurements import Measurements
from search_spaces.operation import Operation, Shape

COLUMNS = ("source", "device", "op", "input", "output", "expand", "kernel", "stride", "idskip", "se", "hs", "mean_ms")
FIRST_KERNEL = 3  # of `Conv`, whose kernel the tables leave out: both papers' networks begin with a 3x3 convolution


def import_ofa(path: Path, *, device: str | None) -> Measurements:
    """The blocks of `device` that consist of operations a space may have."""
    return read_ofa_blocks(path, device=device).measurements("block")


def read_ofa_blocks(path: Path, *, device: str | None) -> BlockTable:
    """The blocks of `device`, of all its sources: one table for each input size is one source.

    Raises: InvalidInputError that lists what is wrong with the file, line by line, or names the devices that it has.
    """
    devices = {record.cells.get("device", ""): None for record in read_csv(path).records}
    if device not in devices:
        raise no_device(path, device, devices)
    return read_rows(
        path, COLUMNS, lambda cells: _block(cells) if cells.text("device") == device else None, device=device
    )


def _block(cells: Cells) -> Block | None:
    op, ms = cells.text("op"), cells.time("mean_ms")
    in_shape, out_shape = cells.shape("input"), cells.shape("output")
    if op != "expanded_conv" and op not in _SINGLE:
        cells.wrong(f"op: got {op!r}; allowed: expanded_conv, {', '.join(_SINGLE)}")
        return None
    name = ":".join(cells.text(column) for column in COLUMNS[:-1] if cells.text(column))
    if op == "expanded_conv":
        entry, operations = _inverted_residual(cells, in_shape, out_shape, ms)
    else:
        operations = _SINGLE[op](in_shape, out_shape)
        entry = Entry((op,), (in_shape[1], in_shape[0], out_shape[0]), ms)
    if not cells.problems and operations[-1].out_shape != out_shape:
        cells.wrong(f"output: got {cells.text('output')!r}; the block makes {operations[-1].out_shape} of its input")
    return Block(name, entry, cells.possible(operations), cells.record.line)


def _inverted_residual(
    cells: Cells, in_shape: Shape, out_shape: Shape, ms: float
) -> tuple[Entry, tuple[Operation, ...]]:
    c_in, side, _ = in_shape
    expand, kernel, stride = cells.whole("expand"), cells.whole("kernel"), cells.whole("stride")
    is_residual, has_squeeze, has_swish = cells.flag("idskip"), cells.flag("se"), cells.flag("hs")
    c_mid = expand if expand >= c_in > 1 else expand * c_in
    operations = tuple(
        mbconv(
            in_shape,
            out_shape[0],
            hidden=None if expand == 1 else c_mid,
            kernel=kernel,
            stride=stride,
            squeezed=eighths(c_mid / 4) if has_squeeze else None,
        )
    )
    if is_residual and in_shape != out_shape:
        cells.wrong(f"idskip: got 1, but {cells.text('input')} cannot be added to {cells.text('output')}")
    if not is_residual and operations[-1].kind == "add":
        operations = operations[:-1]
    flags = f"skip{is_residual:d} se{has_squeeze:d} hs{has_swish:d}"
    category = ("expanded_conv", f"k{kernel}", f"s{stride}", flags, "plain" if expand == 1 else "expanded")
    return Entry(category, (side, c_in, out_shape[0], c_mid), ms), operations


def _first_convolution(in_shape: Shape, out_shape: Shape) -> tuple[Operation, ...]:
    return (Operation("conv", in_shape, out_shape, FIRST_KERNEL, stride=max(1, -(-in_shape[1] // out_shape[1]))),)


def _classifier(in_shape: Shape, out_shape: Shape) -> tuple[Operation, ...]:
    """A linear layer, after a pool where its input is a map."""
    one = (in_shape[0], 1, 1)
    linear = Operation("linear", one, out_shape)
    return (linear,) if in_shape == one else (Operation("global_pool", in_shape, one), linear)


_SINGLE = {
    "Conv": _first_convolution,
    "Conv_1": lambda in_shape, out_shape: (Operation("conv", in_shape, out_shape),),
    "Conv_2": lambda in_shape, out_shape: (Operation("conv", in_shape, out_shape),),
    "AvgPool2D": lambda in_shape, out_shape: (Operation("global_pool", in_shape, out_shape),),
    "Logits": _classifier,
}
