"""A DARTS cell with all its operations: mixed in few passes over its maps, or one operation per edge."""

# Shapes: B batch, C channels, H height, W width.

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from search_spaces.darts.edge_operations import EDGE_OPERATIONS, NONE, skip
from search_spaces.darts.genotype import EDGES, NODES, NUM_INPUTS, edge_name
from search_spaces.darts.layout import CellShape
from search_spaces.darts.mixed_source import MixedSource, Sums
from search_spaces.darts.network import IN_ORDER, prepare, stride_of


class MixedCell(nn.Module):
    """Sums over edges of sums over operations, each edge's weights its own.

    What mixed edges from one node share runs once (`MixedSource`), as long as no operation has a hook, which asks for
    a call of its own.
    """

    def __init__(self, cell: CellShape, names: Sequence[str], *, skip_beside: bool) -> None:
        super().__init__()
        self.kind, self.names, self.skip_beside = cell.kind, tuple(names), skip_beside
        self.stride = stride_of(cell, 0)  # of edges from the cell's inputs
        self.auxiliary_skip = 0.0  # weight of an identity beside each mixed edge; of stride 2, the mean of 2x2 pixels
        self.prepare = nn.ModuleList(prepare(cell, place) for place in range(NUM_INPUTS))
        channels = cell.inputs[0]
        self.edges, self.besides = nn.ModuleDict(), nn.ModuleDict()
        for source, target in EDGES:
            name, stride = edge_name(cell.kind, source, target), stride_of(cell, source)
            modules = {n: EDGE_OPERATIONS[n].module(channels, stride) for n in self.names if n != NONE}
            self.edges[name] = nn.ModuleDict(modules)
            if skip_beside:
                self.besides[name] = skip(channels, stride)

    def forward(
        self,
        before: tuple[Tensor, Tensor],
        selection: Mapping[str, int | Tensor],
        active: Mapping[str, tuple[int, ...]],
    ) -> Tensor:
        """The nodes, concatenated (B, 4 C, H, W), from the outputs of the two cells before."""
        nodes = {place: module(x) for place, (module, x) in enumerate(zip(self.prepare, before, strict=True))}
        sums = Sums()
        one_by_one = any(operation._forward_hooks for edge in self.edges.values() for operation in edge.values())  # type: ignore[operator]
        for source in range(NODES[-1]):
            if source in NODES:
                nodes[source] = self._node(sums, source, nodes[0])
            edges = MixedSource(nodes[source], self.stride if source < NUM_INPUTS else 1, sums)
            for target in (t for s, t in IN_ORDER if s == source):
                name = edge_name(self.kind, source, target)
                taken = selection[name]
                if isinstance(taken, int):
                    self._add_one(name, self.names[taken], nodes[source], target, sums)
                    continue
                shares = taken.unbind()
                weights = {self.names[k]: shares[k] for k in active[name] if self.names[k] != NONE}
                add = edges.add_each if one_by_one else edges.add
                add(target, self.edges[name], weights)
                if weights and self.skip_beside:
                    edges.add_beside(target, self.besides[name], sum(weights.values(), shares[0].new_zeros(())))
                if weights and self.auxiliary_skip:
                    edges.add_auxiliary(target, self.auxiliary_skip)
            edges.add_maps()
        nodes[NODES[-1]] = self._node(sums, NODES[-1], nodes[0])
        return torch.cat([nodes[node] for node in NODES], dim=1)

    def _add_one(self, edge: str, operation: str, x: Tensor, target: int, sums: Sums) -> None:
        """The edge with one operation."""
        if operation != NONE:
            y = self.edges[edge][operation](x)  # type: ignore[index]
            sums.add(target, self.besides[edge](x) + y if self.skip_beside else y)

    def _node(self, sums: Sums, node: int, x: Tensor) -> Tensor:
        """A node's sum; zeros if no edge leads into it."""
        found = sums.take(node)
        if found is not None:
            return found
        height, width = (-(-side // self.stride) for side in x.shape[2:])
        return x.new_zeros(*x.shape[:2], height, width)
