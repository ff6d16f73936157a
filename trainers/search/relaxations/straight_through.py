"""Straight-through: forward a drawn network, backward the probabilities of all of them."""

# Shapes: N choices of all decisions.

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.search.relaxations.relaxation import Relaxation, Searched, Update
from trainers.search.search_state import LEAST_PROBABILITY

BASELINE_MEMORY = 0.9  # of the moving average of the loss that hard decisions are judged against


class StraightThrough(Relaxation):
    """The loss of one drawn network, its gradient taken at the mean of all of them.

    Forward runs a discrete network through the mixed supernet; backward reaches every choice through the
    straight-through weights. A hard decision gets the score-function gradient of the same loss instead.
    """

    def __init__(self, searched: Searched) -> None:
        super().__init__(searched)
        self.baseline: list[float | None] = [None] * len(searched.state.problems)

    def loss(self, update: Update) -> tuple[Tensor, Tensor]:
        searched, device = self.searched, update.device
        inputs, targets = update.architecture_batch
        path = searched.constraint.draw(device)  # first: it may renew what the probabilities come from
        p_N = searched.constraint.probabilities(device)
        drawn_N = torch.zeros_like(p_N)
        drawn_N[torch.as_tensor(np.asarray(path) + searched.state.table.first_choice[:-1])] = 1.0
        through_N = drawn_N + p_N - p_N.detach()
        with update.timed():
            loss = searched.task.loss(searched.supernet(inputs, searched.selection(through_N)), targets)
            update.check(loss)
        return loss + self._hard_decisions_term(device, float(loss.detach()), p_N, path), p_N

    def state_dict(self) -> dict[str, Any]:
        return {"baseline": self.baseline}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.baseline = list(state["baseline"])

    def _hard_decisions_term(self, device: int, loss: float, p_N: Tensor, path: tuple[int, ...]) -> Tensor:
        baseline = self.baseline[device]
        self.baseline[device] = loss if baseline is None else baseline + (1 - BASELINE_MEMORY) * (loss - baseline)
        term = p_N.new_zeros(())
        if baseline is None:
            return term
        table = self.searched.state.table
        for decision, name in enumerate(d.name for d in table.space.decisions):
            if name in table.space.hard_decisions:
                place = int(table.first_choice[decision]) + path[decision]
                term = term + (loss - baseline) * p_N[place].clamp(min=LEAST_PROBABILITY).log()
        return term
