"""Stand-alone networks of the `mobile` space."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from search_spaces.blocks import Add, Resize, Scale, conv_bn
from search_spaces.mobile.space import (
    CLASSIFIER_CHANNELS,
    HEAD_CHANNELS,
    STEM_CHANNELS,
    BlockName,
    MobileSpace,
    divisible,
)

HARDSWISH_FROM_STAGE = 2  # as MobileNetV3: ReLU while the map is large


def activation(stage: int) -> nn.Module:
    return nn.Hardswish(inplace=True) if stage >= HARDSWISH_FROM_STAGE else nn.ReLU(inplace=True)


class SqueezeExcite(nn.Module):
    """Channel attention: global pool, two 1x1 convolutions, one factor per channel. Source: arXiv:1709.01507."""

    def __init__(self, hidden: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(hidden, squeezed, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, hidden, 1)
        self.gate = nn.Hardsigmoid(inplace=True)
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(self.expand(self.act(self.reduce(self.pool(x))))))


class MobileBlock(nn.Module):
    """Expand, depthwise, squeeze-excite, project; added to its input unless it opens a stage."""

    def __init__(self, space: MobileSpace, name: BlockName, choices: Mapping[str, Any]) -> None:
        super().__init__()
        cin, hidden = space.channels_of(name, choices)
        kernel, stride = choices[name.own("kernel")], space.stride_of(name)
        self.expand = conv_bn(cin, hidden, act=activation(name.stage))
        self.depthwise = conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, act=activation(name.stage))
        has_squeeze = choices[name.own("se")] == "on"
        self.squeeze = SqueezeExcite(hidden, divisible(cin / 4)) if has_squeeze else nn.Identity()
        self.project = conv_bn(hidden, choices[name.width], act=nn.Identity())
        self.add = Add() if name.block else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return y if self.add is None else self.add(x, y)


class MobileNetwork(nn.Module):
    """One network of the space. Images (B, C, H, W) of any size in, logits (B, classes) out."""

    def __init__(self, space: MobileSpace, choices: Mapping[str, Any]) -> None:
        super().__init__()
        self.resize = Resize(choices["resolution"] / max(space.resolutions))
        self.stem = conv_bn(space.channels, STEM_CHANNELS, 3, stride=space.strides[0], act=activation(0))
        kept = [name for name in space.blocks if name.block < choices[name.depth]]
        self.blocks = nn.Sequential(*(MobileBlock(space, name, choices) for name in kept))
        last = len(space.widths) - 1
        self.head = conv_bn(choices[f"stage{last}.width"], HEAD_CHANNELS, act=activation(last))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.features = nn.Sequential(nn.Linear(HEAD_CHANNELS, CLASSIFIER_CHANNELS), nn.Hardswish(inplace=True))
        self.classifier = nn.Linear(CLASSIFIER_CHANNELS, space.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.head(self.blocks(self.stem(self.resize(x)))))
        return self.classifier(self.features(x.flatten(1)))
