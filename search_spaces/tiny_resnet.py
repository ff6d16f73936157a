"""Residual networks for microcontrollers, around ResNet8 of MLPerf Tiny (arXiv:2106.07597), which is one of them.

Searched: width, depth and kernel of each stage, and of each block whether its convolutions are full or separable and
whether a residual connection passes it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from search_spaces import space
from search_spaces.blocks import Add, First, conv_bn, separable_conv_bn
from search_spaces.bounds import DEEPEST, wrong_choices, wrong_number
from search_spaces.marked.marks import Choice, Depth, number
from search_spaces.marked.space import MarkedSpace

WIDTHS = ((8, 16, 24, 32, 40), (16, 32, 48, 64, 80), (32, 64, 96, 128, 160))
STRIDES = (1, 2, 2)  # of the first block of each stage


class TinyResNetSpace(MarkedSpace):
    """`widths` of three stages, up to `blocks` in each, `kernels` of their convolutions."""

    name = "tiny_resnet"

    def __init__(
        self,
        *,
        widths: Sequence[Sequence[int]] = WIDTHS,
        blocks: int = 2,
        kernels: Sequence[int] = (3, 5),
        image_size: int | Sequence[int] = 32,
        num_classes: int = 10,
        channels: int = 3,
    ) -> None:
        problems = [problem for stage in widths for problem in wrong_choices("widths", stage)]
        problems += wrong_choices("kernels", kernels) + wrong_number("blocks", blocks, most=DEEPEST)
        if len(widths) != len(STRIDES):
            problems.append(f"space.widths: got {len(widths)} stages, allowed: {len(STRIDES)}")
        if any(kernel % 2 == 0 for kernel in kernels):
            problems.append(f"space.kernels: got {list(kernels)}, allowed: odd sides")
        self.widths, self.blocks, self.kernels = [list(stage) for stage in widths], blocks, list(kernels)
        self.takes_images(image_size, channels=channels, num_classes=num_classes, problems=problems)

    @classmethod
    def small(cls, **changes: Any) -> "TinyResNetSpace":
        small: dict[str, Any] = {"widths": [[2, 4], [4], [4, 6]], "image_size": 8, "num_classes": 4}
        return cls(**small | changes)

    def spec(self) -> dict[str, Any]:
        keys = ("widths", "blocks", "kernels", "image_size", "num_classes", "channels")
        return {key: getattr(self, key) for key in keys}

    def build(self) -> nn.Module:
        widths = [number(f"stage{stage}.width", *choices) for stage, choices in enumerate(self.widths)]
        stages: list[nn.Module] = []
        before = widths[0]
        for stage, (width, stride) in enumerate(zip(widths, STRIDES, strict=True)):
            kernel = number(f"stage{stage}.kernel", *self.kernels)
            names = [f"stage{stage}.block{block}" for block in range(self.blocks)]
            stages.append(ResidualBlock(names[0], before, width, kernel, stride))
            if names[1:]:
                others = (partial(ResidualBlock, name, width, width, kernel, 1) for name in names[1:])
                stages.append(Depth(f"stage{stage}.more_blocks", *others))
            before = width
        return nn.Sequential(
            conv_bn(self.channels, widths[0], 3, act=nn.ReLU(inplace=True)),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(before, self.num_classes),
        )

    def reference(self, *, large: bool = False) -> dict[str, space.Choice]:
        """ResNet8, or its large version. Raises: UnknownDecisionError if this version of the space lacks it."""
        plain: dict[str, space.Choice] = {"kernel": 3, "convolutions": "full", "residual": "on", "more_blocks": 0}
        widths = (40, 80, 160) if large else (16, 32, 64)
        named = {f"stage{stage}.width": width for stage, width in enumerate(widths)}
        choices = {d.name: named.get(d.name, plain.get(d.name.rpartition(".")[2], 0)) for d in self.decisions}
        self.check(choices)
        return choices


class ResidualBlock(nn.Module):
    """Two convolutions, full or separable; their sum with the input, or with a 1x1 convolution of it, or alone."""

    def __init__(self, name: str, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        forms = {form: partial(_body, form, inputs, outputs, kernel, stride) for form in ("separable", "full")}
        same = stride == 1 and inputs is outputs
        shortcut = nn.Identity() if same else conv_bn(inputs, outputs, stride=stride, act=nn.Identity())
        self.body = Choice(f"{name}.convolutions", forms)
        self.residual = Choice(f"{name}.residual", {"off": First(), "on": Shortcut(shortcut)})
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.residual(self.body(x), x))


class Shortcut(nn.Module):
    def __init__(self, path: nn.Module) -> None:
        super().__init__()
        self.path, self.add = path, Add()

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.add(y, self.path(x))


def _body(form: str, inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    layer = separable_conv_bn if form == "separable" else conv_bn
    first = layer(inputs, outputs, kernel, stride=stride, act=nn.ReLU(inplace=True))
    return nn.Sequential(first, layer(outputs, outputs, kernel, act=nn.Identity()))
