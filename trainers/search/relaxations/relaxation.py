"""What every relaxation offers: the weights of a selection, and one update of the logits from a batch."""

# Shapes: B batch, n decisions, N choices of all decisions.

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from search_spaces.registry import Registry
from search_spaces.space import Selection, Supernet
from trainers.data.task import Task
from trainers.search.constraints.constraint import Constraint
from trainers.search.logits import ArchitectureParameters
from trainers.search.ranks import Ranks
from trainers.search.search_state import LEAST_PROBABILITY, SearchState

BASELINE_MEMORY = 0.9  # of the moving average of the loss that hard decisions are judged against
Batch = tuple[Tensor, Tensor]  # inputs and targets


@dataclass(frozen=True)
class Searched:
    """What a relaxation works on: a supernet, the logits of its choices, and what constrains them.

    Where several processes train, `ranks` gives the means over them of what each has taken from its images.
    """

    supernet: Supernet
    logits: ArchitectureParameters
    constraint: Constraint
    task: Task
    state: SearchState
    ranks: Ranks = field(default_factory=Ranks)

    def selection(self, weights_N: Tensor, path: Sequence[int] | None = None) -> Selection:
        """Weights (N,) of all choices, by decision; decisions that cannot be mixed as `path` (n,) has them."""
        space = self.state.table.space
        sizes = [len(decision.choices) for decision in space.decisions]
        found = dict(zip((d.name for d in space.decisions), weights_N.split(sizes), strict=True))
        if path is not None:
            drawn = zip(space.decisions, self.one_hot(path).split(sizes), strict=True)
            found |= {decision.name: one_hot for decision, one_hot in drawn if decision.name in space.hard_decisions}
        return found

    def one_hot(self, path: Sequence[int]) -> Tensor:
        """A network (n,) as weights (N,)."""
        drawn_N = torch.zeros(int(self.state.table.first_choice[-1]))
        drawn_N[torch.as_tensor(np.asarray(path) + self.state.table.first_choice[:-1])] = 1.0
        return drawn_N

    def active(self, device: int) -> Tensor:
        """Whether each choice (N,) is active on a device."""
        return torch.from_numpy(self.state.survivors[device].mask_N)

    def log_probabilities(self, device: int, p_N: Tensor) -> Tensor:
        """Logarithms (N,) of probabilities, differentiable; -inf where a choice has been pruned."""
        return p_N.clamp(min=LEAST_PROBABILITY).log().masked_fill(~self.active(device), -torch.inf)

    def conditioned_logits(self, device: int, p_N: Tensor) -> Tensor:
        """Logits (N,) whose softmax over each decision is `p_N`, at the mean level of the device's own logits.

        Under independent decisions they are the logits themselves; -inf where a choice has been pruned.
        """
        logs_N, own_N, active_N = self.log_probabilities(device, p_N), self.logits(device), self.active(device)
        return torch.cat(
            [
                logs_N[a:b] - logs_N[a:b][active_N[a:b]].mean() + own_N[a:b][active_N[a:b]].mean()
                for a, b in pairwise(self.state.table.first_choice)
            ]
        )

    def softmax(self, values_N: Tensor) -> Tensor:
        """Probabilities (N,) by these values (N,), each decision by itself; -inf gets none."""
        blocks = pairwise(self.state.table.first_choice)
        return torch.cat([torch.softmax(values_N[a:b], dim=0) for a, b in blocks])

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """Within it no weight of the supernet takes a gradient."""
        trained = [weight for weight in self.supernet.parameters() if weight.requires_grad]
        for weight in trained:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in trained:
                weight.requires_grad_(True)


@dataclass(frozen=True)
class Update:
    """One turn of the architecture: the device, a batch of each training split, and the tools of the trainer.

    `backward` propagates a loss, to gradients that are means over all processes, `timed` counts what runs within it as
    work on the supernet, `check` raises TrainingDivergedError unless a loss is finite. `added` are terms of the loss
    that remedies add: functions of the device and its probabilities (N,). `weights_optimizer` trains the supernet.
    """

    device: int
    weights_batch: Batch
    architecture_batch: Batch
    optimizer: Optimizer
    backward: Callable[[Tensor], Any]
    timed: Callable[[], Any]
    check: Callable[[Tensor], object]
    added: Sequence[Callable[[int, Tensor], Tensor]] = ()
    weights_optimizer: Optimizer | None = None


