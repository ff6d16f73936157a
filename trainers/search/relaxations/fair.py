"""Each operation by itself: sigmoids instead of a softmax, pulled to zero or one."""

# Shapes: n decisions, N choices of all decisions.

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from trainers.search.relaxations.relaxation import Relaxation, Searched


class Fair(Relaxation):
    """Weights are sigmoids of the logits, so that operations do not compete; a zero-one loss decides between them.

    The logits are those of the constraint's probabilities, at the level of the device's own. Source: Fair DARTS,
    arXiv:1911.12126, eq. 5-7: `strength` (10 there) times minus the mean square of sigmoid - 0.5.
    """

    normalises = False

    def __init__(
        self, searched: Searched, *, strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    ) -> None:
        super().__init__(searched)
        self.strength = strength

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        return torch.sigmoid(self.searched.conditioned_logits(device, p_N))

    def added_loss(self, device: int, p_N: Tensor) -> Tensor:
        weights_N = torch.sigmoid(self.searched.conditioned_logits(device, p_N)[self.searched.active(device)])
        return -self.strength * (weights_N - 0.5).square().mean()
