"""From what was trained to one certified network per device, with its accuracies and the random baseline's."""

# Shapes: N choices of all decisions.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array
from hardware_models.placement.placed_space import unplaced
from search_spaces.architecture import Architecture, architecture_of
from trainers.deploy.standalone import Score, score
from trainers.search.candidates import (
    Candidate,
    Evaluate,
    Request,
    Rung,
    agreement,
    decided_by,
    race,
    random_candidates,
)
from trainers.search.certificate import Certificate, Verdict, certify, verify_and_cut
from trainers.search.deployment import Finished, finish, size_of, timed
from trainers.search.evaluation import Evaluator, fresh_network
from trainers.search.inherited import Inherited
from trainers.search.machines import machine_of
from trainers.search.phases import ADAPTING, CERTIFYING, CHOOSING, Progress
from trainers.search.plan import Plan
from trainers.search.priors.prior import Prior
from trainers.search.search_state import SearchState
from trainers.search.searchers import Searcher
from trainers.search.strategy import make_part
from trainers.search.trained import Trained
from trainers.search.workload import adapting_steps, counted_evidence, trains_from_scratch


@dataclass(frozen=True)
class Best:
    """One of the best networks of a device, with inherited weights where they are to be kept."""

    candidate: Candidate
    architecture: Architecture
    network: nn.Module | None


@dataclass(frozen=True)
class Derived:
    """One device's network. Scores are of the test split; those of candidates, of the validation split.

    `supernet` has the batch-norm statistics of the supernet, `inherited` recalibrated ones; `random` is `inherited` for
    the best of as many random feasible networks. They are taken at the size that was trained, and none where no
    supernet gives weights.
    """

    device: str
    architecture: Architecture
    verdict: Verdict
    candidates: tuple[Candidate, ...]
    random_candidates: tuple[Candidate, ...]
    supernet: Score | None
    inherited: Score | None
    random: Score | None
    finished: Finished
    best: tuple[Best, ...]


@dataclass(frozen=True)
class Found:
    """What a search knows when its training is over, and the parts that choose networks by it.

    `starts` are the choices of each device before any pruning; `trained` is the supernet, if there is one.
    """

    state: SearchState
    starts: Sequence[Survivors]
    trained: Trained | None
    searcher: Searcher
    evaluator: Evaluator
    prior: Prior | None

    def logits_of(self, device: int) -> Array | None:
        return None if self.trained is None else self.trained.logits[device]

    def number_of(self, device: int) -> int:
        return device if self.trained is None else self.trained.numbers[device]


@dataclass(frozen=True)
class Compared:
    """What a search has compared: each device's candidates and random networks, best first, in the problems' order."""

    found: Found
    candidates: Sequence[Sequence[Candidate]]
    randoms: Sequence[Sequence[Candidate]]


def compare(
    plan: Plan,
    state: SearchState,
    starts: Sequence[Survivors],
    trained: Trained | None,
    prior: Prior | None,
    report: Callable[[str], None],
    progress: Progress,
) -> Compared:
    """The candidates of each device; with them the search is over. `starts` are the choices before any pruning."""
    supernet = None if trained is None else trained.supernet
    evaluator = make_part(plan.strategy, "evaluator", plan, supernet)
    found = Found(state, starts, trained, make_part(plan.strategy, "searcher"), evaluator, prior)
    requests, own = [], []
    evidence = counted_evidence(evaluator, plan.table.num_own, progress)
    progress.enter(CHOOSING)
    for device, problem in enumerate(plan.problems):
        report(f"{problem.name}: comparing networks by {plan.strategy['evaluator']['name']}")
        requests.append(_request(plan, found, device, *evidence))
        own.append([_with_best_placement(problem, c) for c in found.searcher.search(requests[-1])])
    offered = [_offered(plan, request, own, device) for device, request in enumerate(requests)]
    progress.end()
    return Compared(found, offered, [request.random_candidates for request in requests])


def derive(plan: Plan, compared: Compared, report: Callable[[str], None], progress: Progress) -> list[Derived]:
    """One network per device, in the order of the problems: proven, trained to its end and exported.

    A network that several devices have is trained and exported once.
    """
    ends: dict[tuple[str, bool], Finished] = {}
    return [_derive(plan, compared, device, ends, report, progress) for device in range(len(plan.problems))]


