"""Depthwise-separable networks for keywords on microcontrollers, around DS-CNN of MLPerf Tiny, which is one of them.

Source: arXiv:2106.07597, and arXiv:1711.07128 for the architecture. The network reads the log-mel (1, frames, bands)
and makes its features itself, by a fixed matrix: means of neighbouring bands, or cepstra. Searched: these features,
kernel and stride of the first convolution, and width, depth, kernel and residual connections of two stages.
"""

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces import space
from search_spaces.blocks import Add, First, separable_conv_bn
from search_spaces.bounds import DEEPEST, wrong_choices, wrong_number
from search_spaces.marked.marks import Choice, Depth, Made, number
from search_spaces.marked.space import MarkedSpace

WIDTHS = (24, 32, 48, 64, 80, 96)
CEPSTRA = 10  # of DS-CNN
FIRST_KERNELS = ((10, 4), (5, 4), (3, 3))  # frames, bands
FIRST_STRIDES = (2, 3)
STAGES = 2


class TinyDSSpace(MarkedSpace):
    """`widths` of the first convolution and of both stages, up to `blocks` in each, `kernels` of their convolutions.

    `features` are `bands<number>` or `cepstra<number>`, at most as many as the log-mel has bands. None: ten
    cepstra, and a quarter, half and all of the bands.
    """

    name = "tiny_ds"

    def __init__(
        self,
        *,
        widths: Sequence[int] = WIDTHS,
        blocks: int = 4,
        kernels: Sequence[int] = (3, 5),
        features: Sequence[str] | None = None,
        image_size: int | Sequence[int] = (49, 40),
        num_classes: int = 12,
        channels: int = 1,
    ) -> None:
        problems = wrong_choices("widths", widths) + wrong_choices("kernels", kernels)
        problems += wrong_number("blocks", blocks, most=DEEPEST)
        bands = image_size if isinstance(image_size, int) else list(image_size)[-1]
        if features is None:
            shares = [bands // part for part in (4, 2, 1) if bands % part == 0]
            features = [f"cepstra{min(CEPSTRA, bands)}", *(f"bands{number}" for number in shares)]
        problems += [problem for name in features for problem in _wrong_features(name, bands)]
        if not features:
            problems.append("space.features: got none, allowed: one or more of bands<number>, cepstra<number>")
        if any(kernel % 2 == 0 for kernel in kernels):
            problems.append(f"space.kernels: got {list(kernels)}, allowed: odd sides")
        self.widths, self.blocks, self.kernels, self.feature_names = list(widths), blocks, list(kernels), list(features)
        self.takes_images(image_size, channels=channels, num_classes=num_classes, problems=problems)

    @classmethod
    def small(cls, **changes: Any) -> "TinyDSSpace":
        small: dict[str, Any] = {"widths": [2, 4], "blocks": 2, "features": ["cepstra4", "bands8"]}
        return cls(**small | {"image_size": [12, 8], "num_classes": 4} | changes)

    def spec(self) -> dict[str, Any]:
        keys = ("widths", "blocks", "kernels", "image_size", "num_classes", "channels")
        return {"features": self.feature_names} | {key: getattr(self, key) for key in keys}

    def build(self) -> nn.Module:
        before = number("first.width", *self.widths)
        layers: list[nn.Module] = [Choice("features", {name: self._first(name, before) for name in self.feature_names})]
        for stage in range(STAGES):
            name = f"stage{stage}"
            width, kernel = number(f"{name}.width", *self.widths), number(f"{name}.kernel", *self.kernels)
            layers.append(separable_conv_bn(before, width, kernel, act=nn.ReLU(inplace=True)))
            if self.blocks > 1:
                more = [partial(SeparableBlock, name, width, kernel)] * (self.blocks - 1)
                layers.append(Depth(f"{name}.more_blocks", *more))
            before = width
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, self.num_classes))
        return nn.Sequential(*layers, *head)

    def _first(self, features: str, width: int) -> Made:
        """The features of a log-mel, and the first convolution of them."""
        frames, bands = self.image_size
        matrix_BF = feature_matrix(features, bands)

        def convolution(kernel: tuple[int, int], stride: int) -> nn.Module:
            padding = [same_padding(*each, stride) for each in zip((frames, matrix_BF.shape[1]), kernel, strict=True)]
            layer = nn.Conv2d(self.channels, width, kernel, stride, tuple(padding), bias=False)  # type: ignore[arg-type]
            return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

        def kernels(stride: int) -> nn.Module:
            return Choice("first.kernel", {f"{h}x{w}": partial(convolution, (h, w), stride) for h, w in FIRST_KERNELS})

        def first() -> nn.Module:
            front = nn.Identity() if features == f"bands{bands}" else FixedLinear(matrix_BF)
            strides = {str(stride): partial(kernels, stride) for stride in FIRST_STRIDES}
            return nn.Sequential(front, Choice("first.stride", strides))

        return first

    def reference(self) -> dict[str, space.Choice]:
        """DS-CNN. Raises: UnknownDecisionError if this version of the space lacks it."""
        own: dict[str, space.Choice] = {"features": "cepstra10", "first.kernel": "10x4", "first.stride": "2"}
        plain: dict[str, space.Choice] = {"width": 64, "kernel": 3, "more_blocks": 1, "residual": "off"}
        choices = {d.name: own.get(d.name, plain.get(d.name.rpartition(".")[2], 0)) for d in self.decisions}
        self.check(choices)
        return choices


