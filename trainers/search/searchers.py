"""How candidates are proposed: from trained logits, or at random. Every searcher obeys the same exact budgets."""

# Shapes: N choices of all decisions.

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array
from search_spaces.registry import Registry
from trainers.search.candidates import Candidate, Evaluate, finalise


@dataclass(frozen=True)
class Request:
    """What a searcher may use for one device: its budgets, its active choices, and a scoring function.

    `logits_N` are the trained logits (N,), none where there are none. `random_candidates` are as many networks drawn
    uniformly from the feasible ones, scored already, best first: the baseline of every search.
    """

    problem: BudgetProblem
    survivors: Survivors
    logits_N: Array | None
    evaluate: Evaluate
    num_candidates: int
    random_candidates: Sequence[Candidate]
    generator: np.random.Generator


class Searcher(ABC):
    """Proposes networks of one device, all within its budgets. Its keyword-only arguments are its configuration."""

    trains_logits: ClassVar[bool]  # whether the supernet's training updates logits and prunes choices

    @abstractmethod
    def search(self, request: Request) -> list[Candidate]:
        """Scored candidates, best first."""


class Differentiable(Searcher):
    """The exact optimum of the trained logits, the best of a pool drawn by them, the most expensive, neighbours."""

    trains_logits = True

    def search(self, request: Request) -> list[Candidate]:
        assert request.logits_N is not None
        return finalise(
            request.problem,
            request.survivors,
            request.logits_N,
            request.evaluate,
            num_candidates=request.num_candidates,
            generator=request.generator,
        )


class RandomSearcher(Searcher):
    """Networks uniform over the feasible ones: the baseline itself."""

    trains_logits = False

    def search(self, request: Request) -> list[Candidate]:
        return list(request.random_candidates)


SEARCHERS: Registry[type[Searcher]] = Registry("searchers")
