"""A residual network with searched channels, kernels and depth: an example of marked parts."""

from collections.abc import Sequence

from torch import Tensor, nn

from search_spaces.marked.marks import Choice, Depth, number


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Block(nn.Module):
    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        hidden = width * number(f"{name}.expand", 1, 2)
        self.body = nn.Sequential(conv(width, hidden, number(f"{name}.kernel", 1, 3)), conv(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Residual(nn.Module):
    def __init__(
        self, num_classes: int, channels: int = 3, widths: Sequence[int] = (16, 24, 32), blocks: int = 3
    ) -> None:
        super().__init__()
        first, second = number("width1", *widths), number("width2", *(2 * width for width in widths))
        self.stem = conv(channels, first)
        self.stage1 = Depth("depth1", *(Block(f"block1{k}", first) for k in range(blocks)), at_least=1)
        self.down = Choice("down", {"conv": conv(first, second, 3, 2), "wide": conv(first, second, 5, 2)})
        self.stage2 = Depth("depth2", *(Block(f"block2{k}", second) for k in range(blocks)), at_least=1)
        self.classifier = nn.Linear(second, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.stage2(self.down(self.stage1(self.stem(x)))).mean((2, 3)))