def _derive(
    plan: Plan,
    compared: Compared,
    device: int,
    ends: dict[tuple[str, bool], Finished],
    report: Callable[[str], None],
    progress: Progress,
) -> Derived:
    """A device's network; `ends` are those trained to their end by their architecture and whether they are int8."""
    progress.enter(CERTIFYING)
    found, candidates, randoms = compared.found, compared.candidates[device], compared.randoms[device]
    problem, evaluator = plan.problems[device], found.evaluator
    verdict = _verdict(plan, found, device, candidates)
    indices = verdict.candidate.indices
    before: dict[str, Score | None] = dict.fromkeys(("supernet", "inherited", "random"))
    if isinstance(evaluator, Inherited):
        before = {
            "supernet": _test(plan, evaluator.extract(indices)),
            "inherited": _test(plan, evaluator.network(indices)),
            "random": _test(plan, evaluator.network(randoms[0].indices)) if randoms else None,
        }
    best = _best(plan, evaluator, verdict, candidates)
    architecture = best[0].architecture
    end = (architecture.id, problem.profile.precision == "int8")
    if end in ends:
        report(f"{problem.name}: its network is trained already, for a device before it")
        progress.skip(ADAPTING, adapting_steps(plan))
    else:
        height, width = size_of(plan, indices)
        report(f"{problem.name}: training its network at {height}x{width} pixels")
        network, scratch = deployable(plan, evaluator, indices), trains_from_scratch(plan)
        ends[end] = finish(plan, network, indices, progress, id=end[0], from_scratch=scratch, int8=end[1])
    derived = Derived(
        device=problem.name,
        architecture=architecture,
        verdict=verdict,
        candidates=tuple(candidates),
        random_candidates=tuple(randoms),
        finished=ends[end],
        best=best,
        **before,
    )
    progress.advance()
    report(_decision(derived))
    report(_line(derived, is_proxy=plan.is_proxy))
    return derived


def _request(plan: Plan, found: Found, device: int, evaluate: Evaluate, rungs: Sequence[Rung]) -> Request:
    """What the searcher may use for a device; its random networks are compared already."""
    problem, settings = plan.problems[device], plan.config.trainer
    generator = np.random.default_rng([plan.config.seed, found.number_of(device)])
    num_random = settings.candidates if settings.random_candidates is None else settings.random_candidates
    randoms = random_candidates(
        problem, found.starts[device], evaluate, num_candidates=num_random, generator=generator, rungs=rungs
    )
    return Request(
        problem,
        found.state.survivors[device],
        found.logits_of(device),
        evaluate,
        num_candidates=settings.candidates,
        random_candidates=randoms,
        generator=generator,
        prior=found.prior,
        rungs=rungs,
    )


def _offered(plan: Plan, request: Request, own: Sequence[Sequence[Candidate]], device: int) -> list[Candidate]:
    """A device's candidates, before them those of other devices that meet its budgets too and are better than its best.

    So no device has a worse network than another whose network it could run, nor a point of a front than a smaller one.
    """
    problem, num_own = request.problem, plan.table.num_own
    networks = {candidate.indices[:num_own]: candidate for candidate in own[device]}
    known = set(networks)
    for candidate in (each for number, others in enumerate(own) if number != device for each in others):
        if problem.is_feasible(np.array([candidate.indices]))[0]:
            networks.setdefault(candidate.indices[:num_own], _with_best_placement(problem, candidate))
    ranked = race(request, [candidate.indices for candidate in networks.values()])
    best = next(place for place, candidate in enumerate(ranked) if candidate.indices[:num_own] in known)
    return [candidate for place, candidate in enumerate(ranked) if place < best or candidate.indices[:num_own] in known]


