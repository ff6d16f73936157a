"""What every sampler offers: the networks, or the mixture of them, that the next update of the weights trains."""

# Shapes: n decisions, N choices of all decisions.

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from search_spaces.registry import Registry
from search_spaces.rules import Mask, RuleMatrix
from search_spaces.space import Selection
from trainers.search.constraints.constraint import Constraint
from trainers.search.relaxations.relaxation import Relaxation


class PathSampler(ABC):
    """Draws a network for each update of the weights. Its keyword-only arguments are its configuration."""

    mixes: ClassVar[bool] = False  # whether weights are trained on mixtures of choices
    distils: ClassVar[bool] = False  # whether the first selection of an update teaches the others
    obeys_rules: ClassVar[bool] = True  # whether it can draw where a space has rules

    def __init__(self, constraint: Constraint, *, warmup_steps: int) -> None:
        self.constraint, self.warmup_steps = constraint, warmup_steps

    @abstractmethod
    def path(self, step: int, device: int) -> tuple[int, ...]:
        """The network (n,) of one update, which is the device's turn."""

    def selections(self, relaxation: Relaxation, step: int, device: int) -> list[Selection]:
        """What one update runs, in turn; the gradients are summed. Here the one network of `path`."""
        return [self.constraint.table.space.selection(self.path(step, device))]


def largest_path(rules: RuleMatrix) -> tuple[int, ...]:
    """The network of every decision's last choice, or of as late ones as the rules allow."""
    return extreme_path(rules, np.ones(int(rules.first_choice[-1]), dtype=bool))


def extreme_path(rules: RuleMatrix, mask_N: Mask, *, smallest: bool = False) -> tuple[int, ...]:
    """The network of every decision's last choice in `mask_N`, or of the first, as far as the rules allow."""
    scores_N = np.concatenate([np.arange(size, dtype=float) for size in np.diff(rules.first_choice)])
    return rules.best(np.where(mask_N, -scores_N if smallest else scores_N, -np.inf))


SAMPLERS: Registry[type[PathSampler]] = Registry("samplers")
