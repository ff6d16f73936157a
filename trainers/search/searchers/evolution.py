"""Regularised evolution: the best of a sample is mutated, and the oldest dies."""

from collections import deque
from typing import Annotated

from pydantic import Field

from trainers.search.candidates import Candidate, Request
from trainers.search.searchers.evaluated import Evaluated, population_size
from trainers.search.searchers.searcher import Searcher


class Evolution(Searcher):
    """A population of the networks evaluated last; each next one is a mutant of the best of a random sample of them.

    A mutant takes another choice in one decision, or as few as the rules allow, within budget. The first population is
    the prior's best where there is a prior, else random, and no more than half of the evaluations.
    Source: arXiv:1802.01548, algorithm 1.
    """

    def __init__(
        self,
        *,
        population: Annotated[int, Field(ge=2, le=4096)],
        sample: Annotated[int, Field(ge=1, le=4096)],
    ) -> None:
        self.population, self.sample = population, sample

    def search(self, request: Request) -> list[Candidate]:
        evaluated = Evaluated(request)
        starts = evaluated.starts()
        alive = deque(evaluated.take(starts, most=population_size(self.population, request)))
        while evaluated.left:
            drawn = request.generator.choice(alive, size=min(self.sample, len(alive)), replace=False).tolist()
            parent = max(drawn, key=evaluated.values.__getitem__)
            child = evaluated.take(evaluated.mutants(evaluated.networks[parent])) or evaluated.take(starts)
            if not child:
                break
            alive.extend(child)
            alive.popleft()
        return evaluated.ranked()
