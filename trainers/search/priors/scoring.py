"""Scores networks of a search before any training, more of them where they look best, and makes a prior of it."""

# Shapes: S scored networks, n decisions, N choices of all decisions.

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import torch
from torch import Tensor

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Indices
from trainers.runs.config import PriorConfig
from trainers.search.callbacks import Report
from trainers.search.distinct import Distinct
from trainers.search.phases import SCORING, Progress
from trainers.search.plan import Plan
from trainers.search.priors.fresh import PRIORS, Fresh
from trainers.search.priors.prior import Prior, fit_prior, sample, starting_logits

EXPLORED_SHARE = 0.1  # effective size of the pools in which networks to score next are looked for
POOL = 4096
LEADERS = 3  # networks of each device whose neighbours are scored


def make_prior(
    plan: Plan, config: PriorConfig, starts: Sequence[Survivors], report: Report, progress: Progress
) -> Prior:
    """A prior from networks within the budgets: first uniform ones, then in rounds those that it finds best itself."""
    progress.enter(SCORING)
    scorer, generator = Scorer(plan, config, progress), np.random.default_rng(plan.config.seed)
    per_round = 2 * config.networks_per_round * len(plan.problems)
    report(f"prior: scoring {config.networks} untrained networks, then up to {per_round} more {config.rounds} times")
    scorer.add(sample(plan.problems, starts, config.networks, generator), most=config.networks)
    for _ in range(config.rounds):
        prior = scorer.prior()
        for problem, start in zip(plan.problems, starts, strict=True):
            scorer.add(*_next(prior, problem, start, generator), most=config.networks_per_round)
    progress.end()
    prior = scorer.prior()
    scores = ", ".join(f"{name} {tau:.2f}" for name, tau in prior.agreement.items())
    report(
        f"prior: {len(prior.networks_Sn)} untrained networks scored; the model ranks those left out with tau "
        f"{prior.of_networks.tau:.2f}; tau of each score with the sum: {scores}"
    )
    return prior


class Scorer:
    """Different networks with their training-free scores, all on the same batches and initialised from the same seeds.

    A score is the mean over `repeats` of a batch and a seed.
    """

    def __init__(self, plan: Plan, config: PriorConfig, progress: Progress) -> None:
        self.progress = progress
        self.plan, self.weight = plan, config.weight
        self.scores = {name: PRIORS[name] for name in config.scores}
        batches = plan.data.batches(
            "weights", batch_size=config.batch_size, seed=plan.config.seed, epoch=0, augment=False
        )
        first = plan.config.seed
        seeds = [first, *np.random.default_rng(first).integers(2**32, size=config.repeats - 1).tolist()]
        self.draws = list(zip(seeds, cycle(batches), strict=False))
        self.distinct = Distinct(plan.space)
        self.rows: list[dict[str, float]] = []

    def add(self, *lists: Indices, most: int) -> None:
        """Scores the first of each list that are new, `most` of each at most."""
        for networks_Sn in lists:
            known = len(self.distinct.networks)
            self.distinct.add(networks_Sn, up_to=known + most)
            self.rows += [self._score(indices) for indices in self.distinct.networks[known:]]

    def prior(self) -> Prior:
        scores = {name: np.array([row[name] for row in self.rows]) for name in self.scores}
        return fit_prior(self.plan.space, np.array(self.distinct.networks), scores, weight=self.weight)

    def _score(self, indices: tuple[int, ...]) -> dict[str, float]:
        drawn = [self._fresh(indices, seed, *batch) for seed, batch in self.draws]
        found = {name: float(np.mean([score(fresh) for fresh in drawn])) for name, score in self.scores.items()}
        self.progress.advance()
        return found

    def _fresh(self, indices: tuple[int, ...], seed: int, inputs: Tensor, targets: Tensor) -> Fresh:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.plan.searched.network(self.plan.searched.choices(indices)).train()
        return Fresh(network, inputs, targets, self.plan.data.task)


def _next(
    prior: Prior, problem: BudgetProblem, start: Survivors, generator: np.random.Generator
) -> tuple[Indices, Indices]:
    """Networks of a device to score next, the most promising first: of a pool, and neighbours of the best scored."""
    logits_N = starting_logits(prior, [problem], [start], pool_share=EXPLORED_SHARE, generator=generator)
    chains = problem.chains(start.mask_N, generator)
    pool_Sn = chains.sweep(chains.start(logits_N, POOL, np.array([start.incumbent])), logits_N)
    near = [problem.table.rules.neighbours(leader, start.mask_N) for leader in prior.leaders(problem)[:LEADERS]]
    near_Sn = np.concatenate([pool_Sn[:0], *near])
    near_Sn = near_Sn[problem.is_feasible(near_Sn)]
    return _by_prediction(prior, pool_Sn), _by_prediction(prior, near_Sn)


def _by_prediction(prior: Prior, networks_Xn: Indices) -> Indices:
    if not len(networks_Xn):
        return networks_Xn
    return networks_Xn[np.argsort(-prior.predict(networks_Xn), kind="stable")]
