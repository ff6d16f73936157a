"""What every relaxation offers: one update of the logits from a batch."""

# Shapes: B batch, N choices of all decisions.

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from search_spaces.registry import Registry
from search_spaces.space import Selection, Supernet
from trainers.data.task import Task
from trainers.search.constraints.constraint import Constraint
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState

Batch = tuple[Tensor, Tensor]  # inputs and targets


@dataclass(frozen=True)
class Searched:
    """What a relaxation works on: a supernet, the logits of its choices, and what constrains them."""

    supernet: Supernet
    logits: ArchitectureParameters
    constraint: Constraint
    task: Task
    state: SearchState

    def selection(self, weights_N: Tensor) -> Selection:
        """Weights (N,) of all choices, by decision."""
        decisions = self.state.table.space.decisions
        sizes = [len(decision.choices) for decision in decisions]
        return dict(zip((d.name for d in decisions), weights_N.split(sizes), strict=True))

    @contextmanager
    def frozen_weights(self) -> Iterator[None]:
        """Within it no weight of the supernet takes a gradient."""
        self.supernet.requires_grad_(False)
        try:
            yield
        finally:
            self.supernet.requires_grad_(True)


@dataclass(frozen=True)
class Update:
    """One turn of the architecture: the device, a batch of each training split, and the tools of the trainer.

    `backward` propagates a loss, `timed` counts what runs within it as work on the supernet, `check` raises
    TrainingDivergedError unless a loss is finite. `added` are terms of the loss that remedies add: functions of the
    device and its probabilities (N,).
    """

    device: int
    weights_batch: Batch
    architecture_batch: Batch
    optimizer: Optimizer
    backward: Callable[[Tensor], Any]
    timed: Callable[[], Any]
    check: Callable[[Tensor], None]
    added: Sequence[Callable[[int, Tensor], Tensor]] = ()


class Relaxation(ABC):
    """Trains the logits through a selection of the supernet. Its keyword-only arguments are its configuration.

    A subclass gives the loss; one whose update is more than a gradient of one loss overrides `update`.
    """

    def __init__(self, searched: Searched) -> None:
        self.searched = searched

    @abstractmethod
    def loss(self, update: Update) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and the probabilities (N,) of the constraint that it was taken at."""

    def update(self, update: Update) -> Tensor:
        """One step of the logits; the probabilities (N,) that it was taken at."""
        searched, device = self.searched, update.device
        with searched.frozen_weights():
            loss, p_N = self.loss(update)
            total = loss + searched.constraint.penalty(device, p_N) + searched.logits.penalty(device)
            for added in update.added:
                total = total + added(device, p_N)
            update.optimizer.zero_grad(set_to_none=True)
            with update.timed():
                update.backward(total)
        update.optimizer.step()
        return p_N

    def state_dict(self) -> dict[str, Any]:
        """What its next update depends on besides the logits, of tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""


RELAXATIONS: Registry[type[Relaxation]] = Registry("relaxations")
