"""The augmented Lagrangian: a multiplier per budget, and a quadratic term that damps it."""

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


class AugmentedLagrangian(Constraint):
    """Independent softmax per decision; for each budget's expected overshoot g, ([m + rg]+^2 - m^2) / 2r is added.

    After each update the multiplier m becomes [m + rg]+. Source: Hestenes and Powell's method of multipliers for
    inequalities, Bertsekas, Nonlinear Programming, section 5.2.
    """

    def __init__(
        self,
        state: SearchState,
        logits: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        rho: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
    ) -> None:
        super().__init__(state, logits, generator)
        self.rho = rho
        num_budgets = [int(np.isfinite(problem.limits_M).sum()) for problem in state.problems]
        self.multipliers = [torch.zeros(number, dtype=torch.float64) for number in num_budgets]

    def penalty(self, device: int, p_N: Tensor) -> Tensor:
        before = self.multipliers[device]
        raised = (before + self.rho * expected_overshoot(self.search, device, p_N)).clamp(min=0)
        self.multipliers[device] = raised.detach()
        return ((raised.square() - before.square()) / (2 * self.rho)).sum().float()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "multipliers": self.multipliers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.multipliers = list(state["multipliers"])
