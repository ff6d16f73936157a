"""The tables of blocks that nn-Meter measured on phones.

It ships JSON of one phone (`pixel6_lut_ln_v3.json`): milliseconds by names as `conv_64_16_24_6_2_hard_swish_5_se`. A
CSV has the names taken apart: columns `kind key hw cin cout expand stride kernel se` and, in milliseconds,
`ms_<device>`.
`hw` is the side of the input; a cell may be empty where its column means nothing.
Source of the format: microsoft/nn-Meter, branch dev/hybrid-transformer (MIT), transformer_predictor/lut.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from hardware_models.importers.mapping_file import read_mapping
from hardware_models.importers.measured_blocks import (
    Block,
    Flag,
    Whole,
    check_device,
    columns_of,
    eighths,
    mbconv,
    read_blocks,
)
from hardware_models.measuring.csv_file import read_csv
from hardware_models.measuring.measurements import Measurements, without_devices
from search_spaces.operation import Operation

DOWNSAMPLE_KERNEL = 3  # of `transds`, which the table does not give
_NAMES = [  # of entries, by kind; an older layout, without `_se` or `_nose`, is not known
    re.compile(pattern.replace("<", "(?P<").replace(">", ">[0-9]+)"))
    for pattern in (
        "firstconv_<hw>_<cin>_<cout>_<stride>_<kernel>",
        "conv_<hw>_<cin>_<cout>_<expand>_<stride>_[a-z]+(?:_[a-z]+)?_<kernel>_(?:no)?se",
        "transds_<hw>_<cin>_<cout>_<stride>_<expand>",
        "transattn_<hw>_<cin>_[a-z_]+_[0-9]+_ln",
        "transffn_<hw>_<cin>_<expand>_[a-z_]+_ln",
        "mbpool_<hw>_<cin>_<cout>_<expand>_[a-z_]+",
    )
]


class PhoneBlock(Block):
    """A convolution, an inverted residual, a block of a vision transformer, or a head after a pool."""

    kind: Literal["firstconv", "conv", "transds", "transffn", "transattn", "mbpool"]
    key: str
    hw: Whole
    cin: Whole
    cout: Whole
    expand: Whole | None = None
    stride: Whole | None = None
    kernel: Whole | None = None
    se: Flag = 0

    @property
    def name(self) -> str:
        return self.key

    def operations(self) -> Iterable[Operation]:
        """Of attention and feed-forward blocks none: no space has their products and layer norms."""
        shape = (self.cin, self.hw, self.hw)
        if self.kind == "firstconv":
            side = -(-self.hw // self.need("stride"))
            yield Operation("conv", shape, (self.cout, side, side), self.need("kernel"), self.need("stride"))
        elif self.kind in ("conv", "transds"):
            is_downsampling, hidden = self.kind == "transds", self.cin * self.need("expand")
            yield from mbconv(
                shape,
                self.cout,
                hidden=hidden,
                kernel=DOWNSAMPLE_KERNEL if is_downsampling else self.need("kernel"),
                stride=self.need("stride"),
                squeezed=eighths(hidden / 4) if self.se or is_downsampling else None,
            )
        elif self.kind == "mbpool":
            wide, one = ((self.cin * self.need("expand"), side, side) for side in (self.hw, 1))
            yield Operation("conv", shape, wide)
            yield Operation("global_pool", wide, one)
            yield Operation("linear", one, (self.cout, 1, 1))  # a convolution of a 1x1 map there, which is the same


def import_phones(path: Path, *, device: str | None) -> Measurements:
    """The blocks of `device` that consist of operations a space may have."""
    entries = read_mapping(path, PhoneBlock, _cells)
    if entries is not None:
        without_devices(device)
        return read_blocks(entries, PhoneBlock, key=["key"], time="time")
    file = read_csv(path)
    check_device(file, device, columns_of(file, "ms_"))
    return read_blocks(file, PhoneBlock, key=["key"], time=f"ms_{device}", constants={"machine": str(device)})


def _cells(name: str) -> dict[str, str]:
    """The cells of an entry's name; one of an unknown form is its kind, which is refused."""
    matches = (pattern.fullmatch(name) for pattern in _NAMES)
    found = next((match.groupdict() for match in matches if match), None)
    if found is None:
        return {"key": name, "kind": name}
    same = {"cout": found["cin"]}  # of attention and feed-forward blocks, which do not name them
    return {"key": name, "kind": name.split("_")[0], "se": str(int(name.endswith("_se"))), **same, **found}
