"""The table of FBNet's layers: what each operation of a layer takes beside the layer's `skip`.

A file has columns `layer op op_name in_hw cin cout stride macs` and, in milliseconds, `delta_ms_<device>`; `op_name`
is `k<kernel>_e<expansion>`, `_g2` with grouped pointwise convolutions, or `skip`.
Source of the format: HW-NAS-Bench (arXiv:2103.10584), whose FBNet latencies are sums of these differences.
"""

import re
from pathlib import Path

from hardware_models.importers.block_operations import mbconv
from hardware_models.importers.look_up_tables import Block, BlockTable, Cells, device_column, read_rows
from hardware_models.latency_models.interpolation import Entry
from hardware_models.measuring.measurements import Measurements

COLUMNS = ("layer", "op", "op_name", "in_hw", "cin", "cout", "stride", "macs")
_NAME = re.compile(r"k([1-9][0-9]?)_e([1-9][0-9]?)(?:_g([1-9][0-9]?))?")


def import_fbnet(path: Path, *, device: str | None) -> Measurements:
    """The blocks whose difference is their own time, because the skip of their layer does nothing."""
    return read_fbnet_blocks(path, device=device).measurements("block")


def read_fbnet_blocks(path: Path, *, device: str | None) -> BlockTable:
    """Raises: InvalidInputError that lists what is wrong with the file, line by line, or names its devices."""
    column = device_column(path, "delta_ms_", device)
    return read_rows(path, (*COLUMNS, column), lambda cells: _block(cells, column), device=device)


def _block(cells: Cells, column: str) -> Block | None:
    """The block of a row, unless its time is against a skip that does something or it is that skip."""
    side, c_in, c_out = cells.whole("in_hw"), cells.whole("cin"), cells.whole("cout")
    stride, op_name = cells.whole("stride"), cells.text("op_name")
    found = _NAME.fullmatch(op_name)
    if found is None:
        if op_name != "skip":
            cells.wrong(f"op_name: got {op_name!r}; allowed: as k3_e6, k3_e1_g2 or skip")
        return None
    kernel, expand, groups = (int(part or 1) for part in found.groups())
    block = mbconv((c_in, side, side), c_out, hidden=c_in * expand, kernel=kernel, stride=stride, groups=groups)
    operations = cells.possible(block)
    cells.same_macs("macs", operations)
    if c_in != c_out or stride != 1:
        return None
    entry = Entry((f"k{kernel}", f"g{groups}"), (float(side), float(c_in), float(expand)), cells.time(column))
    name = f"layer {cells.whole('layer', least=0)} operation {cells.whole('op', least=0)}"
    return Block(name, entry, operations, cells.record.line)
