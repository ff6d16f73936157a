"""Stand-alone networks of the `nasbench201` space, and the frame that they share with its supernet."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from search_spaces.blocks import Add
from search_spaces.nasbench201.cell_operations import edge_module, relu_conv_bn
from search_spaces.nasbench201.space import NUM_STAGES, NasBench201Space, edge_name, live_edges
from search_spaces.space import Choice


class Reduction(nn.Module):
    """Residual block of stride 2 between stages."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.main = nn.Sequential(relu_conv_bn(cin, cout, 3, 2), relu_conv_bn(cout, cout, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(cin, cout, 1, bias=False))
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(self.main(x), self.shortcut(x))


class Cell(nn.Module):
    """One cell with its live edges only."""

    def __init__(self, channels: int, choices: Mapping[str, Choice], groups: int) -> None:
        super().__init__()
        self.live = live_edges(choices)
        names = [edge_name(*edge) for edge in self.live]
        self.edges = nn.ModuleDict({name: edge_module(str(choices[name]), channels, groups) for name in names})
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        nodes = {0: x}
        for target in (1, 2, 3):
            for source in (s for s, t in self.live if t == target):
                y = self.edges[edge_name(source, target)](nodes[source])
                nodes[target] = self.add(nodes[target], y) if target in nodes else y
        # A cell without a path from input to output is zero everywhere, as in the benchmark.
        return nodes[3] if 3 in nodes else x.new_zeros(x.shape)


class Frame(nn.Module):
    """The network around its cells: stem, three stages of cells, two reductions, head."""

    def __init__(self, space: NasBench201Space, make_cell: Callable[[int], nn.Module]) -> None:
        super().__init__()
        widths = [space.stage_shape(stage)[0] for stage in range(NUM_STAGES)]
        stem = nn.Conv2d(space.channels, widths[0], 3, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(widths[0]))
        self.stages = nn.ModuleList(nn.ModuleList(make_cell(width) for _ in range(space.num_cells)) for width in widths)
        self.reductions = nn.ModuleList(Reduction(a, b) for a, b in pairwise(widths))
        self.last = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Linear(widths[-1], space.num_classes)

    def forward(self, x: Tensor, *cell_arguments: Any) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W); `cell_arguments` go to every cell."""
        x = self.stem(x)
        for stage, cells in enumerate(self.stages):
            if stage:
                x = self.reductions[stage - 1](x)
            for cell in cells:  # type: ignore[attr-defined]
                x = cell(x, *cell_arguments)
        return self.classifier(self.last(x).flatten(1))


class NasBench201Network(nn.Module):
    """One network of the space. Images (B, C, H, W) in, logits (B, classes) out."""

    def __init__(self, space: NasBench201Space, choices: Mapping[str, Choice]) -> None:
        super().__init__()
        self.frame = Frame(space, partial(Cell, choices=choices, groups=space.partial))

    def forward(self, x: Tensor) -> Tensor:
        return self.frame(x)
