"""The table of FBNet's layers: what each operation of a layer takes beside the layer's `skip`.

A file has columns `layer op op_name in_hw cin cout stride` and, in milliseconds, `delta_ms_<device>`; `op_name`
is `k<kernel>_e<expansion>`, `_g2` with grouped pointwise convolutions, or `skip`.
Source of the format: HW-NAS-Bench (arXiv:2103.10584), whose FBNet latencies are sums of these differences.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hardware_models.importers.measured_blocks import Block, Whole, check_device, columns_of, mbconv, read_blocks
from hardware_models.measuring.csv_file import read_csv
from hardware_models.measuring.measurements import Measurements
from search_spaces.operation import Operation


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


def import_fbnet(path: Path, *, device: str | None) -> Measurements:
    """The blocks whose difference is their own time, because the skip of their layer does nothing."""
    file = read_csv(path)
    check_device(file, device, columns_of(file, "delta_ms_"))
    own = file.where(_is_beside_nothing)
    return read_blocks(own, FbnetBlock, key=["layer", "op"], time=f"delta_ms_{device}", device=device)


def _is_beside_nothing(cells: Mapping[str, str]) -> bool:
    return (
        cells.get("op_name") != "skip" and cells.get("cin") == cells.get("cout") and cells.get("stride") in ("1", "1.0")
    )
