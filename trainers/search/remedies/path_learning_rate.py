"""Expensive networks learn for longer than cheap ones."""

# Shapes: n decisions, N choices of all decisions.

from collections.abc import Sequence
from math import log
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hardware_models.budgets.cost_table import METRICS
from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Batch, Searched
from trainers.search.remedies.remedy import Remedy

PARAMS = METRICS.index("params_m")
Exponent = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PathLearningRate(Remedy):
    """Gradients of the weights times (1 - progress) to a power, the smaller the more parameters the network has.

    The power is linear in the logarithm of the parameters, from `smallest` for the smallest network to `largest`. Of a
    mixture it is that of the expected parameters, of several passes their mean. With `schedule=constant` this is the
    schedule of DYNAS (CaLR), arXiv:2503.10740, whose powers fall with the logarithm of the parameters; values are ours.
    """

    def __init__(self, searched: Searched, *, smallest: Exponent = 1.0, largest: Exponent = 0.25) -> None:
        super().__init__(searched)
        self.smallest, self.largest = smallest, largest
        table = searched.state.table
        everything_N = np.ones(int(table.first_choice[-1]), dtype=bool)
        self.least = float(table.cheapest(everything_N, 0)[PARAMS])
        self.most = float(table.worst(everything_N, 0)[PARAMS])

    def on_weights_gradient(
        self, weights_batch: Batch, architecture_batch: Batch, selections: Sequence[Selection]
    ) -> None:
        powers = [self.power(self._params(selection)) for selection in selections]
        factor = (1 - self.searched.state.progress) ** (sum(powers) / len(powers))
        for weight in self.searched.supernet.parameters():
            if weight.grad is not None:
                weight.grad *= factor

    def power(self, params_m: float) -> float:
        """The exponent of a network of so many million parameters."""
        if self.most <= self.least or self.least <= 0:
            return self.largest
        share = min(1.0, max(0.0, log(max(params_m, self.least) / self.least) / log(self.most / self.least)))
        return self.smallest + (self.largest - self.smallest) * share

    def _params(self, selection: Selection) -> float:
        table = self.searched.state.table
        given = [selection[decision.name] for decision in table.space.decisions]
        weights = [each.detach() if isinstance(each, Tensor) else None for each in given]
        if all(each is None for each in weights):
            return float(table.of(np.array([given], dtype=np.int64), 0)[0, PARAMS])
        one_hot = self.searched.one_hot([int(e) if isinstance(e, int) else 0 for e in given])
        sizes = [len(decision.choices) for decision in table.space.decisions]
        mixed = [hard if soft is None else soft for soft, hard in zip(weights, one_hot.split(sizes), strict=True)]
        return float(table.expected(torch.cat(mixed))[0, PARAMS])
