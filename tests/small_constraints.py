"""Constraints of one device over the small space, and its networks one by one."""

# Shapes: S networks, n decisions, N choices of all decisions.

from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from tiny_search import networks_of, small_space

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, Indices
from trainers.search.constraints.constraint import Constraint
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState

SPACE = small_space()
NETWORKS = networks_of(SPACE)
NUM_CHOICES = SPACE.num_choices
Made = TypeVar("Made", bound=Constraint)


def survivors_of(problem: BudgetProblem) -> Survivors:
    return problem.start()[0]


def make(kind: type[Made], problem: BudgetProblem, *, logits: Array | None = None, **arguments: Any) -> Made:
    """A constraint of one device over the small space, with these shared logits (N,)."""
    parameters = ArchitectureParameters(problem.table.space.num_choices, 1, offset_decay=0.0)
    if logits is not None:
        with torch.no_grad():
            parameters.shared.copy_(torch.from_numpy(logits))
    state = SearchState([problem], [survivors_of(problem)])
    return kind(state, parameters, np.random.default_rng(0), **arguments)


def some_logits(scale: float = 1.0, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(scale=scale, size=NUM_CHOICES)


def columns(problem: BudgetProblem, networks_Sn: Indices) -> Indices:
    return networks_Sn + problem.table.first_choice[:-1]


def softmax_blocks(problem: BudgetProblem, logits_N: Array) -> Array:
    starts = problem.table.first_choice
    blocks = [np.exp(logits_N[a:b]) / np.exp(logits_N[a:b]).sum() for a, b in pairwise(starts)]
    return np.concatenate(blocks)
