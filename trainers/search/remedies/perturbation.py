"""Weights trained at disturbed mixtures, so that they bear the choice that follows."""

# Shapes: C choices of one decision.

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Searched
from trainers.search.remedies.remedy import Remedy

Radius = Annotated[float, Field(ge=0, le=1)]


class Perturbation(Remedy):
    """Uniform noise on the probabilities that the weights are trained at, in a box that grows linearly.

    Weights below zero or above one are cut. Source: SDARTS-RS, arXiv:2002.05283; radius 0.03 to 0.3 as in its code.
    """

    needs_mixture = True

    def __init__(self, searched: Searched, *, first: Radius = 0.03, last: Radius = 0.3) -> None:
        super().__init__(searched)
        self.first, self.last = first, last

    def weights_selection(self, selection: Selection) -> Selection:
        hard = self.searched.state.table.space.hard_decisions
        return {name: each if name in hard else self._disturbed(each) for name, each in selection.items()}

    def _disturbed(self, weights_C: int | Tensor) -> int | Tensor:
        if isinstance(weights_C, int):
            return weights_C
        radius = self.first + (self.last - self.first) * self.searched.state.progress
        generator = self.searched.constraint.generator
        noise_C = torch.from_numpy(generator.uniform(-radius, radius, size=len(weights_C))).to(weights_C)
        return (weights_C + noise_C * (weights_C > 0)).clamp(0, 1)  # what is pruned stays out
