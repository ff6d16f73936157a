"""A hinge: expected cost above budget, weighed more and more as the search goes on."""

# Shapes: N choices of all decisions.

from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from trainers.search.constraints.constraint import Constraint
from trainers.search.constraints.penalty import expected_overshoot
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState

FIRST_SHARE = 0.01  # of the strength, as DUCCIO begins with


class Hinge(Constraint):
    """Independent softmax per decision; each expected cost above its budget is added times a growing strength.

    The strength rises from 1 % of `strength` to all of it at `ramp`, a share of the search; costs are shares of their
    budgets. Source: DUCCIO, arXiv:2206.00302, with the ramp of PLiNIO's `regularizers/duccio.py` (half the search).
    """

    def __init__(
        self,
        state: SearchState,
        logits: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0,
        ramp: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        super().__init__(state, logits, generator)
        self.strength, self.ramp = strength, ramp

    def penalty(self, device: int, p_N: Tensor) -> Tensor:
        grown = FIRST_SHARE + (1 - FIRST_SHARE) * min(1.0, self.search.progress / self.ramp)
        return self.strength * grown * expected_overshoot(self.search, device, p_N).clamp(min=0).sum().float()
