"""The network around DARTS cells: their shapes, and what runs outside of edges with what memory holds beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from search_spaces.darts.edge_operations import run_reduce
from search_spaces.darts.genotype import NUM_NODES
from search_spaces.operation import Operation, Shape

STEM_MULTIPLIER = 3  # channels of the CIFAR stem over those of the first cell
STEM_STRIDES = {"cifar": 1, "imagenet": 8}
FEWEST_REDUCED = 3  # cells of a network that has reduction cells


@dataclass(frozen=True)
class CellShape:
    """A cell's place: what the two cells before it give, its own inputs once preprocessed, and its nodes.

    `halves_first`: the cell before reduced, so that the first input is halved to the size of the second.
    """

    kind: str
    before: tuple[Shape, Shape]
    inputs: Shape
    nodes: Shape
    halves_first: bool

    @property
    def output(self) -> Shape:
        channels, height, width = self.nodes
        return NUM_NODES * channels, height, width


def halved(shape: Shape) -> Shape:
    return shape[0], -(-shape[1] // 2), -(-shape[2] // 2)


def stem_shapes(image: Shape, width: int, stem: str) -> tuple[Shape, ...]:
    """Outputs of the stem's convolutions: one, or three of stride 2."""
    if stem == "cifar":
        return ((STEM_MULTIPLIER * width, *image[1:]),)
    first = halved((width // 2, *image[1:]))
    second = halved((width, *first[1:]))
    return first, second, halved(second)


def reductions(num_cells: int) -> tuple[int, ...]:
    """Positions of the reduction cells: a third and two thirds of the way; none in a network of one or two cells."""
    return (num_cells // 3, 2 * num_cells // 3) if num_cells >= FEWEST_REDUCED else ()


def cell_shapes(image: Shape, *, width: int, num_cells: int, stem: str) -> tuple[CellShape, ...]:
    shapes = stem_shapes(image, width, stem)
    before, channels = (shapes[-2:][0], shapes[-1]), width
    cells: list[CellShape] = []
    for place in range(num_cells):
        reduces = place in reductions(num_cells)
        channels *= 2 if reduces else 1
        inputs: Shape = (channels, *before[1][1:])
        nodes = halved(inputs) if reduces else inputs
        halves_first = before[0][1:] != before[1][1:]
        cells.append(CellShape("reduce" if reduces else "normal", before, inputs, nodes, halves_first))
        before = before[1], cells[-1].output
    return tuple(cells)


class Timeline:
    """What runs in order, and which tensors each step reads; every step writes one tensor, which its number names."""

    def __init__(self) -> None:
        self._steps: list[tuple[Operation | None, tuple[int, ...], int]] = []

    def run(self, operation: Operation | None, *reads: int, elements: int = 0) -> int:
        """The tensor that an operation writes; None for what costs nothing and writes a tensor of `elements`."""
        written = elements if operation is None else operation.out_elements
        self._steps.append((operation, reads, written))
        return len(self._steps) - 1

    def operations(self) -> list[Operation]:
        """With what each leaves in memory: the most since the operation before it, as other steps count too."""
        change = [0] * (len(self._steps) + 1)
        last = dict(enumerate(range(len(self._steps))))
        last |= {tensor: step for step, (_, reads, _) in enumerate(self._steps) for tensor in reads}
        for step, (_, _, elements) in enumerate(self._steps):
            change[step] += elements
            change[last[step] + 1] -= elements
        found, most = [], 0
        for (operation, _, _), live in zip(self._steps, accumulate(change), strict=False):
            most = max(most, live)
            if operation is not None:
                found.append(replace(operation, held=most - operation.in_elements - operation.out_elements))
                most = 0
        return found


def frame_operations(image: Shape, cells: Sequence[CellShape], *, stem: str, num_classes: int) -> list[Operation]:
    """Stem, what prepares the inputs of cells, the sums in their nodes, and head: the same in every network.

    No edge has more in memory than a frame has somewhere: a cell's nodes beside its output, or its inputs as they are
    prepared. Nodes have two edges, which write a tensor each.
    """
    timeline = Timeline()
    x = timeline.run(None, elements=_size(image))
    outputs = [x]
    shape = image
    first_cell = cells[0]
    for after in stem_shapes(image, first_cell.inputs[0], stem):
        x = timeline.run(Operation("conv", shape, after, kernel=3, stride=1 if stem == "cifar" else 2), x)
        outputs, shape = [*outputs, x], after
    first, second = (x, x) if stem == "cifar" else (outputs[-2], x)
    for cell in cells:
        first, second = second, _run_cell(timeline, cell, first, second)
    last = cells[-1].output
    features = last[0], 1, 1
    pooled = timeline.run(Operation("global_pool", last, features), second)
    timeline.run(Operation("linear", features, (num_classes, 1, 1)), pooled)
    return timeline.operations()


def _run_cell(timeline: Timeline, cell: CellShape, first: int, second: int) -> int:
    """The output of a cell that reads these two."""
    copy = timeline.run(None, first, elements=_size(cell.before[0]))
    if cell.halves_first:
        halves = [timeline.run(operation, copy) for operation in run_reduce(cell.before[0], cell.inputs)]
        x = timeline.run(None, *halves, elements=_size(cell.inputs))
    else:
        x = timeline.run(Operation("conv", cell.before[0], cell.inputs), copy)
    copy = timeline.run(None, second, elements=_size(cell.before[1]))
    y = timeline.run(Operation("conv", cell.before[1], cell.inputs), copy)
    nodes = []
    for _ in range(NUM_NODES):
        edges = [timeline.run(None, x, y, elements=_size(cell.nodes)) for _ in range(2)]
        nodes.append(timeline.run(Operation("add", cell.nodes, cell.nodes), *edges))
    # The cell after the next reads what this one read as its second input.
    return timeline.run(None, *nodes, elements=_size(cell.output))


def _size(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]
