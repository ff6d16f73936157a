"""Successive halving of random networks."""

from trainers.search.candidates import Candidate, Request
from trainers.search.searchers.evaluated import Evaluated
from trainers.search.searchers.searcher import Searcher


class Halving(Searcher):
    """Random networks within budget, the better half of which goes on to each next rung of the evidence.

    With a prior the first half of them are its best. Source: arXiv:1502.07943.
    """

    def search(self, request: Request) -> list[Candidate]:
        evaluated = Evaluated(request)
        evaluated.take(evaluated.of_prior(), most=(request.num_candidates + 1) // 2)
        evaluated.take(evaluated.uniform(), most=request.num_candidates)
        return evaluated.ranked()
