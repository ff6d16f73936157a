"""Weights trained on the mixtures that the logits are trained at."""

# Shapes: n decisions.

from typing import ClassVar

from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Relaxation
from trainers.search.samplers.sampler import PathSampler


class Mixed(PathSampler):
    """A selection of the relaxation for each update; decisions that cannot be mixed are drawn.

    Source: DARTS, arXiv:1806.09055, whose weights are those of the mixture.
    """

    mixes: ClassVar[bool] = True

    def path(self, step: int, device: int) -> tuple[int, ...]:
        return self.constraint.draw(device)

    def selections(self, relaxation: Relaxation, step: int, device: int) -> list[Selection]:
        return [relaxation.selection(device)]
