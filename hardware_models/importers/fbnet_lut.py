"""The tables of FBNet's operations: those of HW-NAS-Bench, and differences to the layer's `skip` in CSV.

HW-NAS-Bench ships one pickle, `HW-NAS-Bench-v1_0.pickle`: under `fbnet`, a table `<device>_latency` of milliseconds by
names as `ConvBlock_H32_W32_Cin16_Cout16_exp1_kernel3_stride1_group1`, 0 for what a device does not count.
A CSV has columns `layer op op_name in_hw cin cout stride` and, in milliseconds, `delta_ms_<device>`; `op_name`
is `k<kernel>_e<expansion>`, `_g2` with grouped pointwise convolutions, or `skip`: what each operation takes beside it.
Source of both: HW-NAS-Bench (arXiv:2103.10584, GATECH-EIC/HW-NAS-Bench, hw_nas_bench_api.py).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from hardware_models.importers.measured_blocks import Block, Whole, check_device, columns_of, mbconv, read_blocks
from hardware_models.importers.plain_pickle import read_pickle
from hardware_models.measuring.csv_file import CsvFile, read_csv, refusal
from hardware_models.measuring.foreign_text import read_bytes
from hardware_models.measuring.measurements import Measurements
from search_spaces.operation import Operation

_PICKLE = b"\x80"
_NAME = re.compile(r"(?P<kind>[A-Za-z]+)(?:_(?:H|W|Cin|Cout|exp|kernel|stride|group)[0-9]+)+")


class FbnetBlock(Block):
    """One operation of one layer."""

    layer: str
    op: str
    op_name: Annotated[str, Field(pattern=r"^k[1-9][0-9]?_e[1-9][0-9]?(_g[1-9][0-9]?)?$")]
    in_hw: Whole
    cin: Whole
    cout: Whole
    stride: Whole

    @property
    def name(self) -> str:
        return f"layer {self.layer} operation {self.op}"

    def operations(self) -> Iterable[Operation]:
        kernel, expand, groups = map(int, (*re.findall(r"[0-9]+", self.op_name), 1)[:3])
        shape = (self.cin, self.in_hw, self.in_hw)
        return mbconv(shape, self.cout, hidden=self.cin * expand, kernel=kernel, stride=self.stride, groups=groups)


class HwNasBlock(Block):
    """A block, or a layer before or after the blocks."""

    key: str
    kind: Literal["ConvBlock", "ConvNorm", "AvgP", "FC", "Skip"]
    h: Whole = 1
    w: Whole = 1
    cin: Whole
    cout: Whole
    exp: Whole | None = None
    kernel: Whole | None = None
    stride: Whole = 1
    group: Whole = 1

    @property
    def name(self) -> str:
        return self.key

    def operations(self) -> Iterable[Operation]:
        """Of a skip and of a pool that leaves more than a pixel none."""
        shape = (self.cin, self.h, self.w)
        if self.kind == "ConvBlock":
            expand, kernel = self.need("exp"), self.need("kernel")
            yield from mbconv(
                shape, self.cout, hidden=self.cin * expand, kernel=kernel, stride=self.stride, groups=self.group
            )
        elif self.kind == "ConvNorm":
            sides = (-(-self.h // self.stride), -(-self.w // self.stride))
            yield Operation("conv", shape, (self.cout, *sides), self.need("kernel"), self.stride, self.group)
        elif self.kind == "AvgP" and self.need("kernel") == self.h == self.w:
            yield Operation("global_pool", shape, (self.cin, 1, 1))
        elif self.kind == "FC":
            yield Operation("linear", shape, (self.cout, 1, 1))


def import_fbnet(path: Path, *, device: str | None) -> Measurements:
    """HW-NAS-Bench's blocks of a device; of a CSV, those whose difference is their own time.

    A difference is that where the skip of the layer does nothing.
    """
    content = read_bytes(path)
    if content.startswith(_PICKLE):
        file = _hw_nas_bench(path, read_pickle(path, content), device)
        return read_blocks(file, HwNasBlock, key=["key"], time="time", constants={"machine": str(device)})
    file = read_csv(path)
    check_device(file, device, columns_of(file, "delta_ms_"))
    own = file.where(_is_beside_nothing)
    return read_blocks(
        own, FbnetBlock, key=["layer", "op"], time=f"delta_ms_{device}", constants={"machine": str(device)}
    )


def _hw_nas_bench(path: Path, content: Any, device: str | None) -> CsvFile:
    """The table of a device as rows; its lines are the numbers of its entries."""
    tables = content.get("fbnet") if isinstance(content, dict) else None
    if not isinstance(tables, dict):
        raise refusal(path, ["it has no part `fbnet`, which HW-NAS-Bench's pickle has"])
    names = [name.removesuffix("_latency") for name in tables if isinstance(name, str) and name.endswith("_latency")]
    columns = tuple(name for name in HwNasBlock.model_fields if name != "line")
    check_device(CsvFile(path, columns, ()), device, names)
    table = tables[f"{device}_latency"]
    if not isinstance(table, dict):
        raise refusal(path, [f"fbnet.{device}_latency: got {type(table).__name__}; allowed: milliseconds by name"])
    records = [(number, _cells(str(key)) | {"time": str(time)}) for number, (key, time) in enumerate(table.items(), 1)]
    return CsvFile(path, columns, tuple(r for r in records if r[1]["time"] not in ("0", "0.0")), part="entry")


def _cells(key: str) -> dict[str, str]:
    named = _NAME.fullmatch(key)
    parts = re.findall(r"_([A-Za-z]+)([0-9]+)", key) if named else ()
    return {"key": key, "kind": named["kind"] if named else key, **{name.lower(): value for name, value in parts}}


def _is_beside_nothing(cells: Mapping[str, str]) -> bool:
    return (
        cells.get("op_name") != "skip" and cells.get("cin") == cells.get("cout") and cells.get("stride") in ("1", "1.0")
    )
