"""A small model space of nni with every mutable that the space `nni` reads: an example."""

import nni
from nni.nas.nn.pytorch import (
    InputChoice,
    LayerChoice,
    ModelSpace,
    MutableBatchNorm2d,
    MutableConv2d,
    MutableLinear,
    Repeat,
)
from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    layer = MutableConv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, MutableBatchNorm2d(outputs), nn.ReLU())


class SmallNetworks(ModelSpace):
    """Images (B, C, H, W) to logits (B, labels): a stem, up to three blocks of two alternatives, and a shortcut."""

    def __init__(self, num_labels: int = 10, channels: int = 3, largest: int = 16) -> None:
        super().__init__()
        width = nni.choice("width", [largest // 2, largest])
        hidden = width * nni.choice("expand", [1, 2])
        self.stem = conv(channels, width)

        def block(place: int) -> nn.Module:
            kernel = nni.choice(f"kernel{place}", [1, 3])
            bottleneck = nn.Sequential(conv(width, hidden, kernel), conv(hidden, width, 1))
            return LayerChoice({"plain": conv(width, width), "bottleneck": bottleneck}, label=f"block{place}")

        self.blocks = Repeat(block, nni.choice("depth", [1, 3]))
        self.inputs = InputChoice(2, 1, label="inputs")
        self.classifier = MutableLinear(width, num_labels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        deep = self.blocks(x)
        return self.classifier(self.inputs([deep, deep + x]).mean((2, 3)))