def _verdict(plan: Plan, found: Found, device: int, candidates: Sequence[Candidate]) -> Verdict:
    """The first candidate that its certificate does not refute; after the last, the best-scored of all others."""
    problem, evaluator, logits_N = plan.problems[device], found.evaluator, found.logits_of(device)
    scores_N = np.zeros(plan.space.num_choices) if logits_N is None else logits_N
    num_own, max_cuts = plan.table.num_own, plan.config.trainer.max_cuts

    def fallback(tightened: BudgetProblem, refuted: Sequence[tuple[int, ...]]) -> Candidate | None:
        tried = [indices[:num_own] for indices in refuted]  # one that was refuted is so wherever it is placed
        indices = (tightened.select(scores_N, forbidden=tried) or problem.tightest()).indices
        if indices[:num_own] in tried:
            return None
        utilisation = max(problem.utilisation(indices).values())
        return _with_best_placement(problem, Candidate(indices, utilisation, evaluator.validate(indices)))

    with machine_of(plan.config.boards.get(problem.name)) as machine:

        def prove(indices: tuple[int, ...]) -> Certificate:
            threads = problem.profile.threads or 1
            clock = partial(timed, plan, indices=indices, threads=threads, machine=machine)
            is_measured = problem.name in plan.measured
            network = deployable(plan, evaluator, indices).cpu()
            return certify(problem, plan.space, network, indices, clock=clock if is_measured else None)

        return verify_and_cut(problem, candidates, prove, fallback=fallback, max_cuts=max_cuts)


def _best(plan: Plan, evaluator: Evaluator, verdict: Verdict, candidates: Sequence[Candidate]) -> tuple[Best, ...]:
    """The network taken, and the next of the candidates that no certificate refuted."""
    refused = {verdict.candidate.indices, *(candidate.indices for candidate, _ in verdict.refuted)}
    others = [candidate for candidate in candidates if candidate.indices not in refused]
    own_size = plan.searched is plan.space
    keeps_weights = plan.config.trainer.keep_weights == "best_k" and evaluator.needs_supernet and own_size
    return tuple(
        Best(
            candidate,
            architecture_of(*unplaced(plan.space, plan.space.choices(candidate.indices))),
            evaluator.network(candidate.indices).cpu() if keeps_weights else None,
        )
        for candidate in [verdict.candidate, *others][: plan.config.trainer.keep_best]
    )


def deployable(plan: Plan, evaluator: Evaluator, indices: tuple[int, ...]) -> nn.Module:
    """The network as it is deployed: of the evaluator's weights, or fresh ones where the search trains smaller ones."""
    if plan.searched is plan.space:
        return evaluator.network(indices)
    return fresh_network(plan.space, indices, seed=plan.config.seed).eval()


def _with_best_placement(problem: BudgetProblem, candidate: Candidate) -> Candidate:
    """The candidate where it runs best; any placement within the budgets was good enough to find it by."""
    indices = problem.with_best_placement(candidate.indices)
    if indices == candidate.indices:
        return candidate
    return replace(candidate, indices=indices, utilisation=max(problem.utilisation(indices).values()))


def _test(plan: Plan, network: nn.Module) -> Score:
    return score(network, plan.data, "test", images=None, batch_size=plan.config.trainer.step_images)


def _decision(derived: Derived) -> str:
    """What decided, and how each kind of evidence ranks the same candidates."""
    candidates = derived.candidates
    line = f"{derived.device}: {' and '.join(decided_by(candidates))} decided between {len(candidates)} networks"
    taus = ", ".join(f"{name} {tau:.2f}" for name, tau in agreement(candidates).items())
    return f"{line}; Kendall's tau of their order with {taus}" if taus else line


def _line(derived: Derived, *, is_proxy: bool) -> str:
    finished, proxy = derived.finished, "proxy " if is_proxy else ""
    trained_on = "" if finished.file is not None else proxy
    scores = {f"{proxy}inherited": derived.inherited, f"{proxy}random": derived.random}
    scores |= {f"{trained_on}finetuned": finished.finetuned, "deployed": finished.deployed}
    shown = ", ".join(f"{kind} {_shown(score)}" for kind, score in scores.items() if score is not None)
    used = max(derived.verdict.certificate.held.utilisation.values())
    return f"{derived.device}: {shown}, uses {used:.0%} of its binding budget"


def _shown(score: Score) -> str:
    balanced = "" if score.balanced_accuracy is None else f" (balanced {score.balanced_accuracy:.3f})"
    return f"{score.accuracy:.3f}{balanced}"
