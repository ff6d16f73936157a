"""The tables of ProxylessNAS and of Once-for-all (OFA) networks.

They ship YAML of one device (`mobile_trim.yaml`, `<size>_lookup_table.yaml`): entries as
`expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0` with `mean` in milliseconds. A CSV
has the same as columns, `source device op input output expand kernel stride idskip se hs mean_ms`. Shapes are
HEIGHTxWIDTHxCHANNELS. `expand` is the ratio of hidden to input channels (ProxylessNAS) or, where it is at least the
input's channels, the hidden channels themselves (Once-for-all). A ratio of 1 has no expansion.
Source of the format: mit-han-lab/proxylessnas (arXiv:1812.00332), mit-han-lab/once-for-all (arXiv:1908.09791), whose
files are at han-cai/files.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from hardware_models.importers.mapping_file import read_mapping
from hardware_models.importers.measured_blocks import (
    Block,
    Flag,
    MapShape,
    Whole,
    check_device,
    eighths,
    mbconv,
    read_blocks,
)
from hardware_models.measuring.csv_file import read_csv
from hardware_models.measuring.measurements import Measurements, without_devices
from search_spaces.operation import Operation

FIRST_KERNEL = 3  # of `Conv`, whose kernel the tables leave out: both papers' networks begin with a 3x3 convolution
_NAME = re.compile(r"\w+(?:-(?:input|output|expand|kernel|stride|idskip|se|hs):[0-9x]+)+")
KEY = ("source", "op", "input", "output", "expand", "kernel", "stride", "idskip", "se", "hs")


class OfaBlock(Block):
    """A layer before or after the blocks, or an inverted residual."""

    source: str = ""
    device: str = ""
    op: Literal["Conv", "Conv_1", "Conv_2", "AvgPool2D", "Logits", "expanded_conv"]
    input: MapShape
    output: MapShape
    expand: Whole | None = None
    kernel: Whole | None = None
    stride: Whole | None = None
    idskip: Flag | None = None
    se: Flag | None = None
    hs: Flag | None = None

    @property
    def name(self) -> str:
        values = (getattr(self, column) for column in (*KEY[:1], "device", *KEY[1:]))
        return ":".join(_text(value) for value in values if value not in (None, ""))

    def operations(self) -> Iterable[Operation]:
        one = (self.input[0], 1, 1)
        if self.op == "expanded_conv":
            yield from self._inverted_residual()
        elif self.op == "Conv":
            stride = max(1, -(-self.input[1] // self.output[1]))
            yield Operation("conv", self.input, self.output, FIRST_KERNEL, stride)
        elif self.op in ("Conv_1", "Conv_2"):
            yield Operation("conv", self.input, self.output)
        elif self.op == "AvgPool2D" or self.input != one:  # a classifier pools a map first
            yield Operation("global_pool", self.input, one)
        if self.op == "Logits":
            yield Operation("linear", one, self.output)

    def _inverted_residual(self) -> Iterable[Operation]:
        expand, c_in = self.need("expand"), self.input[0]
        c_mid = expand if expand >= c_in > 1 else expand * c_in
        block = mbconv(
            self.input,
            self.output[0],
            hidden=None if expand == 1 else c_mid,
            kernel=self.need("kernel"),
            stride=self.need("stride"),
            squeezed=eighths(c_mid / 4) if self.se else None,
        )
        return (operation for operation in block if self.idskip or operation.kind != "add")


def _text(value: object) -> str:
    return f"{value[1]}x{value[2]}x{value[0]}" if isinstance(value, tuple) else str(value)


def import_ofa(path: Path, *, device: str | None) -> Measurements:
    """The blocks of a YAML table or, of a CSV, those of `device`: one table for each input size is one source."""
    entries = read_mapping(path, OfaBlock, _cells)
    if entries is not None:
        without_devices(device)
        return read_blocks(entries, OfaBlock, key=KEY, time="time", constants={"statistic": "mean"})
    file = read_csv(path)
    check_device(file, device, dict.fromkeys(cells.get("device", "") for _, cells in file.records))
    own = file.where(lambda cells: cells["device"] == device)
    return read_blocks(own, OfaBlock, key=KEY, time="mean_ms", constants={"machine": str(device), "statistic": "mean"})


def _cells(name: str) -> dict[str, str]:
    """The cells of an entry's name; a name of an unknown form is its operation, which is refused."""
    op, *fields = name.split("-") if _NAME.fullmatch(name) else [name]
    return {"op": op, **dict(field.split(":", 1) for field in fields)}
