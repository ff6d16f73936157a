"""Gradient modification: while the largest logits make a network over budget, the logits are turned away from it."""

# Shapes: n decisions, N choices of all decisions, C choices of one decision, M metrics.

from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from hardware_models.budgets.cost_table import Array
from trainers.search.constraints.constraint import Constraint
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState

LEAST_NORM = 1e-6  # so that a gradient of zero is turned too


class ConNas(Constraint):
    """Independent softmax per decision; the gradient takes a unit direction towards the budgets, `rescale` times.

    While the network of the largest logits exceeds a budget, each decision changes alone: of its choices, those that
    meet the budget gain on those that do not; if none does, the cheaper gain on the dearer. The direction of a decision
    is scaled with the length of its own gradient. Source: ConNAS, ICLR 2026 (openreview fcKMFIiNFQ), which has 1.2.
    """

    def __init__(
        self,
        state: SearchState,
        logits: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        rescale: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 1.2,
    ) -> None:
        super().__init__(state, logits, generator)
        self.rescale = rescale

    def modify_gradient(self, device: int) -> None:
        direction_N = torch.from_numpy(self.direction(device)).float()
        shared, offsets = self.logits.shared.grad, self.logits.offsets.grad
        assert shared is not None and offsets is not None
        for gradient_N in (shared, offsets[device]):
            for a, b in pairwise(self.table.first_choice):
                length = gradient_N[a:b].norm().clamp(min=LEAST_NORM)
                gradient_N[a:b] -= self.rescale * length * direction_N[a:b]

    def direction(self, device: int) -> Array:
        """Where the logits (N,) of a device should go: of unit length over each decision, or zero."""
        problem, mask_N = self.search.problems[device], self.search.survivors[device].mask_N
        with torch.no_grad():
            logits_N = self.logits(device).double().numpy()
        network = np.array(self.table.rules.best(np.where(mask_N, logits_N, -np.inf)))
        exceeded_M = self.table.of(network, device)[0] > problem.limits_M
        direction_N = np.zeros(len(mask_N))
        if not exceeded_M.any():
            return direction_N
        for decision, (a, b) in enumerate(pairwise(self.table.first_choice)):
            alive = np.flatnonzero(mask_N[a:b])
            changed_Cn = np.tile(network, (len(alive), 1))
            changed_Cn[:, decision] = alive
            costs_CM = self.table.of(changed_Cn, device)
            for metric in np.flatnonzero(exceeded_M):
                direction_N[a + alive] += _unit(_pulls(costs_CM[:, metric], float(problem.limits_M[metric])))
            direction_N[a:b] = _unit(direction_N[a:b])
        return direction_N


def _pulls(costs_C: Array, limit: float) -> Array:
    """Sum (C,) over pairs of choices of +1 for the one to prefer and -1 for the other."""
    meets_C = costs_C <= limit
    ranks_C = (~meets_C).astype(float) if meets_C.any() else costs_C
    better_CC = np.sign(ranks_C[None, :] - ranks_C[:, None])
    pulls_C: Array = better_CC.sum(axis=1)
    return pulls_C


def _unit(vector: Array) -> Array:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
