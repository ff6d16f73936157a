"""From what was trained to one certified network per device, with its accuracies and the random baseline's."""

# Shapes: N choices of all decisions.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array
from hardware_models.placement.placed_space import unplaced
from search_spaces.architecture import Architecture, architecture_of
from trainers.deploy.standalone import Score, fit, score
from trainers.search.candidates import Candidate, Request, random_candidates
from trainers.search.certificate import Certificate, Verdict, certify, verify_and_cut
from trainers.search.evaluation import Evaluator
from trainers.search.inherited import Inherited
from trainers.search.machines import machine_of
from trainers.search.module import SearchModule
from trainers.search.optimizers import make_optimizer, make_schedule
from trainers.search.plan import Plan
from trainers.search.search_state import SearchState
from trainers.search.searchers import Searcher
from trainers.search.strategy import make_part


@dataclass(frozen=True)
class Derived:
    """One device's network. Accuracies are shares of the test split; those of candidates, of the validation split.

    `supernet` has the batch-norm statistics of the supernet, `inherited` recalibrated ones, `finetuned` some more
    steps of training; `random` is `inherited` for the best of as many random feasible networks. Where no supernet gives
    weights, `finetuned` is trained from scratch and the others are none.
    """

    device: str
    architecture: Architecture
    network: nn.Module
    verdict: Verdict
    candidates: tuple[Candidate, ...]
    random_candidates: tuple[Candidate, ...]
    supernet: Score | None
    inherited: Score | None
    finetuned: Score
    random: Score | None


@dataclass(frozen=True)
class Found:
    """What a search knows when its training is over, and the parts that choose networks by it.

    `starts` are the choices of each device before any pruning; `module` trained the supernet, if there is one.
    """

    state: SearchState
    starts: Sequence[Survivors]
    module: SearchModule | None
    searcher: Searcher
    evaluator: Evaluator

    def logits_of(self, device: int) -> Array | None:
        return None if self.module is None else self.module.logits_of(device)


def derive(
    plan: Plan,
    state: SearchState,
    starts: Sequence[Survivors],
    module: SearchModule | None,
    report: Callable[[str], None],
) -> list[Derived]:
    """One network per device, in the order of the problems. `starts` are the choices before any pruning."""
    supernet = None if module is None else module.supernet
    evaluator = make_part(plan.strategy, "evaluator", plan, supernet)
    found = Found(state, starts, module, make_part(plan.strategy, "searcher"), evaluator)
    return [_derive(plan, found, device, report) for device in range(len(plan.problems))]


def _derive(plan: Plan, found: Found, device: int, report: Callable[[str], None]) -> Derived:
    problem, evaluator = plan.problems[device], found.evaluator
    num_random = plan.config.trainer.candidates
    report(f"{problem.name}: choosing its network by validation, beside {num_random} random ones")
    candidates, randoms = _candidates(plan, found, device)
    verdict = _verdict(plan, found, device, candidates)
    indices = verdict.candidate.indices
    network = evaluator.network(indices)
    before: dict[str, Score | None] = dict.fromkeys(("supernet", "inherited", "random"))
    if isinstance(evaluator, Inherited):
        before = {
            "supernet": _test(plan, evaluator.extract(indices)),
            "inherited": _test(plan, network),
            "random": _test(plan, evaluator.network(randoms[0].indices)),
        }
    _train(plan, network, from_scratch=not evaluator.needs_supernet)
    derived = Derived(
        device=problem.name,
        architecture=architecture_of(*unplaced(plan.space, plan.space.choices(indices))),
        network=network,
        verdict=verdict,
        candidates=tuple(candidates),
        random_candidates=tuple(randoms),
        finetuned=_test(plan, network),
        **before,
    )
    report(_line(derived))
    return derived


def _train(plan: Plan, network: nn.Module, *, from_scratch: bool) -> None:
    """Trains a network further; one that no supernet gave its weights gets all the steps that a supernet would get."""
    config, settings, weights = plan.config, plan.config.trainer, network.parameters()
    if from_scratch:
        steps, clip_norm = settings.steps, settings.clip_norm
        optimizer = make_optimizer(config.optimizer, "optimizer")(weights)
        schedule = make_schedule(config.schedule, steps=steps)(optimizer)
    else:
        steps, clip_norm = settings.finetune_steps, None
        optimizer = SGD(weights, lr=settings.finetune_lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
        schedule = CosineAnnealingLR(optimizer, max(1, steps))
    batches: dict[str, int] = {"batch_size": settings.batch_size, "seed": config.seed}
    fit(network, plan.data, optimizer, schedule, steps=steps, clip_norm=clip_norm, **batches)


def _candidates(plan: Plan, found: Found, device: int) -> tuple[list[Candidate], list[Candidate]]:
    """The validated networks of a device, each where it runs best, and as many random ones; best first."""
    problem, num_candidates = plan.problems[device], plan.config.trainer.candidates
    generator, evaluate = np.random.default_rng([plan.config.seed, device]), found.evaluator.validate
    randoms = random_candidates(
        problem, found.starts[device], evaluate, num_candidates=num_candidates, generator=generator
    )
    request = Request(
        problem,
        found.state.survivors[device],
        found.logits_of(device),
        evaluate,
        num_candidates=num_candidates,
        random_candidates=randoms,
        generator=generator,
    )
    candidates = found.searcher.search(request)
    return [_with_best_placement(problem, candidate) for candidate in candidates], randoms


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
            network, measure = evaluator.network(indices), problem.name in plan.measured
            return certify(problem, plan.space, network, indices, measure=measure, machine=machine)

        return verify_and_cut(problem, candidates, prove, fallback=fallback, max_cuts=max_cuts)


def _with_best_placement(problem: BudgetProblem, candidate: Candidate) -> Candidate:
    """The candidate where it runs best; any placement within the budgets was good enough to find it by."""
    indices = problem.with_best_placement(candidate.indices)
    if indices == candidate.indices:
        return candidate
    return replace(candidate, indices=indices, utilisation=max(problem.utilisation(indices).values()))


def _test(plan: Plan, network: nn.Module) -> Score:
    return score(network, plan.data, "test", images=None, batch_size=plan.config.trainer.batch_size)


def _line(derived: Derived) -> str:
    scores = {"inherited": derived.inherited, "finetuned": derived.finetuned, "random": derived.random}
    shown = ", ".join(f"{kind} {_shown(score)}" for kind, score in scores.items() if score is not None)
    used = max(derived.verdict.certificate.held.utilisation.values())
    return f"{derived.device}: {shown}, uses {used:.0%} of its binding budget"


def _shown(score: Score) -> str:
    balanced = "" if score.balanced_accuracy is None else f" (balanced {score.balanced_accuracy:.3f})"
    return f"{score.accuracy:.3f}{balanced}"
