"""How candidates are proposed: from trained logits, or at random. Every searcher obeys the same exact budgets."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

from search_spaces.registry import Registry
from trainers.search.candidates import Candidate, Request, finalise


class Searcher(ABC):
    """Proposes networks of one device, all within its budgets. Its keyword-only arguments are its configuration."""

    trains_logits: ClassVar[bool]  # whether the supernet's training updates logits and prunes choices
    needs_prior: ClassVar[bool] = False  # whether it proposes nothing without training-free scores
    needs_random: ClassVar[bool] = False  # whether it proposes the baseline's networks

    @abstractmethod
    def search(self, request: Request) -> list[Candidate]:
        """Scored candidates, best first."""


class Differentiable(Searcher):
    """The exact optimum of the trained logits, the best of a pool drawn by them, the most expensive, neighbours."""

    trains_logits = True

    def search(self, request: Request) -> list[Candidate]:
        return finalise(request)


class ByPrior(Searcher):
    """What the training-free scores find best: no logits are trained."""

    trains_logits = False
    needs_prior = True

    def search(self, request: Request) -> list[Candidate]:
        return finalise(replace(request, logits_N=None))


class RandomSearcher(Searcher):
    """Networks uniform over the feasible ones: the baseline itself."""

    trains_logits = False
    needs_random = True

    def search(self, request: Request) -> list[Candidate]:
        return list(request.random_candidates)


SEARCHERS: Registry[type[Searcher]] = Registry("searchers")
