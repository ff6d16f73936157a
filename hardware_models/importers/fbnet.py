"""The table of FBNet's layers: what each operation of a layer takes beside the layer's `skip`.

A file has columns `layer op op_name in_hw cin cout stride macs` and, in milliseconds, `delta_ms_<device>`; `op_name`
is `k<kernel>_e<expansion>`, `_g2` with grouped pointwise convolutions, or `skip`. A JSON file beside it gives the
latency of the network of skips.
Source of the format: HW-NAS-Bench (arXiv:2103.10584), whose FBNet latencies are such sums.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardware_models.importers.block_operations import mbconv
from hardware_models.importers.look_up_tables import (
    Block,
    BlockTable,
    Cells,
    checked_table,
    device_column,
    read_rows,
)
from hardware_models.latency_models.interpolation import Entry
from hardware_models.measuring.csv_file import refusal
from hardware_models.measuring.measurements import Measurements
from search_spaces.errors import InvalidInputError

COLUMNS = ("layer", "op", "op_name", "in_hw", "cin", "cout", "stride", "macs")
BASE_KEY = "cifar100_all_skip_latency_ms"
_NAME = re.compile(r"k([0-9]{1,2})_e([0-9]{1,2})(?:_g([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True)
class LayerTable:
    """A network takes `base_ms` and, for each layer, the difference of its operation: by (layer, operation).

    `standalone` are the blocks whose difference is their own time, because the skip of their layer does nothing.
    """

    base_ms: float
    difference_ms: Mapping[tuple[int, int], float]
    standalone: BlockTable

    def latency_ms(self, operations: Sequence[int]) -> float:
        """Milliseconds of the network that takes operation `operations[layer]` in each layer.

        Raises: InvalidInputError unless it names one operation of the table for every layer.
        """
        layers = 1 + max(layer for layer, _ in self.difference_ms)
        unknown = [pair for pair in enumerate(operations) if pair not in self.difference_ms]
        if len(operations) != layers or unknown:
            raise InvalidInputError(
                f"got {len(operations)} operations for {layers} layers; (layer, operation) not in the table: {unknown}"
            )
        return self.base_ms + sum(self.difference_ms[pair] for pair in enumerate(operations))


def import_fbnet(path: Path, *, device: str | None) -> Measurements:
    """The blocks of `device` that were measured alone. Beside the table lies `<name>_base.json` of its skips."""
    base_path = path.with_name(f"{path.stem}_base.json")
    return read_fbnet_layers(path, base_path, device=device).standalone.measurements("block")


def read_fbnet_layers(path: Path, base_path: Path, *, device: str | None) -> LayerTable:
    """The layers of `device`, and what its network of skips takes.

    Raises: InvalidInputError that lists what is wrong with a file, line by line, or names the devices that it has.
    """
    column = device_column(path, "delta_ms_", device)
    difference_ms: dict[tuple[int, int], float] = {}

    def read(cells: Cells) -> Block | None:
        layer, op = cells.whole("layer", least=0), cells.whole("op", least=0)
        if (layer, op) in difference_ms:
            cells.wrong(f"operation {op} of layer {layer} stands in an earlier line too; keep one")
        difference_ms[layer, op] = cells.number(column)
        return _standalone_block(cells, f"layer {layer} operation {op}", column)

    blocks = read_rows(path, (*COLUMNS, column), read)
    base_ms = _base_ms(base_path, device)
    missing = [layer for layer in range(max(layer for layer, _ in difference_ms)) if (layer, 0) not in difference_ms]
    if missing:
        raise refusal(path, [f"no operation 0 for the layers {missing}; layers are numbered from 0 without gaps"])
    return LayerTable(base_ms, difference_ms, checked_table(path, device, blocks))


def _standalone_block(cells: Cells, name: str, column: str) -> Block | None:
    """The block of a row, unless its time is against a skip that does something or it is that skip."""
    side, c_in, c_out = cells.whole("in_hw"), cells.whole("cin"), cells.whole("cout")
    stride, op_name = cells.whole("stride"), cells.text("op_name")
    found = _NAME.fullmatch(op_name)
    if found is None:
        if op_name != "skip":
            cells.wrong(f"op_name: got {op_name!r}; allowed: as k3_e6, k3_e1_g2 or skip")
        elif cells.number(column) != 0:
            cells.wrong(f"{column}: got {cells.text(column)}; a layer's skip differs by 0 from itself")
        return None
    kernel, expand, groups = (int(part or 1) for part in found.groups())
    if min(kernel, expand, groups) < 1:
        cells.wrong(f"op_name: got {op_name!r}; its numbers must be at least 1")
        return None
    shape = (c_in, side, side)
    block = mbconv(shape, c_out, hidden=c_in * expand, kernel=kernel, stride=stride, groups=groups)
    operations = cells.possible(block)
    cells.same_macs("macs", operations)
    if c_in != c_out or stride != 1:
        return None
    entry = Entry((f"k{kernel}", f"g{groups}"), (float(side), float(c_in), float(expand)), cells.time(column))
    return Block(name, entry, operations, cells.record.line)


def _base_ms(path: Path, device: str | None) -> float:
    try:
        by_device = json.loads(Path(path).read_text(encoding="utf-8"))[BASE_KEY]
        base_ms = by_device[device]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}; it gives the latency of the network of skips") from error
    except (json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInputError(
            f'{path} must be JSON as {{"{BASE_KEY}": {{"{device}": 2.84}}}}; got {type(error).__name__}: {error}'
        ) from error
    is_number = isinstance(base_ms, int | float) and not isinstance(base_ms, bool)
    # A sum of differences may leave a rounding error where the base is 0.
    if not is_number or not math.isfinite(base_ms) or base_ms < -1e-9:
        raise InvalidInputError(f"{path}: {BASE_KEY}.{device}: got {base_ms!r}; allowed: a number of at least 0")
    return max(0.0, float(base_ms))
