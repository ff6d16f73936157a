"""The cell space of DARTS: 28 decisions of eight operations, of which each node takes exactly two edges.

Source: DARTS, arXiv:1806.09055; the beside-an-identity and no-skip relatives: confopt's benchmark suite.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import nn

from search_spaces.bounds import DEEPEST, refuse, wrong_number
from search_spaces.darts.edge_operations import EDGE_OPERATIONS, NONE, OPERATIONS, run_skip
from search_spaces.darts.genotype import CELLS, EDGES, NODES, READ_PER_NODE, edge_name, format_genotype, parse_genotype
from search_spaces.darts.layout import (
    FEWEST_REDUCED,
    STEM_STRIDES,
    CellShape,
    cell_shapes,
    frame_operations,
    reductions,
)
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from search_spaces.rules import Rule
from search_spaces.space import Choice, Decision, SearchSpace, Site, Supernet, one_segment
from search_spaces.tensor_spec import TensorSpec

REDUCED = 4  # by what all reduction cells divide a side


class DartsSpace(SearchSpace):
    """Networks of `num_cells` cells, `width` channels in the first, reduction cells at a third and two thirds.

    `stem` is that of "cifar" or of "imagenet", which divides sides by 8. `operations` are what an edge may do. With
    `skip_beside` each edge adds its input to what its operation gives. Networks of one or two cells have no reduction
    cell and no decisions about it. A search trains networks of `search_width` channels and `search_cells` cells, where
    they are given; costs are those of the whole network.
    """

    name = "darts"

    def __init__(
        self,
        *,
        width: int = 36,
        num_cells: int = 20,
        image_size: int | Sequence[int] = 32,
        num_classes: int = 10,
        channels: int = 3,
        stem: str = "cifar",
        operations: Sequence[str] = OPERATIONS,
        skip_beside: bool = False,
        search_width: int | None = None,
        search_cells: int | None = None,
    ) -> None:
        sides = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
        self.width, self.num_cells, self.image_size = width, num_cells, image_size
        self.num_classes, self.channels, self.stem = num_classes, channels, stem
        self.edge_operations, self.skip_beside = tuple(operations), skip_beside
        self.search_width, self.search_cells = search_width or width, search_cells or num_cells
        refuse(self._problems(sides, search_width, search_cells))
        self.inputs = {"image": TensorSpec((channels, *sides))}
        self.cells = cell_shapes(self.deploy_shape, width=width, num_cells=num_cells, stem=stem)
        self.kinds = CELLS if reductions(num_cells) else CELLS[:1]
        self.decisions = tuple(
            Decision(edge_name(kind, *edge), self.edge_operations) for kind in self.kinds for edge in EDGES
        )
        self.operation_decisions = frozenset(decision.name for decision in self.decisions)
        self.rules = tuple(self._two_edges(kind, node) for kind in self.kinds for node in NODES)
        self.sites = (
            Site("frame", (), self._frame),
            *(self._edge_site(kind, source, target) for kind in self.kinds for source, target in EDGES),
        )
        self.segments = one_segment(self.deploy_shape, self.sites)

    def _problems(self, sides: Sequence[Any], search_width: int | None, search_cells: int | None) -> list[str]:
        """What is wrong with the arguments."""
        numbers = {"width": self.width, "channels": self.channels, "search_width": search_width}
        found = [p for key, value in numbers.items() if value is not None for p in wrong_number(key, value, least=1)]
        for key, cells in {"num_cells": self.num_cells, "search_cells": search_cells}.items():
            found += [] if cells is None else wrong_number(key, cells, most=DEEPEST)
        found += wrong_number("num_classes", self.num_classes, least=2)
        found += [problem for side in sides for problem in wrong_number("image_size", side)]
        if self.stem not in STEM_STRIDES:
            return [*found, f"space.stem: got {self.stem!r}, allowed: {', '.join(STEM_STRIDES)}"]
        unknown = sorted(set(map(str, self.edge_operations)) - set(OPERATIONS))
        if unknown or NONE not in self.edge_operations or len(self.edge_operations) < READ_PER_NODE:
            found.append(
                f"space.operations: got {list(self.edge_operations)}, allowed: {NONE}, which all but two edges of a "
                f"node are, and some of {', '.join(EDGE_OPERATIONS)}"
            )
        if type(self.skip_beside) is not bool:
            found.append(f"space.skip_beside: got {self.skip_beside!r}, allowed: true, false")
        if found:
            return found
        if bool(reductions(self.num_cells)) != bool(reductions(self.search_cells)):
            found.append(
                f"space.search_cells: got {self.search_cells} for {self.num_cells} cells, allowed: "
                f"{FEWEST_REDUCED} or more for both, or fewer for both; fewer have no reduction cell to train"
            )
        if min(self.width, self.search_width) < READ_PER_NODE:
            found.append("space.width: got 1, allowed: 2 or more, as halves of the channels come from a half each")
        halved = STEM_STRIDES[self.stem] * (REDUCED if reductions(self.num_cells) else 1)
        if len(sides) != 2 or any(side % halved for side in sides):
            found.append(
                f"space.image_size: got {list(sides)}, allowed: multiples of {halved} (a side, or height and width), "
                "which the network halves evenly; pad the images, or give the size of padded ones"
            )
        return found

    @classmethod
    def filled(cls, arguments: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        """With the data's `image_size` where none is given."""
        left_open = "image_size" in arguments and arguments["image_size"] is None
        return {**arguments, "image_size": list(image_size)} if left_open else dict(arguments)

    @classmethod
    def small(cls, **changes: Any) -> "DartsSpace":
        return cls(**{"width": 2, "num_cells": 4, "image_size": 8, "num_classes": 4} | changes)

    def spec(self) -> dict[str, Any]:
        keys = ("width", "num_cells", "image_size", "num_classes", "channels", "stem", "skip_beside")
        return {key: getattr(self, key) for key in keys} | {"operations": list(self.edge_operations)}

    @property
    def searched(self) -> SearchSpace:
        if (self.search_width, self.search_cells) == (self.width, self.num_cells):
            return self
        return type(self)(**self.spec() | {"width": self.search_width, "num_cells": self.search_cells})

    def supernet(self) -> Supernet:
        from search_spaces.darts.supernet import DartsSupernet

        return DartsSupernet(self)

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        from search_spaces.darts.network import DartsNetwork

        self.check(choices)
        return DartsNetwork(self, choices)

    def draw(self, choices: Mapping[str, Choice]) -> str:
        from search_spaces.darts.drawing import draw_cells

        self.check(choices)
        return draw_cells(self, choices)

    def notation(self, choices: Mapping[str, Choice]) -> str:
        return format_genotype(choices)

    def read_notation(self, notation: str) -> dict[str, Choice]:
        return parse_genotype(notation, self.edge_operations, self.kinds)

    def parse(self, notation: str) -> dict[str, Choice]:
        """As of every space; the inputs of a node in either order, spaces and quotes as one likes."""
        with suppress(InvalidInputError):  # the text is refused for it as it stands
            notation = format_genotype(parse_genotype(notation, self.edge_operations, self.kinds))
        return super().parse(notation)

    def _two_edges(self, kind: str, node: int) -> Rule:
        into = [edge_name(kind, source, node) for source in range(node)]
        taken: dict[tuple[str, Choice], float] = {
            (name, choice): 1.0 for name in into for choice in self.edge_operations if choice != NONE
        }
        return Rule(f"two edges into {kind} node {node}", taken, low=READ_PER_NODE, high=READ_PER_NODE)

    def _frame(self, choices: Mapping[str, Any]) -> list[Operation]:
        return frame_operations(self.deploy_shape, self.cells, stem=self.stem, num_classes=self.num_classes)

    def _edge_site(self, kind: str, source: int, target: int) -> Site:
        name = edge_name(kind, source, target)
        cells = [cell for cell in self.cells if cell.kind == kind]

        def operations(choices: Mapping[str, Any]) -> list[Operation]:
            return [op for cell in cells for op in self._edge(str(choices[name]), cell, source)]

        return Site(name, (name,), operations)

    def _edge(self, operation: str, cell: CellShape, source: int) -> list[Operation]:
        """What an edge from a node runs in one cell."""
        if operation == NONE:
            return []
        shapes = (cell.inputs if source in (0, 1) else cell.nodes), cell.nodes
        runs = list(EDGE_OPERATIONS[operation].runs(*shapes))
        return [*run_skip(*shapes), *runs, Operation("add", cell.nodes, cell.nodes)] if self.skip_beside else runs
