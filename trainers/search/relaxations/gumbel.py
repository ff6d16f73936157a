"""Gumbel noise that agrees with a network which was drawn already: GDAS, and SNAS."""

# Shapes: n decisions, N choices of all decisions, C choices of one decision.

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hardware_models.budgets.cost_table import Array
from trainers.search.relaxations.relaxation import Relaxation, Searched

Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Gumbel(Relaxation):
    """Softmax of log-probabilities plus Gumbel noise over a temperature, which falls linearly.

    The noise is drawn given that its largest sum is the network of the constraint, so that the network meets budgets
    and rules where the constraint's do. Where decisions are independent this is Gumbel noise itself (Maddison et al.,
    A* sampling, arXiv:1411.0030, section 3).
    """

    def __init__(self, searched: Searched, *, hottest: Temperature, coldest: Temperature) -> None:
        super().__init__(searched)
        self.hottest, self.coldest = hottest, coldest

    @property
    def temperature(self) -> float:
        return self.hottest + (self.coldest - self.hottest) * self.searched.state.progress

    def soft(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        """The soft sample (N,): its largest weight of each decision is that of the network."""
        logs_N = self.searched.log_probabilities(device, p_N)
        noise_N = self._noise(logs_N.detach().double().numpy(), path)
        perturbed_N = (logs_N + torch.from_numpy(noise_N).to(logs_N)) / self.temperature
        return self.searched.softmax(perturbed_N)

    def _noise(self, logs_N: Array, path: tuple[int, ...]) -> Array:
        starts, generator = self.searched.state.table.first_choice, self.searched.constraint.generator
        noise_N = np.zeros(len(logs_N))
        for decision, choice in enumerate(path):
            block = slice(int(starts[decision]), int(starts[decision + 1]))
            noise_N[block] = noise_given_largest(logs_N[block], choice, generator)
        return noise_N


def noise_given_largest(logs_C: Array, choice: int, generator: np.random.Generator) -> Array:
    """Gumbel noise (C,) given that `logs_C` plus noise is largest at `choice`; of probabilities that sum to one.

    The largest sum is a Gumbel variable itself, and every other one a Gumbel variable cut off there.
    """
    sums_C = np.full(len(logs_C), -np.inf)
    sums_C[choice] = top = generator.gumbel() + float(np.logaddexp.reduce(logs_C))
    for other in np.flatnonzero(np.isfinite(logs_C)):
        if other != choice:
            free = generator.gumbel() + logs_C[other]
            sums_C[other] = -np.logaddexp(-free, -top)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(logs_C), sums_C - logs_C, 0.0)


class Gdas(Gumbel):
    """Forward the network, backward the soft sample of it. Source: GDAS, arXiv:1910.04465; 10 to 0.1 as in its code."""

    mixes = False

    def __init__(self, searched: Searched, *, hottest: Temperature = 10.0, coldest: Temperature = 0.1) -> None:
        super().__init__(searched, hottest=hottest, coldest=coldest)

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        soft_N = self.soft(device, path, p_N)
        return self.searched.one_hot(path) + soft_N - soft_N.detach()


class Snas(Gumbel):
    """Forward and backward the soft sample of a network. Source: SNAS, arXiv:1812.09926; temperatures are ours."""

    def __init__(self, searched: Searched, *, hottest: Temperature = 1.0, coldest: Temperature = 0.1) -> None:
        super().__init__(searched, hottest=hottest, coldest=coldest)

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        return self.soft(device, path, p_N)
