"""How a search draws networks and what it adds to the loss: one class per strategy, behind one interface."""

# Shapes: S networks of a pool, n decisions, N choices of all decisions, M metrics.

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, Indices
from hardware_models.budgets.pool import effective_size
from trainers.search.logits import ArchitectureParameters

# Gibbs sweeps after the start. With flat logits the marginals are then within sampling noise of exact ones; with sharp
# logits that the budgets set against each other it can take far longer: a move changes one decision at a time.
MIXING_SWEEPS = 2
LEAST_ALIVE = 0.05  # share of a pool that must survive a pruning for the rest to be resampled from it


class Strategy(ABC):
    """Draws networks for each device, and gives the differentiable weights that the architecture step trains."""

    learns = True  # whether the architecture step runs at all
    prunes = True  # whether choices are removed while it searches

    def __init__(
        self,
        problems: Sequence[BudgetProblem],
        survivors: Sequence[Survivors],
        parameters: ArchitectureParameters,
        generator: np.random.Generator,
    ) -> None:
        self.problems, self.survivors = list(problems), list(survivors)
        self.parameters, self.generator = parameters, generator
        self.table = problems[0].table

    @abstractmethod
    def weights(self, device: int) -> Tensor:
        """Weights (N,) of the choices of every decision for one device, differentiable in its logits."""

    @abstractmethod
    def path(self, device: int) -> tuple[int, ...]:
        """A network (n,) to train on, drawn for one device."""

    def penalty(self, device: int, weights_N: Tensor) -> Tensor:
        """What the architecture loss adds for cost; zero where cost is a condition and not a penalty."""
        return weights_N.new_zeros(())

    def restrict(self, device: int, survivors: Survivors) -> None:
        """Draws only from these choices from now on."""
        self.survivors[device] = survivors

    def scores(self, device: int) -> Array:
        """What exact selection maximises the sum of: the device's logits (N,)."""
        with torch.no_grad():
            scores: Array = self.parameters(device).double().numpy()
        return scores

    def state(self) -> dict[str, Any]:
        """All that its next draw depends on, of tensors and plain values."""
        return {
            "survivors": [(torch.from_numpy(s.mask_N.copy()), list(s.incumbent)) for s in self.survivors],
            "generator": json.dumps(self.generator.bit_generator.state),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self.survivors = [Survivors(mask_N.numpy(), tuple(incumbent)) for mask_N, incumbent in state["survivors"]]
        self.generator.bit_generator.state = json.loads(state["generator"])


class Pool(Strategy):
    """Softmax of the logits, conditioned on meeting every budget: a pool of feasible networks, re-weighted each step.

    The mixture weights are the pool's marginals, so they always lie in the convex hull of feasible networks; there is
    no penalty and nothing to tune. The pool is resampled and moved by Gibbs sweeps when it has worn out.
    """

    def __init__(
        self,
        problems: Sequence[BudgetProblem],
        survivors: Sequence[Survivors],
        parameters: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        pool_size: Annotated[int, Field(ge=16, le=65_536)] = 1024,
    ) -> None:
        super().__init__(problems, survivors, parameters, generator)
        self.pool_size = pool_size
        self.networks: list[Indices] = []
        self.one_hot: list[Tensor] = []
        self.reference: list[Tensor] = []
        for device in range(len(problems)):
            networks = self._fresh(device)
            self.networks.append(networks)
            self.one_hot.append(self._encode(networks))
            self.reference.append(self._logits(device))

    def weights(self, device: int) -> Tensor:
        return torch.softmax(self._log_weights(device), dim=0) @ self.one_hot[device]

    def path(self, device: int) -> tuple[int, ...]:
        log_weights_S = self._log_weights(device).detach().double().numpy()
        weights_S = np.exp(log_weights_S - log_weights_S.max())
        if effective_size(log_weights_S) < self.pool_size / 2:
            self._refresh(device, weights_S)
            return tuple(int(k) for k in self.networks[device][self.generator.integers(self.pool_size)])
        row = self.generator.choice(self.pool_size, p=weights_S / weights_S.sum())
        return tuple(int(k) for k in self.networks[device][row])

    def restrict(self, device: int, survivors: Survivors) -> None:
        super().restrict(device, survivors)
        starts = self.table.first_choice[:-1]
        alive_S = survivors.mask_N[self.networks[device] + starts].all(axis=1)
        if alive_S.mean() >= LEAST_ALIVE:
            self._refresh(device, alive_S.astype(np.float64))
        else:
            self._replace(device, self._fresh(device))

    def state(self) -> dict[str, Any]:
        networks = [torch.from_numpy(networks.copy()) for networks in self.networks]
        return {**super().state(), "networks": networks, "reference": self.reference}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.networks = [networks.numpy() for networks in state["networks"]]
        self.one_hot = [self._encode(networks) for networks in self.networks]
        self.reference = list(state["reference"])

    def _log_weights(self, device: int) -> Tensor:
        """Log importance weights (S,) of the pool's networks under the present logits."""
        return self.one_hot[device] @ (self.parameters(device) - self.reference[device])

    def _logits(self, device: int) -> Tensor:
        return self.parameters(device).detach().clone()

    def _fresh(self, device: int) -> Indices:
        known = np.array([self.survivors[device].incumbent])
        chains = self.problems[device].chains(self.survivors[device].mask_N, self.generator)
        logits_N = self._logits(device).double().numpy()
        networks = chains.start(logits_N, self.pool_size, known)
        for _ in range(MIXING_SWEEPS):
            networks = chains.sweep(networks, logits_N)
        return networks

    def _refresh(self, device: int, weights_S: Array) -> None:
        """Resamples by weight (systematically, so that few are lost) and moves every network once."""
        places = (self.generator.random() + np.arange(self.pool_size)) / self.pool_size
        rows = np.searchsorted(np.cumsum(weights_S) / weights_S.sum(), places).clip(max=self.pool_size - 1)
        chains = self.problems[device].chains(self.survivors[device].mask_N, self.generator)
        logits_N = self._logits(device).double().numpy()
        self._replace(device, chains.sweep(self.networks[device][rows], logits_N))

    def _replace(self, device: int, networks: Indices) -> None:
        self.networks[device], self.one_hot[device] = networks, self._encode(networks)
        self.reference[device] = self._logits(device)

    def _encode(self, networks: Indices) -> Tensor:
        one_hot = torch.zeros(len(networks), int(self.table.first_choice[-1]))
        columns = torch.from_numpy(networks + self.table.first_choice[:-1])
        return one_hot.scatter_(1, columns, 1.0)


class Random(Pool):
    """Networks uniform over the feasible ones: the baseline under the same budgets, finaliser and evaluation."""

    learns = False
    prunes = False


class Penalty(Strategy):
    """Independent softmax per decision, and `strength` times each expected cost over its budget added to the loss.

    Source: ProxylessNAS, arXiv:1812.00332, eq. 7, with costs as shares of their budgets.
    """

    def __init__(
        self,
        problems: Sequence[BudgetProblem],
        survivors: Sequence[Survivors],
        parameters: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.3,
    ) -> None:
        super().__init__(problems, survivors, parameters, generator)
        self.strength = strength

    def weights(self, device: int) -> Tensor:
        masked_N = self.parameters(device).masked_fill(torch.from_numpy(~self.survivors[device].mask_N), -torch.inf)
        starts = self.table.first_choice
        blocks = [torch.softmax(masked_N[a:b], dim=0) for a, b in pairwise(starts)]
        return torch.cat(blocks)

    def path(self, device: int) -> tuple[int, ...]:
        with torch.no_grad():
            weights_N = self.weights(device).double().numpy()
        starts = self.table.first_choice
        return tuple(
            int(self.generator.choice(b - a, p=weights_N[a:b] / weights_N[a:b].sum())) for a, b in pairwise(starts)
        )

    def penalty(self, device: int, weights_N: Tensor) -> Tensor:
        return self.strength * self._overshoot(device, weights_N).sum().float()

    def _overshoot(self, device: int, weights_N: Tensor) -> Tensor:
        """Expected cost over limit, minus one, of each budgeted metric."""
        limits_M = torch.from_numpy(self.problems[device].limits_M)
        budgeted = torch.isfinite(limits_M)
        return self.table.expected(weights_N)[device][budgeted] / limits_M[budgeted] - 1


class Dual(Penalty):
    """`Penalty` with one multiplier per budget, raised while the expected cost exceeds it and lowered otherwise.

    Source: dual ascent, as LightNAS (arXiv:2208.00624), here with multipliers kept at or above zero.
    """

    def __init__(
        self,
        problems: Sequence[BudgetProblem],
        survivors: Sequence[Survivors],
        parameters: ArchitectureParameters,
        generator: np.random.Generator,
        *,
        step_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05,
    ) -> None:
        super().__init__(problems, survivors, parameters, generator)
        self.step_size = step_size
        self.multipliers = [torch.zeros(int(np.isfinite(p.limits_M).sum()), dtype=torch.float64) for p in problems]

    def penalty(self, device: int, weights_N: Tensor) -> Tensor:
        overshoot = self._overshoot(device, weights_N)
        self.multipliers[device] = (self.multipliers[device] + self.step_size * overshoot.detach()).clamp(min=0)
        return (self.multipliers[device] * overshoot).sum().float()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "multipliers": self.multipliers}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.multipliers = list(state["multipliers"])


STRATEGIES: dict[str, type[Strategy]] = {"pool": Pool, "random": Random, "penalty": Penalty, "dual": Dual}


def largest_path(first_choice: Indices) -> tuple[int, ...]:
    """The network of every decision's last choice."""
    return tuple(int(size) - 1 for size in np.diff(first_choice))
