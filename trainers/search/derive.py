"""From a trained supernet to one certified network per device, with its accuracies and the random baseline's."""

# Shapes: N choices of all decisions.

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array
from hardware_models.placement.placed_space import unplaced
from search_spaces.architecture import Architecture, architecture_of
from search_spaces.blocks import recalibrate
from search_spaces.space import Path
from trainers.search.candidates import Candidate, finalise, random_candidates
from trainers.search.certificate import Certificate, Verdict, certify, verify_and_cut
from trainers.search.evaluation import Score, finetune, first_images, score
from trainers.search.machines import machine_of
from trainers.search.module import SearchModule
from trainers.search.plan import Plan


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


class Evaluator:
    """Networks of a supernet scored on one protocol; each is validated once."""

    def __init__(self, plan: Plan, module: SearchModule) -> None:
        self.plan, self.module = plan, module
        self.settings = plan.config.trainer
        self.known: dict[tuple[int, ...], Score] = {}
        self.statistics = {name: buffer.clone() for name, buffer in module.supernet.named_buffers()}

    def validate(self, indices: tuple[int, ...]) -> Score:
        """Validation score with batch-norm statistics of the network's own, run inside the supernet."""
        own = indices[: self.plan.table.num_own]  # where it runs makes no difference
        if own not in self.known:
            network = Path(self.module.supernet, self.plan.space.selection(indices))
            self._recalibrate(network)
            images, batch_size = self.settings.validation_images, self.settings.batch_size
            self.known[own] = score(network, self.plan.data, "validation", images=images, batch_size=batch_size)
        return self.known[own]

    def extracted(self, indices: tuple[int, ...]) -> nn.Module:
        """The stand-alone network with inherited weights and the supernet's batch-norm statistics."""
        for name, buffer in self.module.supernet.named_buffers():
            buffer.copy_(self.statistics[name])
        network = self.module.supernet.extract(self.plan.space.choices(indices)).eval()
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def calibrated(self, indices: tuple[int, ...]) -> nn.Module:
        """The stand-alone network with inherited weights and batch-norm statistics of its own."""
        network = self.extracted(indices)
        self._recalibrate(network)
        return network

    def test(self, network: nn.Module) -> Score:
        return score(network, self.plan.data, "test", images=None, batch_size=self.settings.batch_size)

    def _recalibrate(self, network: nn.Module) -> None:
        images, batch_size = self.settings.recalibration_images, self.settings.batch_size
        seed = self.plan.config.seed
        batches = self.plan.data.batches("weights", batch_size=batch_size, seed=seed, epoch=0, augment=True)
        recalibrate(network, (x for x, _ in first_images(batches, images)))


def derive(
    plan: Plan, module: SearchModule, starts: Sequence[Survivors], report: Callable[[str], None]
) -> list[Derived]:
    """One network per device, in the order of the problems. `starts` are the choices before any pruning."""
    evaluator = Evaluator(plan, module)
    return [_derive(plan, module, evaluator, device, starts[device], report) for device in range(len(plan.problems))]


def _derive(
    plan: Plan,
    module: SearchModule,
    evaluator: Evaluator,
    device: int,
    start: Survivors,
    report: Callable[[str], None],
) -> Derived:
    problem, settings = plan.problems[device], plan.config.trainer
    report(f"{problem.name}: choosing its network by validation, beside {settings.candidates} random ones")
    candidates, randoms = _candidates(plan, module, evaluator, device, start)
    verdict = _verdict(plan, evaluator, problem, candidates, module.strategy.scores(device))
    indices = verdict.candidate.indices
    network = evaluator.calibrated(indices)
    inherited = evaluator.test(network)
    finetune(
        network,
        plan.data,
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
        supernet=evaluator.test(evaluator.extracted(indices)),
        inherited=inherited,
        finetuned=evaluator.test(network),
        random=evaluator.test(evaluator.calibrated(randoms[0].indices)),
    )
    report(_line(derived))
    return derived


def _candidates(
    plan: Plan, module: SearchModule, evaluator: Evaluator, device: int, start: Survivors
) -> tuple[list[Candidate], list[Candidate]]:
    """The validated networks of a device, each where it runs best, and as many random ones; best first."""
    problem, strategy, num_candidates = plan.problems[device], module.strategy, plan.config.trainer.candidates
    generator = np.random.default_rng([plan.config.seed, device])
    found = randoms = random_candidates(
        problem, start, evaluator.validate, num_candidates=num_candidates, generator=generator
    )
    if strategy.learns:
        found = finalise(
            problem,
            strategy.survivors[device],
            strategy.scores(device),
            evaluator.validate,
            num_candidates=num_candidates,
            generator=generator,
        )
    return [_with_best_placement(problem, candidate) for candidate in found], randoms


def _verdict(
    plan: Plan, evaluator: Evaluator, problem: BudgetProblem, candidates: Sequence[Candidate], scores_N: Array
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
            network, measure = evaluator.calibrated(indices), problem.name in plan.measured
            return certify(problem, plan.space, network, indices, measure=measure, machine=machine)

        return verify_and_cut(problem, candidates, prove, fallback=fallback, max_cuts=max_cuts)


def _with_best_placement(problem: BudgetProblem, candidate: Candidate) -> Candidate:
    """The candidate where it runs best; any placement within the budgets was good enough to find it by."""
    indices = problem.with_best_placement(candidate.indices)
    if indices == candidate.indices:
        return candidate
    return replace(candidate, indices=indices, utilisation=max(problem.utilisation(indices).values()))


def _line(derived: Derived) -> str:
    accuracy = f"inherited {derived.inherited.accuracy:.3f}, finetuned {derived.finetuned.accuracy:.3f}"
    used = max(derived.verdict.certificate.held.utilisation.values())
    return f"{derived.device}: {accuracy}, random {derived.random.accuracy:.3f}, uses {used:.0%} of its binding budget"
