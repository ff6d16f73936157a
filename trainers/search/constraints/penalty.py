"""A soft penalty: expected cost over budget, times a strength, added to the loss."""

# Shapes: N choices of all decisions, M metrics.

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainers.search.constraints.constraint import Constraint
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState


class Penalty(Constraint):
    """Independent softmax per decision, and `strength` times each expected cost over its budget added to the loss.

    Source: ProxylessNAS, arXiv:1812.00332, eq. 7, with costs as shares of their budgets.
    """

    def __init__(
        self,
        state: SearchState,
        logits: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.3,
    ) -> None:
        super().__init__(state, logits, generator)
        self.strength = strength

    def penalty(self, device: int, p_N: Tensor) -> Tensor:
        return self.strength * expected_overshoot(self.search, device, p_N).sum().float()


def expected_overshoot(state: SearchState, device: int, p_N: Tensor) -> Tensor:
    """Expected cost over limit, minus one, of each budgeted metric of a device."""
    return expected_shares(state, device, p_N) - 1


def expected_shares(state: SearchState, device: int, p_N: Tensor) -> Tensor:
    """Expected cost over limit of each budgeted metric of a device."""
    limits_M = torch.from_numpy(state.problems[device].limits_M)
    budgeted = torch.isfinite(limits_M)
    return state.table.expected(p_N)[device][budgeted] / limits_M[budgeted]
