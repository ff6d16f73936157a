"""From a finished search to one network per device: candidates within budget, ranked by validation, not by logits."""

# Shapes: S networks, n decisions, N choices of all decisions.

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, Indices
from trainers.deploy.standalone import Score
from trainers.search.distinct import Distinct
from trainers.search.priors.prior import Prior

PRIOR, LOGITS, VALIDATION = "prior", "logits", "validation_accuracy"  # kinds of evidence
POOL_PER_CANDIDATE = 64  # networks drawn for each that is validated
NUM_BANDS = 4  # of the binding budget, up to what the most expensive network of the pool uses
SWAPS_SHARE = 0.25  # of the candidates: neighbours of the best so far
Evaluate = Callable[[tuple[int, ...]], Score]
Rung = tuple[str, Callable[[tuple[int, ...]], float]]  # the name of some evidence, and what it is of a network


@dataclass(frozen=True)
class Candidate:
    """A network (n,) within every budget, the share of its binding budget it uses, and its validation score.

    Those that have come through more `rungs` of evidence are the better ones; of the same rung, those of more `merit`,
    which is the accuracy of the validation unless other evidence decides. `evidence` has the figures it comes from.
    """

    indices: tuple[int, ...]
    utilisation: float
    validation: Score
    merit: float | None = None
    rungs: int = 0
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a searcher may use for one device: its budgets, its active choices, and a scoring function.

    `logits_N` are the trained logits (N,), none where there are none. `random_candidates` are networks drawn uniformly
    from the feasible ones, scored already, best first: the baseline of every search. `rungs` are evidence of growing
    cost that decides between networks, more of it being better; without any, their validation accuracy does.
    """

    problem: BudgetProblem
    survivors: Survivors
    logits_N: Array | None
    evaluate: Evaluate
    num_candidates: int
    random_candidates: Sequence[Candidate]
    generator: np.random.Generator
    prior: Prior | None = None
    rungs: Sequence[Rung] = ()


def finalise(request: Request) -> list[Candidate]:
    """Validated candidates of one device, best first.

    They are the exact optimum of the scores and the best-scored networks of a fresh pool, from bands of the budget in
    turn (so that a network that leaves budget unused has been compared with ones that do not). With a prior, those
    that it finds best, those of the logits, and those of both together take turns. Where validation alone decides,
    one-choice swaps of the best are validated too.
    """
    num_candidates = request.num_candidates
    num_swaps = 0 if request.rungs else round(num_candidates * SWAPS_SHARE)
    chosen = proposed(request, max(1, num_candidates - num_swaps))
    ranked = race(request, chosen.networks)
    while not request.rungs and len(chosen.networks) < num_candidates:
        swaps = _swaps(request, ranked[0].indices)
        if not chosen.add(swaps, up_to=len(chosen.networks) + 1):
            break
        ranked = rank([*ranked, _validated(request.problem, chosen.networks[-1], request.evaluate)])
    return ranked


def proposed(request: Request, size: int) -> Distinct:
    """As many different networks to compare, from all sources."""
    problem, survivors, prior = request.problem, request.survivors, request.prior
    logits_N = np.zeros(len(survivors.mask_N)) if request.logits_N is None else request.logits_N
    networks, values_S = _scored_pool(problem, survivors, logits_N, request.num_candidates, request.generator)
    optimum = problem.select(logits_N, mask_N=survivors.mask_N)
    best_scored = [survivors.incumbent if optimum is None else optimum.indices, *_by(values_S, networks)]
    chosen = Distinct(problem.table.space)
    if prior is None:
        chosen.add(best_scored, up_to=1)
        for turn in zip_longest(*_bands(_utilisation(problem, networks), values_S, networks)):
            chosen.add([network for network in turn if network is not None], up_to=size)
        return chosen
    predicted_S = prior.predict(networks)
    by_prior = [*scored_by_prior(request), *_by(predicted_S, networks)]
    sources = [by_prior]
    if request.logits_N is not None:
        sources += [best_scored, _by(_standard(values_S) + _standard(predicted_S), networks)]
    for turn in zip_longest(*sources):
        chosen.add([network for network in turn if network is not None], up_to=size)
    return chosen


def race(request: Request, networks: Sequence[tuple[int, ...]]) -> list[Candidate]:
    """The networks as candidates, best first: at each rung of evidence the better half of those before goes on.

    What counts at a rung is its evidence plus `weight` times the prior, each in deviations of the networks compared.
    Cells of NAS-Bench-201 on CIFAR-10, the four that the prior (then with `expressivity`, one look at each network)
    finds best within a budget, 50 steps: the prior alone
    chooses with a mean regret of 0.51 points, weights from 2 to 4 with 0.62, 1 with 0.73, the training loss alone with
    0.87 (standard error .06 to .09, 12 budgets of 2 seeds).
    """
    if not networks:
        return []
    evidence = hints(request, networks)
    merits, rungs, entrants = np.zeros(len(networks)), np.zeros(len(networks), dtype=int), np.arange(len(networks))
    for rung, (name, weigh) in enumerate(request.rungs, 1):
        for k in entrants.tolist():
            evidence[k][name] = weigh(networks[k])
        merits[entrants] = _standard(np.array([evidence[k][name] for k in entrants]))
        if request.prior is not None:
            merits[entrants] += request.prior.weight * _standard(np.array([evidence[k][PRIOR] for k in entrants]))
        rungs[entrants] = rung
        entrants = entrants[np.argsort(-merits[entrants], kind="stable")][: max(1, len(entrants) // 2)]
    found = [_validated(request.problem, indices, request.evaluate) for indices in networks]
    found = [replace(candidate, evidence=known) for candidate, known in zip(found, evidence, strict=True)]
    if request.rungs:
        found = [replace(c, merit=float(merits[k]), rungs=int(rungs[k])) for k, c in enumerate(found)]
    return rank(found)


def hints(request: Request, networks: Sequence[tuple[int, ...]]) -> list[dict[str, float]]:
    """What the search says of each network without looking at it: the prior's number, and the sum of its logits."""
    found: list[dict[str, float]] = [{} for _ in networks]
    known: dict[str, Array] = {}
    if request.prior is not None:
        known[PRIOR] = request.prior.values(networks)
    if request.logits_N is not None:
        known[LOGITS] = request.logits_N[np.array(networks) + request.problem.table.first_choice[:-1]].sum(axis=1)
    for name, values_S in known.items():
        for k, value in enumerate(values_S.tolist()):
            found[k][name] = value
    return found


