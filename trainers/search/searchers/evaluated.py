"""The networks that one search evaluates: different ones within budget, each once, and no more than it may."""

# Shapes: S networks, n decisions, N choices of all decisions.

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain, islice

import numpy as np

from hardware_models.budgets.cost_table import Array, Indices
from trainers.search.candidates import Candidate, Request, race, scored_by_prior
from trainers.search.distinct import Distinct

POOL = 512  # networks drawn at a time
WALK = 16  # steps of a random walk to a network that is new

Network = Sequence[int] | Indices


class Evaluated:
    """Evaluated networks by their numbers, in the order of their evaluation, and what each is worth.

    That is the first evidence of the request's rungs, or the validation accuracy where there are none.
    """

    def __init__(self, request: Request) -> None:
        rungs = [(name, cache(weigh)) for name, weigh in request.rungs]
        self.request = replace(request, evaluate=cache(request.evaluate), rungs=rungs)
        self.problem, self.generator = request.problem, request.generator
        self.values: list[float] = []
        self._distinct = Distinct(request.problem.table.space)

    @property
    def networks(self) -> list[tuple[int, ...]]:
        return self._distinct.networks

    @property
    def left(self) -> int:
        """How many more networks may be evaluated."""
        return self.request.num_candidates - len(self.values)

    def take(self, networks: Iterable[Network], *, most: int = 1) -> list[int]:
        """Evaluates the first networks that are new, `most` at most; their numbers. An iterator goes no further."""
        first, remaining = len(self.values), iter(networks)
        enough = first + min(most, self.left)
        while len(self.values) < enough and (found := list(islice(remaining, 1))):
            if self._distinct.add(found, up_to=len(self.values) + 1):
                self.values.append(self._worth(self.networks[-1]))
        return list(range(first, len(self.values)))

    def starts(self) -> Iterator[Network]:
        """Networks to start from: those that the prior finds best, if there is one, then uniform ones."""
        return chain(self.of_prior(), self.uniform())

    def of_prior(self) -> Iterator[Network]:
        """The networks within budget that the prior has scored, best first."""
        return iter(scored_by_prior(self.request))

    def uniform(self) -> Iterator[Network]:
        """Networks uniform over those within budget, until a whole pool of them has none that is new."""
        known = -1
        while known < len(self.values):
            known = len(self.values)
            yield from self.pool()

    def pool(self) -> Indices:
        """Networks (S, n) uniform over those within budget."""
        survivors = self.request.survivors
        nothing_N, chains = np.zeros(len(survivors.mask_N)), self.problem.chains(survivors.mask_N, self.generator)
        return chains.sweep(chains.start(nothing_N, POOL, np.array([survivors.incumbent])), nothing_N)

    def neighbours(self, network: Network) -> Indices:
        """Networks (S, n) within budget that differ as little as the rules allow, in random order."""
        indices = [int(k) for k in network]
        near_Sn = self.problem.table.rules.neighbours(indices, self.request.survivors.mask_N)
        near_Sn = self.generator.permutation(near_Sn)
        return near_Sn[self.problem.is_feasible(near_Sn)]

    def mutants(self, network: Network) -> Iterator[Network]:
        """The network's neighbours, then those of one of them, and so on: one is new, unless all near it are known."""
        for _ in range(WALK):
            near_Sn = self.neighbours(network)
            if not len(near_Sn):
                return
            yield from near_Sn
            network = near_Sn[self.generator.integers(len(near_Sn))]

    def utilisation(self, numbers: Sequence[int]) -> Array:
        """Share of the binding budget that these networks use, (S,)."""
        networks_Sn = np.array([self.networks[k] for k in numbers])
        binding_S: Array = self.problem.shares(self.problem.table.of(networks_Sn, self.problem.device)).max(axis=1)
        return binding_S

    def ranked(self) -> list[Candidate]:
        """All of them, best first; the better half of them at each rung goes on to the next."""
        return race(self.request, self.networks)

    def _worth(self, network: tuple[int, ...]) -> float:
        request = self.request
        return request.rungs[0][1](network) if request.rungs else request.evaluate(network).accuracy


def population_size(asked: int, request: Request) -> int:
    """What is asked for, where that leaves half of the evaluations for descendants."""
    return min(asked, max(2, request.num_candidates // 2))
