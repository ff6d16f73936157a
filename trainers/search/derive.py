"""From a trained supernet to one certified network per device, with its accuracies and the random baseline's."""

# Shapes: N choices of all decisions.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array
from hardware_models.placement.placed_space import unplaced
from search_spaces.architecture import Architecture, architecture_of
from trainers.search.candidates import Candidate, random_candidates
from trainers.search.certificate import Certificate, Verdict, certify, verify_and_cut
from trainers.search.evaluation import Score, finetune, score
from trainers.search.inherited import Inherited
from trainers.search.machines import machine_of
from trainers.search.module import SearchModule
from trainers.search.plan import Plan
from trainers.search.searchers import Request


@dataclass(frozen=True)
class Derived:
    """One device's network. Accuracies are shares of the test split; those of candidates, of the validation split.

    `supernet` has the batch-norm statistics of the supernet, `inherited` recalibrated ones, `finetuned` some more
    steps of training; `random` is `inherited` for the best of as many random feasible networks.
    """

    device: str
    architecture: Architecture
    network: nn.Module
    verdict: Verdict
    candidates: tuple[Candidate, ...]
    random_candidates: tuple[Candidate, ...]
    supernet: Score
    inherited: Score
    finetuned: Score
    random: Score


def derive(
    plan: Plan, module: SearchModule, starts: Sequence[Survivors], report: Callable[[str], None]
) -> list[Derived]:
    """One network per device, in the order of the problems. `starts` are the choices before any pruning."""
    evaluator = Inherited(plan, module.supernet)
    return [_derive(plan, module, evaluator, device, starts[device], report) for device in range(len(plan.problems))]


def _derive(
    plan: Plan,
    module: SearchModule,
    evaluator: Inherited,
    device: int,
    start: Survivors,
    report: Callable[[str], None],
) -> Derived:
    problem, settings = plan.problems[device], plan.config.trainer
    report(f"{problem.name}: choosing its network by validation, beside {settings.candidates} random ones")
    candidates, randoms = _candidates(plan, module, evaluator, device, start)
    verdict = _verdict(plan, evaluator, problem, candidates, module.logits_of(device))
    indices = verdict.candidate.indices
    network = evaluator.network(indices)
    inherited = _test(plan, network)
    finetune(
        network,
        plan.data,
        task=plan.task,
        steps=settings.finetune_steps,
        lr=settings.finetune_lr,
        batch_size=settings.batch_size,
        seed=plan.config.seed,
    )
    derived = Derived(
        device=problem.name,
        architecture=architecture_of(*unplaced(plan.space, plan.space.choices(indices))),
        network=network,
        verdict=verdict,
        candidates=tuple(candidates),
        random_candidates=tuple(randoms),
        supernet=_test(plan, evaluator.extract(indices)),
        inherited=inherited,
        finetuned=_test(plan, network),
        random=_test(plan, evaluator.network(randoms[0].indices)),
    )
    report(_line(derived))
    return derived


def _candidates(
    plan: Plan, module: SearchModule, evaluator: Inherited, device: int, start: Survivors
) -> tuple[list[Candidate], list[Candidate]]:
    """The validated networks of a device, each where it runs best, and as many random ones; best first."""
    problem, num_candidates = plan.problems[device], plan.config.trainer.candidates
    generator = np.random.default_rng([plan.config.seed, device])
    randoms = random_candidates(problem, start, evaluator.validate, num_candidates=num_candidates, generator=generator)
    found = module.strategy.searcher.search(
        Request(
            problem,
            module.state.survivors[device],
            module.logits_of(device),
            evaluator.validate,
            num_candidates=num_candidates,
            random_candidates=randoms,
            generator=generator,
        )
    )
    return [_with_best_placement(problem, candidate) for candidate in found], randoms


def _verdict(
    plan: Plan, evaluator: Inherited, problem: BudgetProblem, candidates: Sequence[Candidate], scores_N: Array
) -> Verdict:
    """The first candidate that its certificate does not refute; after the last, the best-scored of all others."""
    num_own, max_cuts = plan.table.num_own, plan.config.trainer.max_cuts

    def fallback(tightened: BudgetProblem, refuted: Sequence[tuple[int, ...]]) -> Candidate | None:
        tried = [indices[:num_own] for indices in refuted]  # one that was refuted is so wherever it is placed
        found = tightened.select(scores_N, forbidden=tried) or problem.tightest()
        if found.indices[:num_own] in tried:
            return None
        utilisation = max(problem.utilisation(found.indices).values())
        return _with_best_placement(problem, Candidate(found.indices, utilisation, evaluator.validate(found.indices)))

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
    return score(network, plan.data, "test", task=plan.task, images=None, batch_size=plan.config.trainer.batch_size)


def _line(derived: Derived) -> str:
    accuracy = f"inherited {derived.inherited.accuracy:.3f}, finetuned {derived.finetuned.accuracy:.3f}"
    used = max(derived.verdict.certificate.held.utilisation.values())
    return f"{derived.device}: {accuracy}, random {derived.random.accuracy:.3f}, uses {used:.0%} of its binding budget"
