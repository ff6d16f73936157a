"""The NAS-Bench-201 cell space: six edges, five operations, 15,625 cells, with the benchmark's own notation.

Source: NAS-Bench-201, arXiv:2001.00326; macro skeleton of its CIFAR-10 networks.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeVar

from torch import nn

from search_spaces.bounds import DEEPEST, refuse, wrong_number
from search_spaces.errors import InvalidInputError
from search_spaces.nasbench201.cell_operations import CELL_OPERATIONS, NONE
from search_spaces.operation import Operation, Shape
from search_spaces.space import Choice, Decision, SearchSpace, Segment, Site, Supernet
from search_spaces.tensor_spec import TensorSpec

Value = TypeVar("Value")
# Those of the benchmark, in order of cost.
OPERATIONS = (NONE, "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (source, target) nodes, in the order of the notation
NUM_STAGES = 3
SKIP = "skip_connect"
PATHS = (((0, 3),), ((0, 1), (1, 3)), ((0, 2), (2, 3)), ((0, 1), (1, 2), (2, 3)))  # from a cell's input to its output


def edge_name(source: int, target: int) -> str:
    return f"edge{source}{target}"


def format_arch(choices: Mapping[str, Choice]) -> str:
    """The benchmark's string of a cell, as `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`."""
    nodes = []
    for target in (1, 2, 3):
        parts = [f"{choices[edge_name(source, target)]}~{source}" for source in range(target)]
        nodes.append(f"|{'|'.join(parts)}|")
    return "+".join(nodes)


def parse_arch(text: str, operations: Sequence[str] = OPERATIONS) -> dict[str, Choice]:
    """The choices of a cell written in the benchmark's notation. Raises: InvalidInputError if it is not a cell."""
    nodes = text.split("+")
    choices: dict[str, Choice] = {}
    for target, node in enumerate(nodes, start=1):
        parts = node.strip("|").split("|")
        for source, part in enumerate(parts):
            name, _, origin = part.partition("~")
            if origin != str(source) or name not in operations:
                raise InvalidInputError(
                    f"not a NAS-Bench-201 cell: {part!r} of {text!r}; edge {source} into node {target} is written "
                    f"<operation>~{source}, the operation one of {', '.join(operations)}"
                )
            choices[edge_name(source, target)] = name
    if list(choices) != [edge_name(*edge) for edge in sorted(EDGES, key=lambda e: (e[1], e[0]))]:
        raise InvalidInputError(
            f"not a NAS-Bench-201 cell: {text!r} has {len(choices)} edges into {len(nodes)} nodes, need 6 into 3"
        )
    return choices


def live_edges(choices: Mapping[str, Choice]) -> list[tuple[int, int]]:
    """Edges on a path of operations from the input node to the output node; all others compute nothing that is used."""
    used = [edge for edge in EDGES if choices[edge_name(*edge)] != NONE]
    fed, needed = {0}, {3}
    for source, target in sorted(used):
        if source in fed:
            fed.add(target)
    for source, target in sorted(used, reverse=True):
        if target in needed:
            needed.add(source)
    return [(s, t) for s, t in used if s in fed and t in needed]


