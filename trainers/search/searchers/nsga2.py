"""NSGA-II: networks of much evidence and of little use of the budget, by non-dominated fronts and crowding."""

# Shapes: S networks, n decisions, O objectives, N choices of all decisions.

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from hardware_models.budgets.cost_table import Array, Mask
from trainers.search.candidates import Candidate, Request
from trainers.search.searchers.evaluated import Evaluated, Network, population_size
from trainers.search.searchers.searcher import Searcher

CROSSES = 64  # children of two parents that are drawn, of which the first new one within budget is evaluated


class Nsga2(Searcher):
    """Evolution towards all trade-offs of the evidence for a network and the share of the binding budget it uses.

    Parents win a tournament of two, their choices are mixed, one in n of them mutates. A child that is not within
    budget or breaks a rule is drawn again. The first population is the prior's best where there is a prior, else
    random, and no more than half of the evaluations. The evidence alone decides between all in the end.
    Source: doi:10.1109/4235.996017.
    """

    def __init__(self, *, population: Annotated[int, Field(ge=2, le=4096)]) -> None:
        self.population = population

    def search(self, request: Request) -> list[Candidate]:
        evaluated = Evaluated(request)
        starts, size = evaluated.starts(), population_size(self.population, request)
        alive = evaluated.take(starts, most=size)
        while evaluated.left:
            objectives_SO = np.stack([[evaluated.values[k] for k in alive], -evaluated.utilisation(alive)], axis=1)
            alive = [alive[k] for k in best_first(objectives_SO)[:size]]
            children: list[int] = []
            while len(children) < size and evaluated.left:
                mother, father = (_winner(alive, request.generator) for _ in range(2))
                child = evaluated.take(_children(evaluated, evaluated.networks[mother], evaluated.networks[father]))
                child = child or evaluated.take(starts)
                if not child:
                    return evaluated.ranked()
                children += child
            alive += children
        return evaluated.ranked()


def best_first(objectives_SO: Array) -> list[int]:
    """Networks by their front, those of a front that stand apart from the others first. More is better."""
    ordered: list[int] = []
    for front in non_dominated_fronts(objectives_SO):
        crowding_S = crowding_distance(objectives_SO[front])
        ordered += [front[k] for k in np.argsort(-crowding_S, kind="stable")]
    return ordered


def non_dominated_fronts(objectives_SO: Array) -> list[list[int]]:
    """Networks that no other is better than in one objective and equal or better in all, then those of the rest, ..."""
    at_least_SS: Mask = np.asarray((objectives_SO[:, None] >= objectives_SO[None]).all(axis=2))
    dominates_SS: Mask = at_least_SS & ~at_least_SS.T
    fronts, remaining = list[list[int]](), np.arange(len(objectives_SO))
    while len(remaining):
        is_dominated_S = dominates_SS[np.ix_(remaining, remaining)].any(axis=0)
        fronts.append(remaining[~is_dominated_S].tolist())
        remaining = remaining[is_dominated_S]
    return fronts


def crowding_distance(objectives_SO: Array) -> Array:
    """How far apart each network's neighbours of a front are (S,): infinite at the ends of an objective.

    Summed over the objectives, each as a share of its range.
    """
    distance_S = np.zeros(len(objectives_SO))
    for values_S in objectives_SO.T:
        order = np.argsort(values_S, kind="stable")
        extent = values_S[order[-1]] - values_S[order[0]]
        distance_S[order[[0, -1]]] = np.inf
        if extent > 0:
            distance_S[order[1:-1]] += (values_S[order[2:]] - values_S[order[:-2]]) / extent
    return distance_S


def _winner(alive: Sequence[int], generator: np.random.Generator) -> int:
    """The better of two; `alive` is in the order of `best_first`."""
    return alive[int(generator.integers(len(alive), size=2).min())]


def _children(evaluated: Evaluated, mother: Network, father: Network) -> Iterator[Network]:
    """Networks within budget of the choices of both, few of them changed; mutants of the first where none is new."""
    generator, mask_N = evaluated.generator, evaluated.request.survivors.mask_N
    shape = (CROSSES, len(mother))
    children_Sn = np.where(generator.random(shape) < 0.5, mother, father)
    choices = [np.flatnonzero(mask_N[a:b]) for a, b in pairwise(evaluated.problem.table.first_choice)]
    others_Sn = np.stack([generator.choice(of_decision, size=CROSSES) for of_decision in choices], axis=1)
    children_Sn = np.where(generator.random(shape) < 1 / len(mother), others_Sn, children_Sn)
    yield from children_Sn[evaluated.problem.is_feasible(children_Sn)]
    yield from evaluated.mutants(mother)
