"""Networks that differ from each other, as far as a space can tell."""

# Shapes: S networks, n decisions.

from collections.abc import Hashable, Iterable, Sequence

from hardware_models.budgets.cost_table import Indices
from search_spaces.space import SearchSpace


class Distinct:
    """Networks that differ: decisions that a network does not use, a block beyond its depth say, make no difference."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.networks: list[tuple[int, ...]] = []
        self._known: set[Hashable] = set()

    def add(self, networks: Iterable[Sequence[int] | Indices], *, up_to: int) -> bool:
        """Takes new networks in order until there are `up_to`; whether there are."""
        for network in networks:
            if len(self.networks) >= up_to:
                break
            indices = tuple(int(k) for k in network)
            key = self.space.identity(self.space.choices(indices))
            if key not in self._known:
                self._known.add(key)
                self.networks.append(indices)
        return len(self.networks) >= up_to
