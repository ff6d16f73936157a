"""Candidates from logits that were trained with a supernet."""

from trainers.search.candidates import Candidate, Request, finalise
from trainers.search.searchers.searcher import Searcher


class Differentiable(Searcher):
    """The exact optimum of trained logits, the best of a pool drawn by them in bands of the budget, neighbours."""

    trains_logits = True

    def search(self, request: Request) -> list[Candidate]:
        return finalise(request)
