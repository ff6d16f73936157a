"""Mixtures drawn from a Dirichlet distribution, held near the flat one."""

# Shapes: n decisions, N choices of all decisions, C choices of one decision.

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from trainers.search.relaxations.relaxation import Relaxation, Searched

LEAST_CONCENTRATION = 1e-2  # below it samples are one-hot to rounding, and their gradient is lost


class DrNas(Relaxation):
    """Weights are drawn from a Dirichlet distribution of concentration elu(logits) + 1, pathwise gradients through it.

    `anchor` times the divergence from the flat distribution joins the loss. The logits are those of the constraint's
    probabilities, at the level of the device's own. Source: DrNAS, arXiv:2006.10355; 1e-3 as in its code. Its partial
    channels are left out: networks here inherit the weights of whole operations.
    """

    def __init__(
        self, searched: Searched, *, anchor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3
    ) -> None:
        super().__init__(searched)
        self.anchor = anchor

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        weights_N = torch.zeros(len(p_N))
        for places, concentration_C in self._concentrations(device, p_N):
            drawn_C = Dirichlet(concentration_C).rsample() if len(places) > 1 else torch.ones(1)
            weights_N = weights_N.index_put((places,), drawn_C)
        return weights_N

    def added_loss(self, device: int, p_N: Tensor) -> Tensor:
        divergence = p_N.new_zeros(())
        for places, concentration_C in self._concentrations(device, p_N):
            if len(places) > 1:
                flat = Dirichlet(torch.ones_like(concentration_C))
                divergence = divergence + kl_divergence(Dirichlet(concentration_C), flat)
        return self.anchor * divergence

    def _concentrations(self, device: int, p_N: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of each decision the places of its active choices, and their concentrations."""
        logits_N, active_N = self.searched.conditioned_logits(device, p_N), self.searched.active(device)
        blocks = [torch.arange(int(a), int(b)) for a, b in pairwise(self.searched.state.table.first_choice)]
        active = [places[active_N[places]] for places in blocks]
        return [(places, (F.elu(logits_N[places]) + 1).clamp(min=LEAST_CONCENTRATION)) for places in active]
