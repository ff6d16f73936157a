"""The supernet of the `nasbench201` space: every operation on every edge, mixed or taken singly."""

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from search_spaces.nasbench201.cell_operations import NONE, edge_module
from search_spaces.nasbench201.network import Frame
from search_spaces.nasbench201.space import EDGES, NasBench201Space, edge_name, live_edges
from search_spaces.space import Choice, Selection, Supernet


class MixedCell(nn.Module):
    """One cell with all its operations. An edge from an empty node is empty: its output is weighted by being fed."""

    def __init__(self, channels: int, names: Sequence[str], groups: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.auxiliary_skip = 0.0  # weight of an identity beside each mixed edge
        self.edges = nn.ModuleDict(
            {
                edge_name(*edge): nn.ModuleDict({n: edge_module(n, channels, groups) for n in names if n != NONE})
                for edge in EDGES
            }
        )

    def forward(self, x: Tensor, selection: Selection, active: Mapping[str, tuple[int, ...]]) -> Tensor:
        nodes: dict[int, Tensor] = {0: x}
        fed: dict[int, Tensor | float] = {0: 1.0}
        none = self.names.index(NONE) if NONE in self.names else None
        for target in (1, 2, 3):
            unfed: Tensor | float = 1.0
            for source in range(target):
                name = edge_name(source, target)
                weights = selection[name]
                operations: nn.ModuleDict = self.edges[name]  # type: ignore[assignment]
                if source not in nodes:
                    continue
                if isinstance(weights, int):
                    if weights == none:
                        continue
                    y = operations[self.names[weights]](nodes[source])
                    y = y * fed[source] if isinstance(fed[source], Tensor) else y
                    unfed = unfed * (1 - fed[source])
                else:
                    run = [k for k in active[name] if k != none]
                    if not run:
                        continue
                    y = sum(weights[k] * operations[self.names[k]](nodes[source]) for k in run) * fed[source]
                    if self.auxiliary_skip:
                        y = y + self.auxiliary_skip * nodes[source]
                    weight_of_none = 0.0 if none is None else weights[none]
                    unfed = unfed * (1 - (1 - weight_of_none) * fed[source])
                nodes[target] = nodes[target] + y if target in nodes else y
            fed[target] = 1 - unfed
        return nodes[3] if 3 in nodes else x.new_zeros(()).expand_as(x)


class NasBench201Supernet(Supernet):
    """Shared weights of all cells."""

    def __init__(self, space: NasBench201Space) -> None:
        super().__init__(space)
        self.space = space
        self.frame = Frame(space, partial(MixedCell, names=space.edge_operations, groups=space.partial))

    @property
    def layers(self) -> Sequence[MixedCell]:
        return [cell for cell in self.frame.modules() if isinstance(cell, MixedCell)]

    @property
    def edge_operations(self) -> Mapping[str, nn.Module]:
        return {
            f"{layer}.{edge}.{name}": operation
            for layer, cell in enumerate(self.layers)
            for edge, operations in cell.edges.items()
            for name, operation in operations.named_children()
        }

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        if all(isinstance(choice, int) for choice in selection.values()):
            selection = self._live_only(selection)
        return self.frame(x, selection, self.active)

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        network = self.space.network(choices)
        ours = self.state_dict()
        theirs = {}
        for name in network.state_dict():
            before, _, after = name.partition(".edges.")
            edge, _, rest = after.partition(".")
            theirs[name] = ours[f"{before}.edges.{edge}.{choices[edge]}.{rest}" if after else name]
        network.load_state_dict(theirs)
        return network.to(self.frame.classifier.weight.device).train(self.training)

    def _live_only(self, selection: Selection) -> Selection:
        """The same network without the operations whose output nothing uses."""
        names = self.space.edge_operations
        if NONE not in names:
            return selection
        live = {edge_name(*edge) for edge in live_edges({n: names[int(k)] for n, k in selection.items()})}
        return {name: choice if name in live else names.index(NONE) for name, choice in selection.items()}
