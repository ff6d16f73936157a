"""The distance of the expected cost from the budget, on either side."""

# Shapes: N choices of all decisions.

from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from trainers.search.constraints.constraint import Constraint
from trainers.search.constraints.penalty import expected_overshoot
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState


class Absolute(Constraint):
    """Independent softmax per decision, and `strength` times |expected cost / budget - 1| added for each budget.

    Source: TF-NAS, arXiv:2008.05314, eq. 11; its `train_search.py` has 0.1 as strength.
    """

    def __init__(
        self,
        state: SearchState,
        logits: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1,
    ) -> None:
        super().__init__(state, logits, generator)
        self.strength = strength

    def penalty(self, device: int, p_N: Tensor) -> Tensor:
        return self.strength * expected_overshoot(self.search, device, p_N).abs().sum().float()
