"""Building blocks shared by spaces: plain modules of stand-alone networks, elastic ones of supernets."""

# Shapes: B batch, C channels, H height, W width, K choices of one decision, O output, I input channels, k kernel.

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Pixels up to which a pointwise convolution runs as a matrix product: 2.6 times faster on one, even on four (one
# AMD EPYC core pair, torch 2.13, batch 64, 240 to 2,688 channels).
SMALL_MAP = 4


class Add(nn.Module):
    """Sum of two tensors; a module, so that a recount can see it."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class First(nn.Module):
    """The first of its inputs."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return x


class Scale(nn.Module):
    """Tensor (B, C, H, W) times one factor per channel (B, C, 1, 1)."""

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor


class Resize(nn.Module):
    """Image scaled by `ratio`: the input size a network was chosen for, as a share of the deployment size."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        return resize(x, self.ratio)


def resize(x_BCHW: Tensor, ratio: float) -> Tensor:
    """Images scaled by `ratio`, at least one pixel."""
    if ratio == 1.0:
        return x_BCHW
    size = [max(1, round(extent * ratio)) for extent in x_BCHW.shape[-2:]]
    return F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False, antialias=True)


def without_resize(network: nn.Module) -> nn.Module:
    """Copy of `network` that takes images of its own input size: what is deployed, counted and timed."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Resize):
                setattr(parent, name, nn.Identity())
    return network


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Any]) -> None:
    """Replaces batch-norm statistics by the average of those of `batches`; `network` ends in eval mode.

    A batch is a tensor, or a tuple of them for a network of several inputs.
    A slice of a supernet inherits statistics that were gathered while other networks ran.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    network.train()
    for x in batches:
        network(*x) if isinstance(x, tuple) else network(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, groups: int = 1) -> Tensor:
    """Convolution padded to keep the map at stride 1, the same function at any size, run the fast way on small maps.

    Taps that can only meet padding are left out (on a 1x1 map, 48 of the 49 of a 7x7 kernel), and a pointwise
    convolution of few pixels is a matrix product.
    """
    size = min(weight.shape[-1], 2 * min(x.shape[-2:]) - 1)
    margin = (weight.shape[-1] - size) // 2
    if margin:
        weight = weight[..., margin : margin + size, margin : margin + size]
    if groups == 1 and stride == 1 and size == 1 and x.shape[-1] * x.shape[-2] <= SMALL_MAP:
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias, stride, size // 2, groups=groups)


class Convolution(nn.Conv2d):
    """`nn.Conv2d` with padding that keeps the map at stride 1, run by `convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        # What is counted or exported is as declared: all taps, and no arithmetic on shapes.
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return super().forward(x)
        return convolve(x, self.weight, self.bias, stride=self.stride[0], groups=self.groups)


def conv_bn(cin: int, cout: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, act: nn.Module) -> nn.Sequential:
    """Convolution with explicit padding, batch norm, activation."""
    conv = Convolution(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), act)


def separable_conv_bn(cin: int, cout: int, kernel: int, *, stride: int = 1, act: nn.Module) -> nn.Sequential:
    """Depthwise convolution, batch norm, ReLU, then a pointwise one with batch norm and activation."""
    depthwise = conv_bn(cin, cin, kernel, stride=stride, groups=cin, act=nn.ReLU(inplace=True))
    return nn.Sequential(depthwise, conv_bn(cin, cout, act=act))


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a channel dimension is in use: its first `size` entries, weighted by `mask` (size,) if mixed."""

    size: int
    mask: Tensor | None = None


def weights_of(choice: int | Tensor, num_choices: int, like: Tensor) -> Tensor:
    """Weights (K,) over choices, one-hot if `choice` is an index."""
    if isinstance(choice, Tensor):
        return choice
    return torch.nn.functional.one_hot(torch.tensor(choice, device=like.device), num_choices).to(like)


def prefix_extent(weights_K: Tensor, sizes_K: Sequence[int], active: Sequence[int]) -> Extent:
    """Extent of a dimension whose k-th choice uses its first `sizes_K[k]` entries: mask[c] sums p_k of sizes > c."""
    size = max(sizes_K[k] for k in active)
    used_KC = torch.arange(size, device=weights_K.device) < torch.tensor(sizes_K, device=weights_K.device)[:, None]
    return Extent(size, weights_K @ used_KC.to(weights_K))


class ElasticConv(nn.Module):
    """Pointwise or depthwise convolution of which a selection uses leading channels and the centre of the kernel.

    Kernel choices share one weight: the mixture of convolutions is exactly the convolution with mixed kernels.
    """

    def __init__(self, cin: int, cout: int, kernel: int = 1, *, stride: int = 1, depthwise: bool = False) -> None:
        assert depthwise or (kernel == 1 and stride == 1)
        super().__init__()
        self.stride, self.depthwise = stride, depthwise
        self.weight = nn.Parameter(torch.empty(cout, 1 if depthwise else cin, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out" if not depthwise else "fan_in", nonlinearity="relu")

    def copy_to(self, target: nn.Module) -> None:
        """Fills a stand-alone convolution with the slice that its shape asks for."""
        assert isinstance(target, nn.Conv2d)
        target.weight.data.copy_(self.slice(target.in_channels, target.out_channels, target.kernel_size[0]).data)

    def slice(self, cin: int, cout: int, kernel: int) -> Tensor:
        """Weight (O, I, k, k) of a stand-alone convolution."""
        margin = (self.weight.shape[-1] - kernel) // 2
        weight = self.weight[:cout, : 1 if self.depthwise else cin]
        return weight[..., margin : margin + kernel, margin : margin + kernel] if margin else weight

    def forward(self, x: Tensor, cout: int, *, source: Tensor | None = None, kernel: Tensor | int = 1) -> Tensor:
        """Output (B, cout, H', W'). `source` (I,) weights input channels; `kernel` is a size, or a mask (k, k)."""
        size = kernel.shape[-1] if isinstance(kernel, Tensor) else kernel
        weight = self.slice(x.shape[1], cout, size)
        if isinstance(kernel, Tensor):
            weight = weight * kernel
        if source is not None:
            weight = weight * source[:, None, None]
        return convolve(x, weight, stride=self.stride, groups=x.shape[1] if self.depthwise else 1)


def kernel_mask(weights_K: Tensor, sizes_K: Sequence[int], active: Sequence[int]) -> Tensor:
    """Mask (k, k) of the largest active kernel: each entry the weight of the kernels that reach it."""
    largest = max(sizes_K[k] for k in active)
    offset = torch.arange(largest, device=weights_K.device) - largest // 2
    reach_kk = torch.maximum(offset.abs()[:, None], offset.abs()[None, :])
    used_Kkk = reach_kk <= (torch.tensor(sizes_K, device=weights_K.device) // 2)[:, None, None]
    return torch.einsum("k,kij->ij", weights_K, used_Kkk.to(weights_K))


class ElasticBatchNorm(nn.BatchNorm2d):
    """Batch norm of the leading channels; `scale` (C,) multiplies its output for the price of C multiplications.

    Mixed passes leave the running statistics alone: only discrete networks are ever deployed.
    """

    def forward(self, x: Tensor, scale: Tensor | None = None, *, mixed: bool = False) -> Tensor:
        size = x.shape[1]
        weight, bias = self.weight[:size], self.bias[:size]
        if scale is not None:
            weight, bias = weight * scale, bias * scale
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        if self.training and mixed:
            return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        if self.training:
            self.num_batches_tracked.add_(1)
        # As in nn.BatchNorm2d, no momentum means the cumulative average.
        momentum = 1.0 / max(1, int(self.num_batches_tracked)) if self.momentum is None else self.momentum
        mean, var = self.running_mean[:size], self.running_var[:size]
        return F.batch_norm(x, mean, var, weight, bias, self.training, momentum, self.eps)

    def copy_to(self, target: nn.Module) -> None:
        """Fills a stand-alone batch norm from the leading channels."""
        assert isinstance(target, nn.BatchNorm2d)
        size = target.num_features
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(target, name).data.copy_(getattr(self, name).data[:size])
