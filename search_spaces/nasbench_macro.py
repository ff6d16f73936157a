"""NAS-Bench-Macro: eight layers of three blocks each for CIFAR-10, written as eight digits.

Source: Su et al., Prioritized Architecture Sampling with Monte-Carlo Tree Search, arXiv:2103.11922; its network is in
github.com/xiusu/NAS-Bench-Macro. The first layer of each of three stages halves the map and doubles the channels; there
the identity is a 1x1 convolution.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from search_spaces.blocks import Add, conv_bn
from search_spaces.bounds import wrong_number
from search_spaces.marked.digits import DigitSpace
from search_spaces.marked.marks import Choice

STAGES = (2, 3, 3)  # layers
HEAD_CHANNELS = 1280
BLOCKS = {"id": None, "mb3_k3": (3, 3), "mb6_k5": (6, 5)}  # expansion and kernel


class NasBenchMacroSpace(DigitSpace):
    """`width` is that of the stem, 32 in the benchmark; images (C, H, W) of `image_size`, 32 in the benchmark."""

    name = "nasbench_macro"
    separator = ""

    def __init__(
        self,
        *,
        width: int = 32,
        image_size: int | Sequence[int] = 32,
        num_classes: int = 10,
        channels: int = 3,
    ) -> None:
        self.width = width
        problems = wrong_number("width", width)
        self.takes_images(image_size, channels=channels, num_classes=num_classes, problems=problems)

    @classmethod
    def small(cls, **changes: Any) -> "NasBenchMacroSpace":
        return cls(**{"width": 4, "image_size": 16, "num_classes": 4} | changes)

    def spec(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("width", "image_size", "num_classes", "channels")}

    def build(self) -> nn.Module:
        layers: list[nn.Module] = []
        width = self.width
        for stage in STAGES:
            for layer in range(stage):
                before, width = width, width if layer else 2 * width
                stride = 1 if layer else 2
                blocks = {name: partial(_block, sizes, before, width, stride) for name, sizes in BLOCKS.items()}
                layers.append(Choice(f"layer{len(layers)}", blocks))
        return nn.Sequential(
            conv_bn(self.channels, self.width, 3, act=nn.ReLU(inplace=True)),
            nn.Sequential(*layers),
            conv_bn(width, HEAD_CHANNELS, act=nn.ReLU(inplace=True)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(HEAD_CHANNELS, self.num_classes),
        )


def _block(sizes: tuple[int, int] | None, inputs: int, outputs: int, stride: int) -> nn.Module:
    if sizes is not None:
        expand, kernel = sizes
        return InvertedResidual(inputs, outputs, expand, kernel, stride)
    if (inputs, stride) == (outputs, 1):
        return nn.Identity()
    return conv_bn(inputs, outputs, stride=stride, act=nn.Identity())


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; added to its input where shapes agree. `groups` of its 1x1 convolutions.

    Source: MobileNetV2, arXiv:1801.04381; in groups, with channels shuffled between, as FBNet, arXiv:1812.03443.
    """

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        hidden = inputs * expand
        self.groups = groups
        self.expand = conv_bn(inputs, hidden, groups=groups, act=nn.ReLU(inplace=True))
        self.depthwise = conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, act=nn.ReLU(inplace=True))
        self.project = conv_bn(hidden, outputs, groups=groups, act=nn.Identity())
        self.add = Add() if (inputs, stride) == (outputs, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.expand(x)
        if self.groups > 1:
            batch, channels, height, width = hidden.shape
            grouped = hidden.view(batch, self.groups, channels // self.groups, height, width)
            hidden = grouped.transpose(1, 2).reshape(batch, channels, height, width)
        y = self.project(self.depthwise(hidden))
        return y if self.add is None else self.add(x, y)
