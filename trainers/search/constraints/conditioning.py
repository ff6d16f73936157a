"""Conditioning: the distribution of the logits, given that every budget is met, as a pool of feasible networks."""

# Shapes: S networks of a pool, n decisions, N choices of all decisions.

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hardware_models.budgets.cost_table import Array, Indices
from hardware_models.budgets.pool import effective_size
from trainers.search.constraints.constraint import Constraint
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState

# Gibbs sweeps after the start. With flat logits the marginals are then within sampling noise of exact ones; with sharp
# logits that the budgets set against each other it can take far longer: a move changes one decision at a time.
MIXING_SWEEPS = 2
LEAST_ALIVE = 0.05  # share of a pool that must survive a pruning for the rest to be resampled from it


class Pool(Constraint):
    """Softmax of the logits, conditioned on meeting every budget: a pool of feasible networks, re-weighted each step.

    The probabilities are the pool's marginals, so they always lie in the convex hull of feasible networks; there is no
    penalty and nothing to tune. The pool is resampled and moved by Gibbs sweeps when it has worn out.
    """

    def __init__(
        self,
        state: SearchState,
        logits: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        pool_size: Annotated[int, Field(ge=16, le=65_536)] = 1024,
    ) -> None:
        super().__init__(state, logits, generator)
        self.pool_size = pool_size
        self.networks: list[Indices] = []
        self.one_hot: list[Tensor] = []
        self.reference: list[Tensor] = []
        for device in range(len(state.problems)):
            networks = self._fresh(device)
            self.networks.append(networks)
            self.one_hot.append(self._encode(networks))
            self.reference.append(self._logits(device))

    def probabilities(self, device: int) -> Tensor:
        return torch.softmax(self._log_weights(device), dim=0) @ self.one_hot[device]

    def draw(self, device: int) -> tuple[int, ...]:
        log_weights_S = self._log_weights(device).detach().double().numpy()
        weights_S = np.exp(log_weights_S - log_weights_S.max())
        if effective_size(log_weights_S) < self.pool_size / 2:
            self._refresh(device, weights_S)
            return tuple(int(k) for k in self.networks[device][self.generator.integers(self.pool_size)])
        row = self.generator.choice(self.pool_size, p=weights_S / weights_S.sum())
        return tuple(int(k) for k in self.networks[device][row])

    def restrict(self, device: int) -> None:
        starts, mask_N = self.table.first_choice[:-1], self.search.survivors[device].mask_N
        alive_S = mask_N[self.networks[device] + starts].all(axis=1)
        if alive_S.mean() >= LEAST_ALIVE:
            self._refresh(device, alive_S.astype(np.float64))
        else:
            self._replace(device, self._fresh(device))

    def state_dict(self) -> dict[str, Any]:
        networks = [torch.from_numpy(networks.copy()) for networks in self.networks]
        return {**super().state_dict(), "networks": networks, "reference": self.reference}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.networks = [networks.numpy() for networks in state["networks"]]
        self.one_hot = [self._encode(networks) for networks in self.networks]
        self.reference = list(state["reference"])

    def _log_weights(self, device: int) -> Tensor:
        """Log importance weights (S,) of the pool's networks under the present logits."""
        return self.one_hot[device] @ (self.logits(device) - self.reference[device])

    def _logits(self, device: int) -> Tensor:
        return self.logits(device).detach().clone()

    def _fresh(self, device: int) -> Indices:
        survivors = self.search.survivors[device]
        chains = self.search.problems[device].chains(survivors.mask_N, self.generator)
        logits_N = self._logits(device).double().numpy()
        networks = chains.start(logits_N, self.pool_size, np.array([survivors.incumbent]))
        for _ in range(MIXING_SWEEPS):
            networks = chains.sweep(networks, logits_N)
        return networks

    def _refresh(self, device: int, weights_S: Array) -> None:
        """Resamples by weight (systematically, so that few are lost) and moves every network once."""
        places = (self.generator.random() + np.arange(self.pool_size)) / self.pool_size
        rows = np.searchsorted(np.cumsum(weights_S) / weights_S.sum(), places).clip(max=self.pool_size - 1)
        chains = self.search.problems[device].chains(self.search.survivors[device].mask_N, self.generator)
        logits_N = self._logits(device).double().numpy()
        self._replace(device, chains.sweep(self.networks[device][rows], logits_N))

    def _replace(self, device: int, networks: Indices) -> None:
        self.networks[device], self.one_hot[device] = networks, self._encode(networks)
        self.reference[device] = self._logits(device)

    def _encode(self, networks: Indices) -> Tensor:
        one_hot = torch.zeros(len(networks), int(self.table.first_choice[-1]))
        columns = torch.from_numpy(networks + self.table.first_choice[:-1])
        return one_hot.scatter_(1, columns, 1.0)