class Relaxation(ABC):
    """Trains the logits through a selection of the supernet. Its keyword-only arguments are its configuration.

    A subclass gives the weights of the selection; one whose update is more than a gradient of one loss overrides
    `update`. Decisions that cannot be mixed are drawn, and take the score-function gradient of the same loss.
    """

    mixes: ClassVar[bool] = True  # whether a forward pass mixes choices, or runs the network that was drawn
    normalises: ClassVar[bool] = True  # whether the weights of a decision sum to one

    def __init__(self, searched: Searched) -> None:
        self.searched = searched
        self.baseline: list[float | None] = [None] * len(searched.state.problems)

    @abstractmethod
    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        """Weights (N,) of all choices, for a network (n,) drawn by the constraint and its probabilities (N,)."""

    def added_loss(self, device: int, p_N: Tensor) -> Tensor:
        """What the relaxation itself adds to the loss of the logits."""
        return p_N.new_zeros(())

    def loss(self, update: Update) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and the probabilities (N,) of the constraint that it was taken at."""
        device = update.device
        path = self.searched.constraint.draw(device)  # first: it may renew what the probabilities come from
        p_N = self.searched.constraint.probabilities(device)
        weights_N = self.weights(device, path, p_N)
        loss = self.batch_loss(update, self.batch(update), weights_N, path)
        return loss + self._hard_decisions_term(device, float(loss.detach()), p_N, path), p_N

    def batch(self, update: Update) -> Batch:
        """The batch that the logits learn from."""
        return update.architecture_batch

    def batch_loss(self, update: Update, batch: Batch, weights_N: Tensor, path: tuple[int, ...]) -> Tensor:
        """The loss of a batch at these weights (N,)."""
        inputs, targets = batch
        with update.timed():
            outputs = self.searched.supernet(inputs, self.searched.selection(weights_N, path))
            loss = self.searched.task.loss(outputs, targets)
            update.check(loss)
        return loss.to(weights_N.device)

    @torch.no_grad()
    def selection(self, device: int) -> Selection:
        """A selection of the kind that the logits are trained at, without gradient."""
        path = self.searched.constraint.draw(device)
        weights_N = self.weights(device, path, self.searched.constraint.probabilities(device))
        return self.searched.selection(weights_N, path)

    def update(self, update: Update) -> Tensor:
        """One step of the logits; the probabilities (N,) that it was taken at."""
        with self.searched.frozen_weights():
            loss, p_N = self.loss(update)
            total = self.total(update, loss, p_N)
            update.optimizer.zero_grad(set_to_none=True)
            with update.timed():
                update.backward(total)
        self.searched.constraint.modify_gradient(update.device)
        update.optimizer.step()
        return p_N

    def total(self, update: Update, loss: Tensor, p_N: Tensor) -> Tensor:
        """The loss with what the constraint, the logits, the relaxation and the remedies add."""
        searched, device = self.searched, update.device
        total = loss + searched.constraint.penalty(device, p_N) + searched.logits.penalty(device)
        total = total + self.added_loss(device, p_N)
        for added in update.added:
            total = total + added(device, p_N)
        return total

    def state_dict(self) -> dict[str, Any]:
        """What its next update depends on besides the logits, of tensors and plain values."""
        return {"baseline": self.baseline}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""
        self.baseline = list(state["baseline"])

    def _hard_decisions_term(self, device: int, loss: float, p_N: Tensor, path: tuple[int, ...]) -> Tensor:
        baseline, loss = self.baseline[device], self.searched.ranks.mean(loss)
        self.baseline[device] = loss if baseline is None else baseline + (1 - BASELINE_MEMORY) * (loss - baseline)
        term = p_N.new_zeros(())
        if baseline is None:
            return term
        table = self.searched.state.table
        for decision, name in enumerate(d.name for d in table.space.decisions):
            if name in table.space.hard_decisions:
                place = int(table.first_choice[decision]) + path[decision]
                term = term + (loss - baseline) * p_N[place].clamp(min=LEAST_PROBABILITY).log()
        return term


RELAXATIONS: Registry[type[Relaxation]] = Registry("relaxations")
