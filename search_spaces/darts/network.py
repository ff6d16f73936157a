"""Stand-alone networks of the `darts` space, and the frame that they share with its supernet."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.blocks import Add
from search_spaces.darts.edge_operations import EDGE_OPERATIONS, NONE, Beside, FactorizedReduce, relu_conv_bn
from search_spaces.darts.genotype import EDGES, NODES, NUM_INPUTS, edge_name
from search_spaces.darts.layout import CellShape, stem_shapes
from search_spaces.darts.space import DartsSpace
from search_spaces.space import Choice

# Edges in the order they run: by source, so that the large inputs of a reduction cell are gone early.
IN_ORDER = tuple(sorted(EDGES))


def prepare(cell: CellShape, place: int) -> nn.Module:
    """What brings the output of one of the two cells before to a cell's channels and size."""
    cin, cout = cell.before[place][0], cell.inputs[0]
    return FactorizedReduce(cin, cout) if place == 0 and cell.halves_first else relu_conv_bn(cin, cout)


def stride_of(cell: CellShape, source: int) -> int:
    """Of the operations on an edge from this node."""
    return 2 if source < NUM_INPUTS and cell.inputs != cell.nodes else 1


class Cell(nn.Module):
    """One cell with the two edges of each node."""

    def __init__(self, cell: CellShape, choices: Mapping[str, Choice], *, skip_beside: bool) -> None:
        super().__init__()
        self.prepare = nn.ModuleList(prepare(cell, place) for place in range(NUM_INPUTS))
        self.edges = nn.ModuleDict()
        self.taken: list[tuple[str, int, int]] = []
        for source, target in IN_ORDER:
            name = edge_name(cell.kind, source, target)
            choice = str(choices[name])
            if choice == NONE:
                continue
            channels, stride = cell.inputs[0], stride_of(cell, source)
            operation = EDGE_OPERATIONS[choice].module(channels, stride)
            self.edges[name] = Beside(operation, channels, stride) if skip_beside else operation
            self.taken.append((name, source, target))
        self.add = Add()

    def forward(self, before: tuple[Tensor, Tensor]) -> Tensor:
        """The nodes, concatenated (B, 4 C, H, W), from the outputs of the two cells before."""
        nodes = {place: module(x) for place, (module, x) in enumerate(zip(self.prepare, before, strict=True))}
        for name, source, target in self.taken:
            y = self.edges[name](nodes[source])
            nodes[target] = self.add(nodes[target], y) if target in nodes else y
        return torch.cat([nodes[node] for node in NODES], dim=1)


class Frame(nn.Module):
    """The network around its cells: stem, cells that read the two before them, head."""

    def __init__(self, space: DartsSpace, make_cell: Callable[[CellShape], nn.Module]) -> None:
        super().__init__()
        self.stem = stem(space)
        self.cells = nn.ModuleList(make_cell(cell) for cell in space.cells)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(space.cells[-1].output[0], space.num_classes)

    def forward(self, x: Tensor, *cell_arguments: Any) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W); `cell_arguments` go to every cell."""
        outputs = [x]
        for part in self.stem:
            outputs.append(part(outputs[-1]))
        first, second = (outputs[1], outputs[1]) if len(self.stem) == 1 else outputs[1:]
        for cell in self.cells:
            first, second = second, cell((first, second), *cell_arguments)
        return self.classifier(self.pool(second).flatten(1))


def stem(space: DartsSpace) -> nn.ModuleList:
    """Each part's output is read by the next one and by cells. Cells begin with a ReLU, so that one may be in place."""
    widths = [shape[0] for shape in stem_shapes(space.deploy_shape, space.width, space.stem)]
    if space.stem == "cifar":
        return nn.ModuleList([conv_bn(space.channels, widths[0], 1)])
    first, second = conv_bn(space.channels, widths[0], 2), conv_bn(widths[0], widths[1], 2)
    return nn.ModuleList(
        [
            nn.Sequential(first, nn.ReLU(inplace=True), second),
            nn.Sequential(nn.ReLU(inplace=True), conv_bn(widths[1], widths[2], 2)),
        ]
    )


def conv_bn(cin: int, cout: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False), nn.BatchNorm2d(cout))


class DartsNetwork(nn.Module):
    """One network of the space. Images (B, C, H, W) in, logits (B, classes) out."""

    def __init__(self, space: DartsSpace, choices: Mapping[str, Choice]) -> None:
        super().__init__()
        self.frame = Frame(space, lambda cell: Cell(cell, choices, skip_beside=space.skip_beside))

    def forward(self, x: Tensor) -> Tensor:
        return self.frame(x)
