"""ReinMax: a straight-through gradient that is exact to second order."""

# Shapes: n decisions, N choices of all decisions.

from typing import Annotated

from pydantic import Field
from torch import Tensor

from trainers.search.relaxations.relaxation import Relaxation, Searched


class ReinMax(Relaxation):
    """Forward a drawn network D; backward 2 * softmax(log of (D + p') / 2) - p / 2, p' the probabilities over tau.

    Source: Liu et al., arXiv:2304.08612, algorithm 2: Heun's method in place of Euler's.
    """

    mixes = False

    def __init__(
        self, searched: Searched, *, temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    ) -> None:
        super().__init__(searched)
        self.temperature = temperature

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        searched = self.searched
        drawn_N, logs_N = searched.one_hot(path), searched.log_probabilities(device, p_N)
        half_N = (drawn_N + searched.softmax(logs_N.detach() / self.temperature)) / 2
        # At the middle between the drawn network and the probabilities, with the gradient of a softmax there.
        finite_N = logs_N.masked_fill(~searched.active(device), 0.0)
        shifted_N = half_N.log() - finite_N.detach() + finite_N
        through_N = 2 * searched.softmax(shifted_N) - searched.softmax(logs_N) / 2
        return drawn_N + through_N - through_N.detach()
