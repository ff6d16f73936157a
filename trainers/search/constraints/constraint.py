"""What every constraint offers: the probability of each choice, networks drawn, and what the loss adds for cost."""

# Shapes: n decisions, N choices of all decisions.

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search_spaces.registry import Registry
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState


class Constraint:
    """Keeps costs within the budgets of `state.problems`, or near them, while the logits are trained.

    This base constrains nothing: decisions are independent, each a softmax of its active logits, but for the space's
    rules, which every network that is drawn obeys. A subclass conditions the distribution on the budgets, or adds a
    penalty. Its keyword-only arguments are its configuration.
    """

    def __init__(self, state: SearchState, logits: ArchitectureParameters, generator: np.random.Generator) -> None:
        self.search, self.logits, self.generator = state, logits, generator
        self.table = state.table

    def probabilities(self, device: int) -> Tensor:
        """Probability (N,) of each choice on one device, differentiable in its logits; one over each decision."""
        return self.softmax(device, self.logits(device))

    def softmax(self, device: int, logits_N: Tensor) -> Tensor:
        """Probabilities (N,) by these logits (N,), each decision by itself, of active choices alone."""
        masked_N = self._masked(device, logits_N)
        return torch.cat([torch.softmax(masked_N[a:b], dim=0) for a, b in pairwise(self.table.first_choice)])

    def log_normaliser(self, device: int, logits_N: Tensor) -> Tensor:
        """Sum over decisions of the logarithm of what `softmax` divides by."""
        masked_N = self._masked(device, logits_N)
        return torch.stack([masked_N[a:b].logsumexp(0) for a, b in pairwise(self.table.first_choice)]).sum()

    def draw(self, device: int) -> tuple[int, ...]:
        """A network (n,) of the active choices of one device, as `probabilities` weigh them given the space's rules."""
        with torch.no_grad():
            p_N = self.probabilities(device).double().numpy()
        blocks = pairwise(self.table.first_choice)
        alone = [self.generator.choice(b - a, p=p_N[a:b] / p_N[a:b].sum()) for a, b in blocks]
        # An active choice stays possible where its probability has underflowed: the incumbent may need it.
        logits_N = np.log(np.maximum(p_N, np.finfo(np.float64).tiny))
        logits_N[~self.search.survivors[device].mask_N] = -np.inf
        return tuple(self.table.rules.redraw(np.array([alone]), logits_N, self.generator)[0].tolist())

    def penalty(self, device: int, p_N: Tensor) -> Tensor:
        """What the architecture loss adds for the cost of these probabilities."""
        return p_N.new_zeros(())

    def modify_gradient(self, device: int) -> None:
        """After the gradients of the logits are taken, before they are used."""

    def restrict(self, device: int) -> None:
        """Called when choices of the device have been pruned."""

    def state_dict(self) -> dict[str, Any]:
        """All that its next draw depends on besides the search's state, of tensors and plain values."""
        return {"generator": json.dumps(self.generator.bit_generator.state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        self.generator.bit_generator.state = json.loads(state["generator"])

    def _masked(self, device: int, logits_N: Tensor) -> Tensor:
        active_N = torch.from_numpy(self.search.survivors[device].mask_N)
        return logits_N.masked_fill(~active_N, -torch.inf)


CONSTRAINTS: Registry[type[Constraint]] = Registry("constraints")
