"""Candidates at random."""

from trainers.search.candidates import Candidate, Request
from trainers.search.searchers.searcher import Searcher


class RandomNetworks(Searcher):
    """Networks uniform over the feasible ones: the baseline itself."""

    needs_random = True

    def search(self, request: Request) -> list[Candidate]:
        return list(request.random_candidates)
