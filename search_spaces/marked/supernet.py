"""The supernet of a marked space: its network with all alternatives, run as a selection says."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from search_spaces.marked.layers import copy_weights, share_weights
from search_spaces.marked.marks import building
from search_spaces.marked.space import MarkedSpace
from search_spaces.space import Choice, Selection, Supernet


class MarkedSupernet(Supernet):
    """Alternatives have weights of their own; the values of a number share the leading part of one set."""

    def __init__(self, space: MarkedSpace) -> None:
        super().__init__(space)
        self.space = space
        with building() as builder:
            self.whole = space.build()
        self.selected = builder.selected
        self.selected.active = self.active
        share_weights(self.whole, self.selected)

    def restrict(self, active: Mapping[str, Sequence[int]]) -> None:
        super().restrict(active)
        self.selected.active = self.active

    def forward(self, x: Any, selection: Selection) -> Tensor:
        self.selected.selection = selection
        output: Tensor = self.whole(*x) if isinstance(x, tuple) else self.whole(x)
        return output

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        network = self.space.network(choices)
        copy_weights(self.whole, network)
        return network.to(next(self.whole.parameters()).device).train(self.training)