def agreement(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Kendall's tau over candidates between the order that they ended in and each kind of evidence for them.

    Evidence of one value for all, or for fewer than three, has none.
    """
    rows = [{VALIDATION: candidate.validation.accuracy, **candidate.evidence} for candidate in candidates]
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        pairs = [(-place, row[name]) for place, row in enumerate(rows) if name in row]
        tau = kendalltau(*zip(*pairs, strict=True)).statistic if len(pairs) > 2 else np.nan
        if np.isfinite(tau):
            found[name] = float(tau)
    return found


def decided_by(candidates: Sequence[Candidate]) -> list[str]:
    """The kinds of evidence that candidates were compared by."""
    if candidates[0].merit is None:
        return [VALIDATION]
    return [name for name in candidates[0].evidence if name != LOGITS]


def random_candidates(
    problem: BudgetProblem,
    survivors: Survivors,
    evaluate: Evaluate,
    *,
    num_candidates: int,
    generator: np.random.Generator,
    rungs: Sequence[Rung] = (),
) -> list[Candidate]:
    """As many networks drawn uniformly from the feasible ones, compared by the same evidence, best first."""
    if num_candidates == 0:
        return []
    nothing_N = np.zeros(len(survivors.mask_N))
    networks, _ = _scored_pool(problem, survivors, nothing_N, num_candidates, generator)
    chosen = Distinct(problem.table.space)
    chosen.add(networks, up_to=num_candidates)
    request = Request(problem, survivors, None, evaluate, num_candidates, (), generator, rungs=rungs)
    return race(request, chosen.networks)


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """By the evidence for them, then by the loss of their validation.

    Where validation alone decides, the most expensive of those within one standard error of the best comes first:
    longer training, which a search cannot afford, gains most for networks that use their budget.
    """

    def key(candidate: Candidate) -> tuple[Any, ...]:
        validation, merit = candidate.validation, candidate.merit
        return -candidate.rungs, -validation.accuracy if merit is None else -merit, validation.loss, candidate.indices

    ranked = sorted(candidates, key=key)
    if not ranked or ranked[0].merit is not None:
        return ranked
    least = ranked[0].validation.accuracy - _standard_error(ranked[0].validation)
    first = max((c for c in ranked if c.validation.accuracy >= least), key=lambda c: c.utilisation)
    return [first, *(candidate for candidate in ranked if candidate is not first)]


def _standard_error(validation: Score) -> float:
    """Of an accuracy over its images, one more right and one more wrong; 0 where it was looked up."""
    images = validation.images
    if images == 0:
        return 0.0
    share = (validation.accuracy * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images)


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


def _bands(used_S: Array, values_S: Array, networks_Sn: Indices) -> list[list[tuple[int, ...]]]:
    """The networks in bands of the binding budget, the most expensive band first; in each by their values."""
    band_S = np.ceil(used_S / used_S.max() * NUM_BANDS)
    return [_by(values_S[band_S == band], networks_Sn[band_S == band]) for band in range(NUM_BANDS, 0, -1)]


def _utilisation(problem: BudgetProblem, networks: Indices) -> Array:
    binding_S: Array = problem.shares(problem.table.of(networks, problem.device)).max(axis=1)
    return binding_S


def _validated(problem: BudgetProblem, indices: tuple[int, ...], evaluate: Evaluate) -> Candidate:
    return Candidate(indices, float(_utilisation(problem, np.array([indices]))[0]), evaluate(indices))


def _swaps(request: Request, leader: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Feasible neighbours of the leader, which differ in one choice or as little as rules allow, best-scored first."""
    problem, scores_N = request.problem, request.logits_N
    swaps_Sn = problem.table.rules.neighbours(leader, request.survivors.mask_N)
    feasible = [tuple(swap) for swap in swaps_Sn[problem.is_feasible(swaps_Sn)].tolist()]
    if scores_N is None:
        return feasible
    starts = problem.table.first_choice[:-1]
    return sorted(feasible, key=lambda swap: (-scores_N[np.array(swap) + starts].sum(), swap))


def scored_by_prior(request: Request) -> list[tuple[int, ...]]:
    """Networks of active choices within budget that the prior has scored, best first; none without a prior."""
    if request.prior is None:
        return []
    starts_n, mask_N = request.problem.table.first_choice[:-1], request.survivors.mask_N
    best_first = request.prior.best_scored(request.problem)
    return [network for network in best_first if mask_N[np.array(network) + starts_n].all()]


def _by(values_S: Array, networks_Sn: Indices) -> list[tuple[int, ...]]:
    """The networks, those of the largest values first."""
    return [tuple(row) for row in networks_Sn[np.argsort(-values_S, kind="stable")].tolist()]


def _standard(values_S: Array) -> Array:
    """Values in deviations from their mean; zeros where all are alike."""
    deviation = values_S.std()
    return (values_S - values_S.mean()) / deviation if deviation > 0 else np.zeros(len(values_S))