class NasBench201Space(SearchSpace):
    """Cells of NAS-Bench-201 in its network: three stages of `num_cells` cells, `width` channels in the first.

    `operations` are what an edge may do: names of `CELL_OPERATIONS`, and `none`. A search trains networks of
    `search_width` channels and `search_cells` cells, where they are given, whose operations see one in `search_partial`
    of their channels; costs are those of the whole network.
    """

    name = "nasbench201"

    def __init__(
        self,
        *,
        width: int = 16,
        num_cells: int = 5,
        image_size: int | Sequence[int] = 32,
        num_classes: int = 10,
        channels: int = 3,
        operations: Sequence[str] = OPERATIONS,
        search_width: int | None = None,
        search_cells: int | None = None,
        search_partial: int | None = None,
    ) -> None:
        sides = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
        numbers = {"width": width, "image_size": min(sides), "channels": channels, "search_width": search_width}
        numbers["search_partial"] = search_partial
        problems = [p for key, value in numbers.items() if value is not None for p in wrong_number(key, value)]
        for key, cells in {"num_cells": num_cells, "search_cells": search_cells}.items():
            problems += [] if cells is None else wrong_number(key, cells, most=DEEPEST)
        seen_width = search_width or width
        if not problems and seen_width % (search_partial or 1):
            problems.append(f"space.search_partial: got {search_partial}, allowed: what divides {seen_width} channels")
        if len(sides) != 2:
            problems.append(f"space.image_size: got {sides}, allowed: pixels of a side, or height and width")
        refuse([*problems, *wrong_number("num_classes", num_classes, least=2)])
        self.width, self.num_cells, self.image_size = width, num_cells, image_size
        self.num_classes, self.channels = num_classes, channels
        self.search_width, self.search_cells = seen_width, search_cells or num_cells
        self.search_partial = search_partial or 1
        self.partial = 1  # in how many channels operations see one; more in the networks of a search
        self.inputs = {"image": TensorSpec((channels, *sides))}
        self.edge_operations = tuple(operations)
        for name in self.edge_operations:
            if name != NONE:
                CELL_OPERATIONS[name]
        self.decisions = tuple(Decision(edge_name(*edge), self.edge_operations) for edge in EDGES)
        self.operation_decisions = frozenset(decision.name for decision in self.decisions)
        # Whether an edge is live depends on the other edges of the cell, so the cell is one site.
        names = tuple(decision.name for decision in self.decisions)
        self.sites = (Site("frame", (), self._frame), Site("cells", names, self._cells))
        self.segments = tuple(self._segments(names))

    @classmethod
    def filled(cls, arguments: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        """With the data's `image_size` where none is given."""
        left_open = "image_size" in arguments and arguments["image_size"] is None
        return {**arguments, "image_size": list(image_size)} if left_open else dict(arguments)

    @classmethod
    def small(cls, **changes: Any) -> "NasBench201Space":
        return cls(**{"width": 4, "num_cells": 1, "image_size": 8, "num_classes": 4} | changes)

    def spec(self) -> dict[str, Any]:
        keys = ("width", "num_cells", "image_size", "num_classes", "channels")
        others = {} if self.edge_operations == OPERATIONS else {"operations": list(self.edge_operations)}
        return {key: getattr(self, key) for key in keys} | others

    @property
    def searched(self) -> SearchSpace:
        if (self.search_width, self.search_cells, self.search_partial) == (self.width, self.num_cells, 1):
            return self
        smaller = {"width": self.search_width, "num_cells": self.search_cells}
        found = type(self)(**self.spec() | smaller)
        found.partial = self.search_partial
        return found

    def supernet(self) -> Supernet:
        from search_spaces.nasbench201.supernet import NasBench201Supernet

        return NasBench201Supernet(self)

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        from search_spaces.nasbench201.network import NasBench201Network

        self.check(choices)
        return NasBench201Network(self, choices)

    def draw(self, choices: Mapping[str, Choice]) -> str:
        from search_spaces.nasbench201.drawing import draw_cell

        self.check(choices)
        return draw_cell(self, choices)

    def notation(self, choices: Mapping[str, Choice]) -> str:
        return format_arch(choices)

    def identity(self, choices: Mapping[str, Choice]) -> Hashable:
        """What reaches the output along live edges, with skips left out and sums in any order.

        By it 5,390 of the 15,625 cells differ. As the unique strings of NAS-Bench-201, arXiv:2001.00326, without edges
        that reach no output.
        """
        written = {0: "x"}
        live = {edge: str(choices[edge_name(*edge)]) for edge in live_edges(choices)}
        for node in (1, 2, 3):
            read = [(written[source], name) for (source, target), name in live.items() if target == node]
            written[node] = "+".join(sorted(x if name == SKIP else f"({x}){name}" for x, name in read))
        return written[3]

    def features(self, choices: Mapping[str, Choice]) -> list[float]:
        """The operations of live edges, how many there are of each, and which each path to the output has."""
        live = set(live_edges(choices))
        edges = [str(choices[edge_name(*edge)]) if edge in live else NONE for edge in EDGES]
        counts = [_log_count(edges, name) for name in self.edge_operations if name != NONE]
        paths = [[edges[EDGES.index(edge)] for edge in path] for path in PATHS]
        on_paths = [
            float(NONE not in path and path.count(name) > most)
            for path in paths
            for name in self.edge_operations
            if name != NONE
            for most in range(len(path))
        ]
        return [*(float(name == edge) for edge in edges for name in self.edge_operations), *counts, *on_paths]

    def read_notation(self, notation: str) -> dict[str, Choice]:
        return parse_arch(notation, self.edge_operations)

    def stage_shape(self, stage: int) -> Shape:
        height, width = (-(-side // 2**stage) for side in self.deploy_shape[1:])
        return (self.width * 2**stage, height, width)

    def _segments(self, names: tuple[str, ...]) -> list[Segment]:
        """Stem, stages with the reduction before them, and head."""
        stages = []
        for stage in range(NUM_STAGES):
            reduction = Site(f"stage{stage}.reduction", (), always(self._reduction(stage)))
            cells = Site(f"stage{stage}.cells", names, partial(self._stage_cells, stage))
            input_shape = always(self.stage_shape(max(0, stage - 1)))
            stages.append(Segment(f"stage{stage}", (), input_shape, (reduction, cells)))
        return [
            Segment("stem", (), always(self.deploy_shape), (Site("stem", (), always(self._stem())),)),
            *stages,
            Segment("head", (), always(self.stage_shape(NUM_STAGES - 1)), (Site("head", (), always(self._head())),)),
        ]

    def _frame(self, choices: Mapping[str, Any]) -> list[Operation]:
        """Stem, reductions and head: the same in every network."""
        reductions = [operation for stage in range(NUM_STAGES) for operation in self._reduction(stage)]
        return [*self._stem(), *reductions, *self._head()]

    def _stem(self) -> list[Operation]:
        return [Operation("conv", self.deploy_shape, self.stage_shape(0), kernel=3)]

    def _reduction(self, stage: int) -> list[Operation]:
        """What leads into a stage from the one before; nothing leads into the first."""
        if stage == 0:
            return []
        before, after = self.stage_shape(stage - 1), self.stage_shape(stage)
        pooled = (before[0], after[1], after[2])
        kept = _size(before)  # the reduction's input, which the shortcut still needs
        return [
            # It reads a copy, through a ReLU; a pooled shortcut reads the original later.
            Operation("conv", before, after, kernel=3, stride=2, held=kept),
            Operation("conv", after, after, kernel=3, held=kept),
            Operation("avg_pool", before, pooled, kernel=2, stride=2, held=_size(after)),
            Operation("conv", pooled, after, held=_size(after), bias=False),
            Operation("add", after, after),
        ]

    def _head(self) -> list[Operation]:
        last = self.stage_shape(NUM_STAGES - 1)
        features = (last[0], 1, 1)
        return [
            Operation("batch_norm", last, last),  # it follows a sum, so no convolution can take it in
            Operation("global_pool", last, features),
            Operation("linear", features, (self.num_classes, 1, 1)),
        ]

    def _cells(self, choices: Mapping[str, Any]) -> list[Operation]:
        live = live_operations(choices)
        per_cell = [op for stage in range(NUM_STAGES) for op in cell_operations(live, self.stage_shape(stage))]
        return per_cell * self.num_cells

    def _stage_cells(self, stage: int, choices: Mapping[str, Any]) -> tuple[Operation, ...]:
        return cell_operations(live_operations(choices), self.stage_shape(stage)) * self.num_cells


def _log_count(edges: Sequence[str], name: str) -> float:
    return math.log1p(edges.count(name))


def always(value: Value) -> Callable[[Mapping[str, Any]], Value]:
    """A function of choices that depends on none of them."""
    return lambda choices: value


def live_operations(choices: Mapping[str, Choice]) -> tuple[tuple[int, int, str], ...]:
    """Source, target and operation of each live edge of a cell."""
    return tuple((source, target, str(choices[edge_name(source, target)])) for source, target in live_edges(choices))


@cache
def cell_operations(live: tuple[tuple[int, int, str], ...], shape: Shape) -> tuple[Operation, ...]:
    """Operations of one cell in the order they run, with what each leaves in memory for later."""
    steps: list[tuple[Operation | None, tuple[int, ...]]] = []  # what runs, and what it reads; step k writes tensor k

    def run(operation: Operation | None, *read: int) -> int:
        steps.append((operation, read))
        return len(steps)

    nodes = {0: 0}  # a skip writes nothing: its node is the very tensor it was given
    for source, target, name in sorted(live, key=lambda edge: (edge[1], edge[0])):
        record, y = CELL_OPERATIONS[name], nodes[source]
        y = run(None, y) if record.copies_input else y
        for operation in record.runs(shape):
            y = run(operation, y)
        nodes[target] = run(Operation("add", shape, shape), nodes[target], y) if target in nodes else y
    last_read = {tensor: step for step, (_, read) in enumerate(steps, start=1) for tensor in read}
    last_read[nodes.get(3, 0)] = len(steps)
    sizes = [_size(shape)]
    operations = []
    for step, (run_here, read) in enumerate(steps, start=1):
        sizes.append(sizes[read[0]] if run_here is None else run_here.out_elements)
        if run_here is None:  # an activation: fused, and less is in memory than at the operation behind it
            continue
        alive = sizes[step] + sum(sizes[tensor] for tensor in range(step) if last_read[tensor] >= step)
        # An addition of a tensor to itself has one operand in memory and not two: what it holds is less than nothing.
        operations.append(replace(run_here, held=alive - run_here.in_elements - run_here.out_elements))
    return tuple(operations)


def _size(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]
