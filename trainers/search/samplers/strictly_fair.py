"""Weight paths by which every choice takes as many steps as any other of its decision."""

# Shapes: n decisions.

from itertools import pairwise
from typing import ClassVar

import numpy as np

from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Relaxation
from trainers.search.samplers.sampler import PathSampler


class StrictlyFair(PathSampler):
    """As many networks an update as the largest decision has active choices; together they take each choice once.

    Each decision has an order of its own, drawn anew each update; one of fewer choices begins again. Budgets do not
    matter: every weight learns. Source: FairNAS, arXiv:1907.01845, strict fairness; its gradients are summed.
    """

    obeys_rules: ClassVar[bool] = False

    def path(self, step: int, device: int) -> tuple[int, ...]:
        return self.round(device)[0]

    def round(self, device: int) -> list[tuple[int, ...]]:
        """The networks (n,) of one update."""
        mask_N, generator = self.constraint.search.survivors[device].mask_N, self.constraint.generator
        orders = [generator.permutation(np.flatnonzero(mask_N[a:b])) for a, b in pairwise(self.first_choice)]
        return [tuple(int(order[k % len(order)]) for order in orders) for k in range(max(map(len, orders)))]

    def selections(self, relaxation: Relaxation, step: int, device: int) -> list[Selection]:
        return [self.constraint.table.space.selection(path) for path in self.round(device)]

    @property
    def first_choice(self) -> list[int]:
        places: list[int] = self.constraint.table.first_choice.tolist()
        return places
