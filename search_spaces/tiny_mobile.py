"""Depthwise-separable image networks for microcontrollers, around MobileNetV1 x0.25 of MLPerf Tiny: one of them.

Source: arXiv:1704.04861, and arXiv:2106.07597 for visual wake words at 96 pixels. Searched: the width of each stage,
the kernel of its first block, and the depth of the fourth.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from search_spaces import space
from search_spaces.blocks import conv_bn, separable_conv_bn
from search_spaces.bounds import DEEPEST, wrong_choices, wrong_number
from search_spaces.marked.marks import Depth, number
from search_spaces.marked.space import MarkedSpace

# Channels of the stem and of the stages; strides and blocks of the stages. The fourth's blocks are up to `blocks`.
WIDTHS = ((4, 8, 12), (8, 16, 24), (16, 24, 32, 40), (32, 48, 64, 80), (64, 96, 128, 160), (128, 192, 256, 320))
STRIDES = (1, 2, 2, 2, 2)
BLOCKS = (1, 2, 2, 6, 2)
DEEP = 3  # the stage whose depth is searched


class TinyMobileSpace(MarkedSpace):
    """`widths` of the stem and of five stages, up to `blocks` in the fourth, `kernels` of the first blocks."""

    name = "tiny_mobile"

    def __init__(
        self,
        *,
        widths: Sequence[Sequence[int]] = WIDTHS,
        blocks: int = BLOCKS[DEEP],
        kernels: Sequence[int] = (3, 5),
        image_size: int | Sequence[int] = 96,
        num_classes: int = 2,
        channels: int = 3,
    ) -> None:
        problems = [problem for stage in widths for problem in wrong_choices("widths", stage)]
        problems += wrong_choices("kernels", kernels) + wrong_number("blocks", blocks, most=DEEPEST)
        if len(widths) != len(STRIDES) + 1:
            problems.append(f"space.widths: got {len(widths)} lists, allowed: {len(STRIDES) + 1}, the stem's first")
        if any(kernel % 2 == 0 for kernel in kernels):
            problems.append(f"space.kernels: got {list(kernels)}, allowed: odd sides")
        self.widths, self.blocks, self.kernels = [list(stage) for stage in widths], blocks, list(kernels)
        self.takes_images(image_size, channels=channels, num_classes=num_classes, problems=problems)

    @classmethod
    def small(cls, **changes: Any) -> "TinyMobileSpace":
        small: dict[str, Any] = {"widths": [[2, 4], [4], [4, 6], [6], [4, 8], [8]], "blocks": 2}
        return cls(**small | {"image_size": 32, "num_classes": 4} | changes)

    def spec(self) -> dict[str, Any]:
        keys = ("widths", "blocks", "kernels", "image_size", "num_classes", "channels")
        return {key: getattr(self, key) for key in keys}

    def build(self) -> nn.Module:
        before = number("stem.width", *self.widths[0])
        layers: list[nn.Module] = [conv_bn(self.channels, before, 3, stride=2, act=nn.ReLU(inplace=True))]
        for stage, (choices, stride) in enumerate(zip(self.widths[1:], STRIDES, strict=True)):
            width, kernel = number(f"stage{stage}.width", *choices), number(f"stage{stage}.kernel", *self.kernels)
            layers.append(separable_conv_bn(before, width, kernel, stride=stride, act=nn.ReLU(inplace=True)))
            block = partial(separable_conv_bn, width, width, 3, act=nn.ReLU(inplace=True))
            if stage == DEEP:
                layers += [Depth(f"stage{stage}.more_blocks", *[block] * (self.blocks - 1))] if self.blocks > 1 else []
            else:
                layers += [block() for _ in range(BLOCKS[stage] - 1)]
            before = width
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, self.num_classes))
        return nn.Sequential(*layers, *head)

    def reference(self) -> dict[str, space.Choice]:
        """MobileNetV1 x0.25. Raises: UnknownDecisionError if this version of the space lacks it."""
        widths = {f"stage{stage}.width": width for stage, width in enumerate((16, 32, 64, 128, 256))}
        own: dict[str, space.Choice] = {"stem.width": 8, f"stage{DEEP}.more_blocks": BLOCKS[DEEP] - 1, **widths}
        choices = {decision.name: own.get(decision.name, 3) for decision in self.decisions}
        self.check(choices)
        return choices
