"""Layers of torch whose sizes are searched: one set of weights, of which each value of a number uses a part."""

# Shapes: B batch, C channels, H height, W width, O output, I input channels, k kernel.

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.blocks import Convolution, ElasticBatchNorm, convolve, kernel_mask
from search_spaces.errors import InvalidInputError
from search_spaces.marked.number import Number
from search_spaces.marked.selected import Selected


class SearchedConv2d(nn.Conv2d):
    """The leading channels and the centre of the kernel; mixed passes weight both by the choices that reach them."""

    selected: Selected

    def forward(self, x: Tensor) -> Tensor:
        kernel, target = self.kernel_size[0], self.selected.extent(self.out_channels, self.weight)
        is_depthwise = self.groups > 1 and self.groups == self.in_channels
        size = self.selected.largest(kernel) if isinstance(kernel, Number) else self.weight.shape[-1]
        weight = _centre(self.weight, size)[: target.size, : 1 if is_depthwise else x.shape[1] // _plain(self.groups)]
        if isinstance(kernel, Number) and self.selected.is_mixed(kernel):
            weight = weight * kernel_mask(*self.selected.weighted(kernel, weight))
        bias = None if self.bias is None else self.bias[: target.size]
        if target.mask is not None and not is_depthwise:  # the input of a depthwise one is weighted already
            weight = weight * target.mask[:, None, None, None]
        if target.mask is not None and bias is not None:
            bias = bias * target.mask
        groups = x.shape[1] if is_depthwise else self.groups
        padding = tuple(self.selected.largest(each) for each in self.padding)  # type: ignore[arg-type]
        is_plain = self.dilation == (1, 1) and len({*weight.shape[2:]}) == 1 and self.stride[0] == self.stride[1]
        if is_plain and {2 * each for each in padding} == {size - 1}:
            return convolve(x, weight, bias, stride=self.stride[0], groups=groups)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, groups)


class SearchedBatchNorm2d(ElasticBatchNorm):
    """Of the leading channels; weights its output, so that what follows needs no mask."""

    selected: Selected

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        mask = self.selected.extent(self.num_features, self.weight).mask
        return super().forward(x, mask, mixed=mask is not None)


class SearchedLinear(nn.Linear):
    """The leading features, of the input and of the output."""

    selected: Selected

    def forward(self, x: Tensor) -> Tensor:
        target = self.selected.extent(self.out_features, self.weight)
        weight = self.weight[: target.size, : x.shape[-1]]
        bias = None if self.bias is None else self.bias[: target.size]
        if target.mask is not None:
            weight, bias = weight * target.mask[:, None], None if bias is None else bias * target.mask
        return F.linear(x, weight, bias)


_SEARCHED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: SearchedConv2d,
    Convolution: SearchedConv2d,
    nn.BatchNorm2d: SearchedBatchNorm2d,
    nn.Linear: SearchedLinear,
}


def can_share(kind: type[nn.Module]) -> bool:
    """Whether layers of this class share weights between sizes."""
    return kind in _SEARCHED


def numbers_of(module: nn.Module) -> Iterator[Number]:
    """Searched numbers among the attributes of a module itself."""
    for value in vars(module).values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, Number):
                yield each


def share_weights(network: nn.Module, selected: Selected) -> None:
    """Makes layers of searched sizes run the part that is selected, in place.

    Raises: InvalidInputError for a layer that has no such form.
    """
    for path, module in network.named_modules():
        if next(module.parameters(recurse=False), None) is None or not any(numbers_of(module)):
            continue
        problem = _problem(module)
        if problem:
            raise InvalidInputError(f"{path}: {module} {problem}; give a Choice of several such layers instead")
        module.__class__ = _SEARCHED[type(module)]
        module.selected = selected


def _problem(module: Any) -> str:
    if not can_share(type(module)):
        return f"cannot share weights between sizes; {', '.join(kind.__name__ for kind in _SEARCHED)} can"
    if isinstance(module, nn.Conv2d):
        fixed = (*module.stride, *module.dilation)
        if any(isinstance(value, Number) for value in fixed):
            return "has a searched stride or dilation"
        if isinstance(module.padding, str):
            return "has searched sizes and pads by a word; give a number, as padding=kernel // 2,"
        square = len(set(module.kernel_size)) == len(set(module.padding)) == 1
        if any(isinstance(value, Number) for value in module.kernel_size) and not square:
            return "has a searched kernel that is not square"
        if module.padding_mode != "zeros":
            return f"has searched sizes and pads by {module.padding_mode}, not by zeros"
        widths = any(isinstance(value, Number) for value in (module.in_channels, module.out_channels))
        if widths and module.groups not in (1, module.in_channels):
            return "has searched channels in groups"
        kernel = module.kernel_size[0]
        if isinstance(kernel, Number) and any(value % 2 == 0 for value in kernel.values.values()):
            return "has a searched kernel of an even side"
    if isinstance(module, nn.BatchNorm2d) and not (module.affine and module.track_running_stats):
        return "has searched features and no weights, or no statistics"
    return ""


def as_built(layer: nn.Module) -> None:
    """Makes a copy of a layer that shares weights the layer of torch again, in place."""
    for kind, searched in _SEARCHED.items():
        if type(layer) is searched:
            layer.__class__ = kind
            del layer.selected


def tensor_sizes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    """Sizes of the tensors of a layer by name, as its numbers say; none of a layer that cannot share weights."""
    if isinstance(layer, nn.Conv2d):
        weight = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        return {"weight": weight, "bias": (layer.out_channels,)}
    if isinstance(layer, nn.Linear):
        return {"weight": (layer.out_features, layer.in_features), "bias": (layer.out_features,)}
    if isinstance(layer, nn.BatchNorm2d):
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (layer.num_features,))
    return {}


def sliced(tensor: Tensor, sizes: tuple[int, ...] | None) -> Tensor:
    """The leading part of each dimension, and the centre of kernels; all of it for no sizes."""
    if sizes is None:
        return tensor
    found = _centre(tensor, sizes[-1]) if tensor.dim() == 4 else tensor
    return found[tuple(slice(size) for size in sizes)]


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Fills the network of one choice from the supernet: the leading part of each dimension, the centre of kernels."""
    ours = dict(source.named_modules())
    for path, module in target.named_modules():
        own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for name, tensor in own.items():
            tensor.data.copy_(sliced(getattr(ours[path], name).data, tuple(tensor.shape)))


def _centre(weight: Tensor, size: int) -> Tensor:
    """The middle (O, I, size, size) of square kernels (O, I, k, k)."""
    margin = (weight.shape[-1] - size) // 2
    return weight[..., margin : margin + size, margin : margin + size] if margin else weight


def _plain(groups: int) -> int:
    return groups if type(groups) is int else 1
