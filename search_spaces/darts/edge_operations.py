"""What an edge of a DARTS cell can do: one record for each operation, `none` apart, which is no edge.

Source: DARTS, arXiv:1806.09055, section 3.1 and its published networks. Pools have no batch norm behind them, as in
those networks; the paper's search adds one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks import Add
from search_spaces.operation import Operation, Shape

NONE, SKIP = "none", "skip_connect"
DILATION = 2


@dataclass(frozen=True)
class EdgeOperation:
    """`module(channels, stride)` builds it; `runs(in_shape, out_shape)` gives what it runs when deployed, in order.

    `words` and `colour` (0 to 4) draw it.
    """

    module: Callable[[int, int], nn.Module]
    runs: Callable[[Shape, Shape], Sequence[Operation]]
    words: str
    colour: int


def relu_conv_bn(cin: int, cout: int) -> nn.Sequential:
    """ReLU, pointwise convolution, batch norm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout))


def separable(channels: int, kernel: int, stride: int, *, dilation: int = 1) -> nn.Sequential:
    """ReLU, depthwise and pointwise convolution, batch norm."""
    padding = dilation * (kernel // 2)
    depthwise = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))


def pool(name: str, stride: int) -> nn.Module:
    """A 3x3 pool whose average leaves padding out."""
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


class FactorizedReduce(nn.Module):
    """ReLU, then half of the channels from even pixels and half from odd ones, by pointwise convolutions of stride 2.

    Each half has its own batch norm, which is the same as one over both.
    """

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even, self.odd = (
            nn.Sequential(nn.Conv2d(cin, half, 1, stride=2, bias=False), nn.BatchNorm2d(half)) for half in halves(cout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, cout, H/2, W/2) of (B, cin, H, W), sides rounded up."""
        x = self.relu(x)
        return torch.cat([self.even(x), self.odd(odd_pixels(x))], dim=1)


def odd_pixels(x: Tensor) -> Tensor:
    """The map from its second row and column on, zeros behind a side that is odd."""
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    return x[..., 1:, 1:]


class Beside(nn.Module):
    """An operation and an identity beside it, summed; of stride 2, a factorized reduce stands for the identity."""

    def __init__(self, operation: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.operation, self.beside, self.add = operation, skip(channels, stride), Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(self.beside(x), self.operation(x))


def skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


def halves(channels: int) -> tuple[int, int]:
    return channels // 2, channels - channels // 2


def run_separable(kernel: int, in_shape: Shape, out_shape: Shape) -> tuple[Operation, ...]:
    stride = stride_of(in_shape, out_shape)
    depthwise = Operation("conv", in_shape, out_shape, kernel, stride, groups=in_shape[0], bias=False)
    return depthwise, Operation("conv", out_shape, out_shape)


def run_reduce(in_shape: Shape, out_shape: Shape) -> tuple[Operation, Operation]:
    """The two convolutions of a factorized reduce."""
    (cin, height, width), (cout, *sides) = in_shape, out_shape
    (even, odd), (rows, columns) = halves(cout), sides
    return (
        Operation("conv", in_shape, (even, rows, columns), stride=2),
        Operation("conv", (cin, height - 1, width - 1), (odd, rows, columns), stride=2),
    )


def run_skip(in_shape: Shape, out_shape: Shape) -> tuple[Operation, ...]:
    return () if stride_of(in_shape, out_shape) == 1 else run_reduce(in_shape, out_shape)


def stride_of(in_shape: Shape, out_shape: Shape) -> int:
    return 1 if in_shape == out_shape else 2


def _pool(name: str, *, words: str) -> EdgeOperation:
    kind = name.removesuffix("_3x3")
    return EdgeOperation(
        module=lambda channels, stride: pool(name, stride),
        runs=lambda a, b: (Operation(kind, a, b, kernel=3, stride=stride_of(a, b)),),
        words=words,
        colour=1,
    )


def _sep_conv(kernel: int) -> EdgeOperation:
    return EdgeOperation(
        module=lambda channels, stride: nn.Sequential(
            separable(channels, kernel, stride), separable(channels, kernel, 1)
        ),
        runs=lambda a, b: (*run_separable(kernel, a, b), *run_separable(kernel, b, b)),
        words=f"{kernel}×{kernel} sep conv",
        colour=0,
    )


def _dil_conv(kernel: int) -> EdgeOperation:
    return EdgeOperation(
        module=lambda channels, stride: separable(channels, kernel, stride, dilation=DILATION),
        runs=lambda a, b: run_separable(kernel, a, b),
        words=f"{kernel}×{kernel} dil conv",
        colour=2,
    )


EDGE_OPERATIONS = {
    "max_pool_3x3": _pool("max_pool_3x3", words="3×3 max pool"),
    "avg_pool_3x3": _pool("avg_pool_3x3", words="3×3 avg pool"),
    SKIP: EdgeOperation(skip, run_skip, words="skip", colour=4),
    "sep_conv_3x3": _sep_conv(3),
    "sep_conv_5x5": _sep_conv(5),
    "dil_conv_3x3": _dil_conv(3),
    "dil_conv_5x5": _dil_conv(5),
}
OPERATIONS = (NONE, *EDGE_OPERATIONS)  # in the order of the paper's code
