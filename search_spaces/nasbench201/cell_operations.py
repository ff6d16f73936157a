"""What an edge of a NAS-Bench-201 cell can do: one record for each operation, `none` apart, which does nothing.

The benchmark's own are registered as entry points of `espalier.cell_operations`; others join a space that names them.
Source: NAS-Bench-201, arXiv:2001.00326; its convolutions are ReLU, convolution, batch norm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.operation import Operation, Shape
from search_spaces.registry import Registry

NONE = "none"


@dataclass(frozen=True)
class CellOperation:
    """An operation that keeps the shape of its map.

    `module(channels)` builds it, `runs(shape)` gives what it runs when deployed, in order. `copies_input`: it begins
    with an activation that writes a copy, as other edges read the same map. `words` and `colour` (0 to 4) draw it.
    """

    module: Callable[[int], nn.Module]
    runs: Callable[[Shape], Sequence[Operation]]
    copies_input: bool = False
    words: str = ""
    colour: int = 3


CELL_OPERATIONS: Registry[CellOperation] = Registry("cell_operations")


def relu_conv_bn(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(cout))


def _conv(kernel: int, *, colour: int) -> CellOperation:
    return CellOperation(
        module=lambda channels: relu_conv_bn(channels, channels, kernel),
        runs=lambda shape: (Operation("conv", shape, shape, kernel=kernel),),
        copies_input=True,
        words=f"{kernel}×{kernel} conv",
        colour=colour,
    )


def _pool(channels: int) -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


SKIP_CONNECT = CellOperation(lambda channels: nn.Identity(), lambda shape: (), words="skip", colour=4)
AVG_POOL_3X3 = CellOperation(
    _pool, lambda shape: (Operation("avg_pool", shape, shape, kernel=3),), words="3×3 avg pool", colour=1
)
NOR_CONV_1X1, NOR_CONV_3X3 = _conv(1, colour=2), _conv(3, colour=0)


class PartialChannels(nn.Module):
    """An operation on the first of `groups` groups of channels; the others pass by, and all are shuffled.

    Source: PC-DARTS, arXiv:1907.05737, whose shuffle has the groups take turns.
    """

    def __init__(self, operation: nn.Module, groups: int) -> None:
        super().__init__()
        self.operation, self.groups = operation, groups

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of `x`, (B, C, H, W)."""
        seen = x.shape[1] // self.groups
        y = torch.cat([self.operation(x[:, :seen]), x[:, seen:]], dim=1)
        return y.unflatten(1, (self.groups, seen)).transpose(1, 2).flatten(1, 2)


def edge_module(name: str, channels: int, groups: int = 1) -> nn.Module:
    """The module of an operation on an edge, on all channels or on one group of them."""
    module = CELL_OPERATIONS[name].module(channels // groups)
    return module if groups == 1 else PartialChannels(module, groups)
