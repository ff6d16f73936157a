"""Dual ascent: one multiplier per budget, raised while the expected cost exceeds it and lowered otherwise."""

# Shapes: N choices of all decisions.

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainers.search.constraints.constraint import Constraint
from trainers.search.constraints.penalty import expected_overshoot
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState


class Dual(Constraint):
    """Independent softmax per decision, and the expected overshoot of each budget added times its multiplier.

    Source: dual ascent, as LightNAS (arXiv:2208.00624), here with multipliers kept at or above zero.
    """

    def __init__(
        self,
        state: SearchState,
        logits: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        step_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05,
    ) -> None:
        super().__init__(state, logits, generator)
        self.step_size = step_size
        num_budgets = [int(np.isfinite(problem.limits_M).sum()) for problem in state.problems]
        self.multipliers = [torch.zeros(number, dtype=torch.float64) for number in num_budgets]

    def penalty(self, device: int, p_N: Tensor) -> Tensor:
        overshoot = expected_overshoot(self.search, device, p_N)
        self.multipliers[device] = (self.multipliers[device] + self.step_size * overshoot.detach()).clamp(min=0)
        return (self.multipliers[device] * overshoot).sum().float()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "multipliers": self.multipliers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.multipliers = list(state["multipliers"])
