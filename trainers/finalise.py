"""From a finished search to one network per device: candidates within budget, ranked by validation, not by logits."""

# Shapes: S networks, n decisions, N choices of all decisions.

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hardware_models.budget_problem import BudgetProblem, Survivors
from hardware_models.cost_table import Array, Indices
from trainers.evaluation import Score

POOL_PER_CANDIDATE = 64  # networks drawn for each that is validated
DEAREST_SHARE = 0.25  # of the candidates: those that use most of the binding budget
SWAPS_SHARE = 0.25  # of the candidates: neighbours of the best so far
Evaluate = Callable[[tuple[int, ...]], Score]


@dataclass(frozen=True)
class Candidate:
    """A network (n,) within every budget, the share of its binding budget it uses, and its validation score."""

    indices: tuple[int, ...]
    utilisation: float
    validation: Score


def finalise(
    problem: BudgetProblem,
    survivors: Survivors,
    scores_N: Array,
    evaluate: Evaluate,
    *,
    num_candidates: int,
    generator: np.random.Generator,
) -> list[Candidate]:
    """Validated candidates of one device, best first.

    They are the exact optimum of the scores, the best-scored networks of a fresh pool, the dearest of it (so that a
    network that leaves budget unused has been compared with ones that do not), and one-choice swaps of the best.
    """
    networks, values_S = _scored_pool(problem, survivors, scores_N, num_candidates, generator)
    utilisation_S = _utilisation(problem, networks)
    num_swaps, num_dear = round(num_candidates * SWAPS_SHARE), round(num_candidates * DEAREST_SHARE)
    chosen: dict[tuple[int, ...], None] = {}
    optimum = problem.select(scores_N, mask_N=survivors.mask_N)
    chosen[survivors.witness if optimum is None else optimum.indices] = None
    for row in np.argsort(-values_S, kind="stable"):
        if len(chosen) >= num_candidates - num_swaps - num_dear:
            break
        chosen[_key(networks[row])] = None
    for row in np.argsort(-utilisation_S, kind="stable"):
        if len(chosen) >= num_candidates - num_swaps:
            break
        chosen[_key(networks[row])] = None
    ranked = rank([_validated(problem, indices, evaluate) for indices in chosen])
    for _ in range(num_swaps):
        swap = _best_swap(problem, survivors, scores_N, ranked)
        if swap is None:
            break
        ranked = rank([*ranked, _validated(problem, swap, evaluate)])
    return ranked


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
    chosen = list(dict.fromkeys(_key(network) for network in networks))[:num_candidates]
    return rank([_validated(problem, indices, evaluate) for indices in chosen])


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By validation accuracy, then by loss."""
    return sorted(candidates, key=lambda c: (-c.validation.accuracy, c.validation.loss, c.indices))


def _scored_pool(
    problem: BudgetProblem, survivors: Survivors, scores_N: Array, num_candidates: int, generator: np.random.Generator
) -> tuple[Indices, Array]:
    """Distinct feasible networks in random order, drawn as the scores weigh them, and the sums of their scores (S,)."""
    chains = problem.chains(survivors.mask_N, generator)
    size = num_candidates * POOL_PER_CANDIDATE
    networks = chains.sweep(chains.start(scores_N, size, np.array([survivors.witness])), scores_N)
    _, first = np.unique(networks, axis=0, return_index=True)
    networks = networks[np.sort(first)]
    return networks, scores_N[networks + problem.table.first_choice[:-1]].sum(axis=1)


def _utilisation(problem: BudgetProblem, networks: Indices) -> Array:
    shares: Array = (problem.table.of(networks, problem.device) / problem.limits_M).max(axis=1)
    return shares


def _validated(problem: BudgetProblem, indices: tuple[int, ...], evaluate: Evaluate) -> Candidate:
    return Candidate(indices, float(_utilisation(problem, np.array([indices]))[0]), evaluate(indices))


def _best_swap(
    problem: BudgetProblem, survivors: Survivors, scores_N: Array, ranked: Sequence[Candidate]
) -> tuple[int, ...] | None:
    """The best-scored feasible network that differs from the leader in one choice and was not validated yet."""
    known = {candidate.indices for candidate in ranked}
    starts = problem.table.first_choice
    leader = ranked[0].indices
    swaps = [
        (*leader[:decision], choice, *leader[decision + 1 :])
        for decision in range(len(leader))
        for choice in np.flatnonzero(survivors.mask_N[starts[decision] : starts[decision + 1]]).tolist()
    ]
    swaps = [swap for swap in swaps if swap not in known]
    if not swaps:
        return None
    feasible = [swap for swap, ok in zip(swaps, problem.is_feasible(np.array(swaps)), strict=True) if ok]
    return max(feasible, key=lambda s: (scores_N[np.array(s) + starts[:-1]].sum(), s), default=None)


def _key(network: Indices) -> tuple[int, ...]:
    return tuple(int(k) for k in network)
