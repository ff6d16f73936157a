"""Logits of each decision held together, the more the longer the search runs."""

# Shapes: N choices of all decisions, C choices of one decision.

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from trainers.search.relaxations.relaxation import Searched
from trainers.search.remedies.remedy import Remedy


class BetaDecay(Remedy):
    """Adds a weight times the mean over decisions of the logsumexp of their active logits.

    The weight rises linearly from zero to `strength`. Source: beta-DARTS, arXiv:2203.01665, eq. 9; 0 to 50 there.
    """

    def __init__(
        self, searched: Searched, *, strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 50.0
    ) -> None:
        super().__init__(searched)
        self.strength = strength

    def architecture_loss(self, device: int, p_N: Tensor) -> Tensor:
        searched = self.searched
        logits_N = searched.logits(device).masked_fill(~searched.active(device), -torch.inf)
        blocks = [logits_N[a:b].logsumexp(dim=0) for a, b in pairwise(searched.state.table.first_choice)]
        return self.strength * searched.state.progress * torch.stack(blocks).mean()
