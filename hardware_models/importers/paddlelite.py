"""Paddle-Lite's table of convolutions, in microseconds.

A file has columns `op n cin h w cout groups kernel pad stride dilation us`; `h` and `w` are those of the input.
Source of the format: PaddlePaddle/PaddleDetection, slim/nas/latency_855.txt (Apache-2.0), its fields by name.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hardware_models.importers.measured_blocks import Block, Whole, read_blocks
from hardware_models.measuring.csv_file import read_csv
from hardware_models.measuring.measurements import Measurements, without_devices
from search_spaces.operation import Operation

KEY = ("cin", "h", "w", "cout", "groups", "kernel", "pad", "stride")


class PaddleConvolution(Block):
    """One convolution; its name is its notation."""

    op: Literal["conv"]
    n: Literal["1"]
    cin: Whole
    h: Whole
    w: Whole
    cout: Whole
    groups: Whole
    kernel: Whole
    pad: Annotated[int, Field(ge=0, le=999_999)]
    stride: Whole
    dilation: Literal["1"]

    @property
    def name(self) -> str:
        [operation] = self.operations()
        return operation.notation

    def operations(self) -> Iterable[Operation]:
        height, width = ((side + 2 * self.pad - self.kernel) // self.stride + 1 for side in (self.h, self.w))
        shapes = (self.cin, self.h, self.w), (self.cout, height, width)
        return (Operation("conv", *shapes, self.kernel, self.stride, self.groups),)


def import_paddlelite(path: Path, *, device: str | None) -> Measurements:
    """The convolutions of a table, each an operation."""
    without_devices(device)
    return read_blocks(read_csv(path), PaddleConvolution, key=KEY, time="us", per_ms=1e3, subject="operation")