class SeparableBlock(nn.Module):
    """A separable convolution that keeps its width, perhaps added to its input."""

    def __init__(self, name: str, width: int, kernel: int) -> None:
        super().__init__()
        self.body = separable_conv_bn(width, width, kernel, act=nn.ReLU(inplace=True))
        self.residual = Choice(f"{name}.residual", {"off": First(), "on": Add()})

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(self.body(x), x)


class FixedLinear(nn.Linear):
    """`x @ matrix` over the last axis; the matrix (inputs, outputs) is deployed as weights, and not trained."""

    def __init__(self, matrix_IO: Tensor) -> None:
        inputs, outputs = matrix_IO.shape
        super().__init__(inputs, outputs, bias=False)
        self.weight = nn.Parameter(matrix_IO.T.contiguous().to(self.weight.device), requires_grad=False)


def feature_matrix(features: str, bands: int) -> Tensor:
    """Matrix (bands, features) that makes `bands20` or `cepstra10` of a log-mel.

    Cepstra are those of MLPerf Tiny: DCT-II with sqrt(2 / bands), the first not scaled apart.
    """
    kind, num = features.rstrip("0123456789"), int(features.lstrip("abcdefghijklmnopqrstuvwxyz"))
    band, feature = torch.meshgrid(torch.arange(bands), torch.arange(num), indexing="ij")
    if kind == "cepstra":
        return torch.cos(torch.pi * feature * (2 * band + 1) / (2 * bands)) * (2 / bands) ** 0.5
    group = bands // num
    return (band // group == feature).float() / group


def same_padding(size: int, kernel: int, stride: int) -> int:
    """The least padding at both ends with which a convolution gives `size / stride` places, rounded up."""
    return max(0, ceil(((ceil(size / stride) - 1) * stride + kernel - size) / 2))


def _wrong_features(name: str, bands: int) -> list[str]:
    kind, digits = name.rstrip("0123456789"), name.lstrip("abcdefghijklmnopqrstuvwxyz")
    is_number = digits.isdigit() and 1 <= int(digits) <= bands
    if is_number and (kind == "cepstra" or (kind == "bands" and bands % int(digits) == 0)):
        return []
    return [f"space.features: got {name!r}, allowed: cepstra1 to cepstra{bands}, bands<number> that divides {bands}"]
