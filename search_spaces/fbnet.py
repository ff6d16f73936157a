"""FBNet: 22 layers of nine blocks each, written by their places as `7 8 1 ...`.

Source: Wu et al., FBNet, arXiv:1812.03443, table 1 and 2. The defaults are the network for images of 32 pixels that
HW-NAS-Bench measured, arXiv:2103.10584: CIFAR-100, less stride, a head of 1504 channels. With `image_size=224`,
`strides=[2,1,2,2,2,1,2,1]` and `head_channels=1984` it is the paper's for ImageNet. A skip is a 1x1 convolution where
the shape changes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from search_spaces.blocks import conv_bn
from search_spaces.bounds import wrong_number
from search_spaces.marked.digits import DigitSpace
from search_spaces.marked.marks import Choice
from search_spaces.nasbench_macro import InvertedResidual

STEM_CHANNELS = 16
STAGES = ((16, 1), (24, 4), (32, 4), (64, 4), (112, 4), (184, 4), (352, 1))  # channels and layers
STRIDES = (1, 1, 1, 2, 2, 1, 2, 1)  # of the stem, and of the first layer of each stage
HEAD_CHANNELS = 1504
BLOCKS = {  # expansion, kernel and groups, at the places of HW-NAS-Bench's tables
    "k3_e1": (1, 3, 1),
    "k3_e1_g2": (1, 3, 2),
    "k3_e3": (3, 3, 1),
    "k3_e6": (6, 3, 1),
    "k5_e1": (1, 5, 1),
    "k5_e1_g2": (1, 5, 2),
    "k5_e3": (3, 5, 1),
    "k5_e6": (6, 5, 1),
    "skip": None,
}


class FBNetSpace(DigitSpace):
    """`width_factor` multiplies all channels but the head's, as a share of FBNet's."""

    name = "fbnet"
    separator = " "

    def __init__(
        self,
        *,
        strides: Sequence[int] = STRIDES,
        head_channels: int = HEAD_CHANNELS,
        width_factor: float = 1.0,
        image_size: int | Sequence[int] = 32,
        num_classes: int = 10,
        channels: int = 3,
    ) -> None:
        problems = wrong_number("head_channels", head_channels)
        if len(strides) != len(STRIDES) or any(type(s) is not int or s not in (1, 2) for s in strides):
            problems.append(f"space.strides: got {list(strides)}, allowed: {len(STRIDES)} numbers, each 1 or 2")
        if not 0.1 <= width_factor <= 10:
            problems.append(f"space.width_factor: got {width_factor}, allowed: 0.1 to 10")
        self.strides, self.head_channels, self.width_factor = list(strides), head_channels, width_factor
        self.takes_images(image_size, channels=channels, num_classes=num_classes, problems=problems)

    @classmethod
    def small(cls, **changes: Any) -> "FBNetSpace":
        return cls(**{"width_factor": 0.125, "head_channels": 8, "image_size": 16, "num_classes": 4} | changes)

    def spec(self) -> dict[str, Any]:
        keys = ("strides", "head_channels", "width_factor", "image_size", "num_classes", "channels")
        return {key: getattr(self, key) for key in keys}

    def build(self) -> nn.Module:
        stem = width = self._channels(STEM_CHANNELS)
        layers: list[nn.Module] = []
        for (channels, count), first in zip(STAGES, self.strides[1:], strict=True):
            for layer in range(count):
                before, width = width, self._channels(channels)
                stride = 1 if layer else first
                blocks = {name: partial(_block, sizes, before, width, stride) for name, sizes in BLOCKS.items()}
                layers.append(Choice(f"layer{len(layers)}", blocks))
        return nn.Sequential(
            conv_bn(self.channels, stem, 3, stride=self.strides[0], act=nn.ReLU(inplace=True)),
            nn.Sequential(*layers),
            conv_bn(width, self.head_channels, act=nn.ReLU(inplace=True)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(self.head_channels, self.num_classes),
        )

    def _channels(self, channels: int) -> int:
        return max(2, 2 * round(self.width_factor * channels / 2))  # even, for blocks of two groups


def _block(sizes: tuple[int, int, int] | None, inputs: int, outputs: int, stride: int) -> nn.Module:
    if sizes is not None:
        expand, kernel, groups = sizes
        return InvertedResidual(inputs, outputs, expand, kernel, stride, groups)
    if (inputs, stride) == (outputs, 1):
        return nn.Identity()
    return conv_bn(inputs, outputs, stride=stride, act=nn.ReLU(inplace=True))
