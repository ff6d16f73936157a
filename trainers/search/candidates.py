"""From a finished search to one network per device: candidates within budget, ranked by validation, not by logits."""

# Shapes: S networks, n decisions, N choices of all decisions.

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, Indices
from search_spaces.space import SearchSpace
from trainers.deploy.standalone import Score

POOL_PER_CANDIDATE = 64  # networks drawn for each that is validated
EXPENSIVE_SHARE = 0.25  # of the candidates: those that use most of the binding budget
SWAPS_SHARE = 0.25  # of the candidates: neighbours of the best so far
Evaluate = Callable[[tuple[int, ...]], Score]


@dataclass(frozen=True)
class Candidate:
    """A network (n,) within every budget, the share of its binding budget it uses, and its validation score."""

    indices: tuple[int, ...]
    utilisation: float
    validation: Score


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


def finalise(request: Request) -> list[Candidate]:
    """Validated candidates of one device, best first.

    They are the exact optimum of the scores, the best-scored networks of a fresh pool, the most expensive of it (so
    that a network that leaves budget unused has been compared with ones that do not), and one-choice swaps of the best.
    """
    problem, survivors, num_candidates = request.problem, request.survivors, request.num_candidates
    scores_N, evaluate = request.logits_N, request.evaluate
    assert scores_N is not None
    networks, values_S = _scored_pool(problem, survivors, scores_N, num_candidates, request.generator)
    num_swaps, num_expensive = round(num_candidates * SWAPS_SHARE), round(num_candidates * EXPENSIVE_SHARE)
    optimum = problem.select(scores_N, mask_N=survivors.mask_N)
    best_scored = networks[np.argsort(-values_S, kind="stable")]
    most_expensive = networks[np.argsort(-_utilisation(problem, networks), kind="stable")]
    chosen = Distinct(problem.table.space)
    chosen.add([survivors.incumbent if optimum is None else optimum.indices], up_to=1)
    chosen.add(best_scored, up_to=max(1, num_candidates - num_swaps - num_expensive))
    chosen.add(most_expensive, up_to=max(1, num_candidates - num_swaps))
    ranked = rank([_validated(problem, indices, evaluate) for indices in chosen.networks])
    while len(chosen.networks) < num_candidates:
        swaps = _swaps(problem, survivors, scores_N, ranked[0].indices)
        if not chosen.add(swaps, up_to=len(chosen.networks) + 1):
            break
        ranked = rank([*ranked, _validated(problem, chosen.networks[-1], evaluate)])
    return ranked


class Distinct:
    """Networks that differ: decisions that a network does not use, a block beyond its depth say, make no difference."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.networks: list[tuple[int, ...]] = []
        self._known: set[str] = set()

    def add(self, networks: Iterable[Sequence[int] | Indices], *, up_to: int) -> bool:
        """Takes new networks in order until there are `up_to`; whether there are."""
        for network in networks:
            if len(self.networks) >= up_to:
                break
            indices = tuple(int(k) for k in network)
            key = self.space.notation(self.space.choices(indices))
            if key not in self._known:
                self._known.add(key)
                self.networks.append(indices)
        return len(self.networks) >= up_to


def random_candidates(
    problem: BudgetProblem,
    survivors: Survivors,
    evaluate: Evaluate,
    *,
    num_candidates: int,
    generator: np.random.Generator,
) -> list[Candidate]:
    """As many networks drawn uniformly from the feasible ones, validated the same way, best first."""
    networks, _ = _scored_pool(problem, survivors, np.zeros(len(survivors.mask_N)), num_candidates, generator)
    chosen = Distinct(problem.table.space)
    chosen.add(networks, up_to=num_candidates)
    return rank([_validated(problem, indices, evaluate) for indices in chosen.networks])


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By validation accuracy, then by loss."""
    return sorted(candidates, key=lambda c: (-c.validation.accuracy, c.validation.loss, c.indices))


def _scored_pool(
    problem: BudgetProblem, survivors: Survivors, scores_N: Array, num_candidates: int, generator: np.random.Generator
) -> tuple[Indices, Array]:
    """Distinct feasible networks in random order, drawn as the scores weigh them, and the sums of their scores (S,)."""
    chains = problem.chains(survivors.mask_N, generator)
    size = num_candidates * POOL_PER_CANDIDATE
    networks = chains.sweep(chains.start(scores_N, size, np.array([survivors.incumbent])), scores_N)
    _, first = np.unique(networks, axis=0, return_index=True)
    networks = networks[np.sort(first)]
    return networks, scores_N[networks + problem.table.first_choice[:-1]].sum(axis=1)


def _utilisation(problem: BudgetProblem, networks: Indices) -> Array:
    binding_S: Array = problem.shares(problem.table.of(networks, problem.device)).max(axis=1)
    return binding_S


def _validated(problem: BudgetProblem, indices: tuple[int, ...], evaluate: Evaluate) -> Candidate:
    return Candidate(indices, float(_utilisation(problem, np.array([indices]))[0]), evaluate(indices))


def _swaps(
    problem: BudgetProblem, survivors: Survivors, scores_N: Array, leader: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Feasible neighbours of the leader, which differ in one choice or as little as rules allow, best-scored first."""
    swaps_Sn = problem.table.rules.neighbours(leader, survivors.mask_N)
    feasible = [tuple(swap) for swap in swaps_Sn[problem.is_feasible(swaps_Sn)].tolist()]
    starts = problem.table.first_choice[:-1]
    return sorted(feasible, key=lambda swap: (-scores_N[np.array(swap) + starts].sum(), swap))
