"""The mixed edges that leave one node of a DARTS cell, in few passes over its map."""

# Shapes: B batch, C channels, H height, W width, K maps of a source without weights, T targets.

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.darts.edge_operations import FactorizedReduce, odd_pixels

Weights = Mapping[str, Tensor]  # of an edge's operations, by name


class Sums:
    """What the nodes of a cell add up to so far. Maps may be cut into phases, which a node puts together once."""

    def __init__(self) -> None:
        self._plain: dict[int, Tensor] = {}
        self._phased: dict[int, Tensor] = {}
        self._own: set[int] = set()  # sums that nothing else reads, which may change in place

    def add(self, target: int, y: Tensor, *, own: bool = False) -> None:
        """`own`: the caller gives the tensor away, and its backward pass does not need it."""
        if target not in self._plain:
            self._plain[target] = y
            self._own |= {target} if own else set()
        elif target in self._own:
            self._plain[target] += y
        else:
            self._plain[target] = self._plain[target] + y
            self._own.add(target)

    def add_phases(self, target: int, y: Tensor) -> None:
        """As `add` with `own`, of a map in phases."""
        if target in self._phased:
            self._phased[target] += y
        else:
            self._phased[target] = y

    def take(self, target: int) -> Tensor | None:
        """The whole sum, None if nothing was added."""
        if target in self._phased:
            self.add(target, joined(self._phased.pop(target)), own=True)
        self._own.discard(target)
        return self._plain.get(target)


class MixedSource:
    """A node's map, and what edges from it share: its ReLU, its pools, its phases.

    Weights of operations are factors of their last batch norm, and nodes add up in place. A dilated convolution is a
    plain one on every second pixel: of the map's four phases, or of its even pixels where the stride is 2.
    """

    def __init__(self, x: Tensor, stride: int, sums: Sums) -> None:
        self.x, self.stride, self.sums = x, stride, sums
        self._maps: dict[str, Tensor] = {}  # without weights, and the factors of each in its targets
        self._factors: dict[int, dict[str, Tensor]] = {}

    def add(self, target: int, operations: Any, weights: Weights) -> None:
        """Adds the edge to a node to the node's sum; `add_maps` adds the maps that have no weights."""
        for name, weight in weights.items():
            operation = operations[name]
            if name.startswith("sep_conv"):
                self.sums.add(target, self._separable(operation, weight), own=True)
            elif name.startswith("dil_conv"):
                self._add_dilated(target, operation, weight)
            elif isinstance(operation, FactorizedReduce):
                self.sums.add(target, self._reduced(operation, weight), own=True)
            else:
                self._add_map(target, name, operation, weight)

    def add_each(self, target: int, operations: Any, weights: Weights) -> None:
        """The same, operation by operation, as calls of their modules, which hooks ask for."""
        for name, weight in weights.items():
            self.sums.add(target, weight * operations[name](self.x), own=True)

    def add_beside(self, target: int, module: nn.Module, weight: Tensor) -> None:
        """Adds an identity, or the factorized reduce that stands for it, times a weight."""
        if isinstance(module, FactorizedReduce):
            self.sums.add(target, self._reduced(module, weight), own=True)
        else:
            self._add_map(target, "identity", module, weight)

    def add_auxiliary(self, target: int, weight: float) -> None:
        """Adds the map times a weight; of stride 2, the mean of 2x2 pixels."""
        halved = nn.AvgPool2d(2, ceil_mode=True) if self.stride == 2 else nn.Identity()
        self._add_map(target, "auxiliary", halved, self.x.new_tensor(weight))

    def add_maps(self) -> None:
        """Adds all weighted sums of maps without weights, as one product of matrices."""
        if not self._factors:
            return
        nothing = self.x.new_zeros(())
        rows = [
            torch.stack([row.get(name, nothing).to(self.x) for name in self._maps]) for row in self._factors.values()
        ]
        maps, last = list(self._maps.values()), is_channels_last(self.x)
        maps_K = torch.stack([y.permute(0, 2, 3, 1) if last else y for y in maps])
        sums_T = (torch.stack(rows) @ maps_K.flatten(1)).unflatten(1, maps_K.shape[1:])
        for target, y in zip(self._factors, sums_T.unbind(), strict=True):
            self.sums.add(target, y.permute(0, 3, 1, 2) if last else y)

    def _add_map(self, target: int, name: str, module: nn.Module, weight: Tensor) -> None:
        if name not in self._maps:
            self._maps[name] = module(self.x)
        self._factors.setdefault(target, {})[name] = weight

    @cached_property
    def _positive(self) -> Tensor:
        return F.relu(self.x)

    @cached_property
    def _even(self) -> Tensor:
        return self._positive[..., ::2, ::2].contiguous(memory_format=layout_of(self.x))

    @cached_property
    def _phases(self) -> Tensor:
        return phases(self._positive)

    def _separable(self, operation: Any, weight: Tensor) -> Tensor:
        (_, depthwise, pointwise, norm), second = operation
        y = F.relu_(norm(pointwise(depthwise(self._positive))))
        return scaled_norm(second[3], second[2](second[1](y)), weight)

    def _add_dilated(self, target: int, operation: Any, weight: Tensor) -> None:
        _, depthwise, pointwise, norm = operation
        in_phases = self.stride == 1 and self.x.shape[2] % 2 == 0 and self.x.shape[3] % 2 == 0
        if self.stride == 1 and not in_phases:
            y = depthwise(self._positive)
        else:
            x, padding = self._phases if in_phases else self._even, depthwise.kernel_size[0] // 2
            y = F.conv2d(x, depthwise.weight, padding=padding, groups=depthwise.groups)
        y = scaled_norm(norm, pointwise(y), weight)
        self.sums.add_phases(target, y) if in_phases else self.sums.add(target, y, own=True)

    def _reduced(self, operation: FactorizedReduce, weight: Tensor) -> Tensor:
        parts = ((operation.even, self._positive), (operation.odd, odd_pixels(self._positive)))
        return torch.cat([scaled_norm(norm, conv(x), weight) for (conv, norm), x in parts], dim=1)


def scaled_norm(norm: nn.Module, x: Tensor, scale: Tensor) -> Tensor:
    """`scale` times the batch norm of a map, for the price of C multiplications; its statistics move as they do."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.num_batches_tracked is not None
    if norm.training:
        norm.num_batches_tracked.add_(1)
    momentum = 1.0 / max(1, int(norm.num_batches_tracked)) if norm.momentum is None else norm.momentum
    weight, bias = norm.weight * scale, norm.bias * scale
    return F.batch_norm(x, norm.running_mean, norm.running_var, weight, bias, norm.training, momentum, norm.eps)


def phases(x: Tensor) -> Tensor:
    """A map of even sides as four of half the sides, (4 B, C, H/2, W/2): pixels of even and odd rows and columns."""
    parted = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, C, H/2, 2, W/2, 2)
    if is_channels_last(x):
        return parted.permute(3, 5, 0, 2, 4, 1).flatten(0, 2).permute(0, 3, 1, 2)
    return parted.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)


def joined(x: Tensor) -> Tensor:
    """The inverse of `phases`."""
    parted = x.unflatten(0, (2, 2, -1))  # (2, 2, B, C, H/2, W/2)
    if is_channels_last(x):
        return parted.permute(2, 4, 0, 5, 1, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
    return parted.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)


def is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def layout_of(x: Tensor) -> torch.memory_format:
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format
