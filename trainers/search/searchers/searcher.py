"""What a searcher offers: candidates of one device. All obey the same exact budgets, at the same number of networks."""

from abc import ABC, abstractmethod
from typing import ClassVar

from search_spaces.registry import Registry
from trainers.search.candidates import Candidate, Request


class Searcher(ABC):
    """Proposes networks of one device, all within its budgets. Its keyword-only arguments are its configuration."""

    trains_logits: ClassVar[bool] = False  # whether the supernet's training updates logits and prunes choices
    needs_prior: ClassVar[bool] = False  # whether it proposes nothing without training-free scores
    needs_random: ClassVar[bool] = False  # whether it proposes the baseline's networks

    @abstractmethod
    def search(self, request: Request) -> list[Candidate]:
        """Candidates, best first, of which no more than `request.num_candidates` were evaluated."""


SEARCHERS: Registry[type[Searcher]] = Registry("searchers")
