"""What all marked parts of one supernet run at the moment."""

from collections.abc import Mapping
from itertools import product

import torch

from search_spaces.blocks import Extent, prefix_extent, weights_of
from search_spaces.marked.number import Number
from search_spaces.space import Selection


class Selected:
    """The selection of the pass that runs, and the choices (indices by decision) that its mixed parts run."""

    def __init__(self) -> None:
        self.selection: Selection = {}
        self.active: Mapping[str, tuple[int, ...]] = {}

    def is_mixed(self, number: Number) -> bool:
        return any(isinstance(self.selection[d.name], torch.Tensor) for d in number.decisions)

    def weighted(self, number: Number, like: torch.Tensor) -> tuple[torch.Tensor, list[int], list[int]]:
        """Weights (K,) of all values, the values, and the places of those that run; K combinations of choices."""
        weights = like.new_ones(())
        for decision in number.decisions:
            own = weights_of(self.selection[decision.name], len(decision.choices), like)
            weights = torch.outer(weights.flatten(), own).flatten()
        keys = list(product(*(range(len(d.choices)) for d in number.decisions)))
        running = set(self._running(number))
        return weights, [number.values[key] for key in keys], [k for k, key in enumerate(keys) if key in running]

    def largest(self, number: int) -> int:
        """The value that runs, the largest of them where several are mixed."""
        if not isinstance(number, Number):
            return number
        return max(number.values[key] for key in self._running(number))

    def extent(self, number: int, like: torch.Tensor) -> Extent:
        """How much of a dimension of this size is in use."""
        if not isinstance(number, Number) or not self.is_mixed(number):
            return Extent(self.largest(number))
        return prefix_extent(*self.weighted(number, like))

    def _running(self, number: Number) -> list[tuple[int, ...]]:
        options = []
        for decision in number.decisions:
            entry = self.selection[decision.name]
            options.append((entry,) if isinstance(entry, int) else self.active[decision.name])
        return list(product(*options))
