"""Candidates from training-free scores alone."""

from dataclasses import replace

from trainers.search.candidates import Candidate, Request, finalise
from trainers.search.searchers.searcher import Searcher


class ByPrior(Searcher):
    """What the training-free scores find best: no logits are trained."""

    needs_prior = True

    def search(self, request: Request) -> list[Candidate]:
        return finalise(replace(request, logits_N=None))
