"""Which network the next update of the weights trains."""

# Shapes: n decisions.

from abc import ABC, abstractmethod

import numpy as np

from search_spaces.registry import Registry
from search_spaces.rules import RuleMatrix
from trainers.search.constraints.constraint import Constraint


class PathSampler(ABC):
    """Draws a network for each update of the weights. Its keyword-only arguments are its configuration."""

    def __init__(self, constraint: Constraint, *, warmup_steps: int) -> None:
        self.constraint, self.warmup_steps = constraint, warmup_steps

    @abstractmethod
    def path(self, step: int, device: int) -> tuple[int, ...]:
        """The network (n,) of one update, which is the device's turn."""


class FromLogits(PathSampler):
    """Networks as the logits and the constraint weigh them; in the warm-up the largest network takes a turn too.

    So the warm-up reaches all weights: in turn the largest network, and one drawn for each device.
    """

    def path(self, step: int, device: int) -> tuple[int, ...]:
        if step < self.warmup_steps and step % (len(self.constraint.search.problems) + 1) == 0:
            return largest_path(self.constraint.table.rules)
        return self.constraint.draw(device)


def largest_path(rules: RuleMatrix) -> tuple[int, ...]:
    """The network of every decision's last choice, or of as late ones as the rules allow."""
    return rules.best(np.concatenate([np.arange(size, dtype=float) for size in np.diff(rules.first_choice)]))


SAMPLERS: Registry[type[PathSampler]] = Registry("samplers")
