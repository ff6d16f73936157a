"""Where a search stands: the step, the choices still active on each device, and the log of those pruned."""

# Shapes: D devices, N choices of all decisions, M metrics.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hardware_models.budgets.budget_problem import BudgetProblem, Removal, Survivors
from hardware_models.budgets.cost_table import Array
from trainers.search.drawn_losses import DrawnLosses

UTILITY_MEMORY = 0.9  # of the moving average of log-probabilities that pruning reads
LEAST_PROBABILITY = 1e-6  # a sampled pool may hold no network with a choice


@dataclass(frozen=True)
class PruneRecord:
    """One removal, with the step and the device it happened at."""

    step: int
    device: str
    removal: Removal


class SearchState:
    """What a search has decided so far, of each device in the order of `problems`.

    `survivors` are the active choices with the incumbent, `utilities` (N,) the moving average of the log-probability of
    each choice. Pruning reads them unless `drawn`, the losses of the networks that were trained, speaks against them;
    then costs alone decide. `agreements` has Kendall's tau of both at each pruning. The search is done after `steps`.
    """

    def __init__(self, problems: Sequence[BudgetProblem], starts: Sequence[Survivors], *, steps: int = 1) -> None:
        self.problems, self.survivors = list(problems), list(starts)
        self.table = problems[0].table
        self.step, self.steps = 0, steps
        self.prune_log: list[PruneRecord] = []
        self.utilities: list[Array] = []
        self.drawn, self.agreements = DrawnLosses(), list[float | None]()
        self.initial_overshoot = [p.overshoot(s.mask_N) for p, s in zip(problems, starts, strict=True)]

    @property
    def progress(self) -> float:
        """Share of all steps that is done."""
        return min(1.0, self.step / self.steps)

    def start_utilities(self, probabilities: Sequence[Tensor]) -> None:
        """Begins the moving averages with the probabilities (N,) of each device."""
        self.utilities = [log_probabilities(p_N) for p_N in probabilities]

    def update_utilities(self, device: int, p_N: Tensor) -> None:
        self.utilities[device] += (1 - UTILITY_MEMORY) * (log_probabilities(p_N) - self.utilities[device])

    def prune(self, remaining: float) -> None:
        """Removes choices on every device until its most expensive network is within this share of the first overshoot.

        `remaining` falls from 1 to 0, where every network that is left meets every budget.
        """
        own = self.table.space.decisions[: self.table.num_own]  # where a network runs does not change its loss
        places = {decision.name: int(self.table.first_choice[k]) for k, decision in enumerate(own)}
        agreement = self.drawn.agreement(self.utilities, places)
        self.agreements.append(agreement)
        for device, problem in enumerate(self.problems):
            caps_M = 1 + np.maximum(self.initial_overshoot[device] - 1, 0) * remaining
            utilities_N = self.utilities[device]
            if not trusted(agreement):  # of no choice more than of another, but those of the incumbent, which stays
                utilities_N = np.zeros_like(utilities_N)
                utilities_N[self.table.first_choice[:-1] + np.array(self.survivors[device].incumbent)] = 1.0
            survivors, removals = problem.prune(self.survivors[device], utilities_N, caps_M)
            self.prune_log += [PruneRecord(self.step, problem.name, removal) for removal in removals]
            self.survivors[device] = survivors

    def active(self) -> dict[str, list[int]]:
        """By decision, the indices of the choices that are active on some device."""
        return self.active_of(range(len(self.problems)))

    def active_of(self, devices: Sequence[int]) -> dict[str, list[int]]:
        """By decision, the indices of the choices that are active on some of these devices."""
        union_N = np.logical_or.reduce([self.survivors[device].mask_N for device in devices])
        starts = self.table.first_choice
        blocks = zip(self.table.space.decisions, starts[:-1], starts[1:], strict=True)
        return {decision.name: np.flatnonzero(union_N[a:b]).tolist() for decision, a, b in blocks}

    def state_dict(self) -> dict[str, Any]:
        """Everything above, of tensors and plain values."""
        return {
            "step": self.step,
            "prune_log": [{**vars(record), "removal": vars(record.removal)} for record in self.prune_log],
            "agreements": list(self.agreements),
            "drawn": self.drawn.state_dict(),
            "utilities": [torch.from_numpy(utilities_N.copy()) for utilities_N in self.utilities],
            "survivors": [(torch.from_numpy(s.mask_N.copy()), list(s.incumbent)) for s in self.survivors],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        self.step = state["step"]
        self.prune_log = [
            PruneRecord(record["step"], record["device"], Removal(**record["removal"])) for record in state["prune_log"]
        ]
        self.agreements = list(state.get("agreements", []))  # these two earlier versions did not keep
        self.drawn.load_state_dict(state.get("drawn", []))
        self.utilities = [utilities_N.numpy() for utilities_N in state["utilities"]]
        self.survivors = [Survivors(mask_N.numpy(), tuple(incumbent)) for mask_N, incumbent in state["survivors"]]


def trusted(agreement: float | None) -> bool:
    """Whether logits of this agreement with the evidence decide what is pruned."""
    return agreement is None or agreement > 0


def log_probabilities(p_N: Tensor) -> Array:
    """Logarithms (N,) of the probabilities of all choices."""
    logs: Array = p_N.detach().double().clamp(min=LEAST_PROBABILITY).log().numpy()
    return logs
