"""What training-free scores say before any training: a number for every network, and logits to start from."""

# Shapes: S scored networks, X other networks, n decisions, N choices of all decisions, F features.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau, rankdata

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, Indices
from hardware_models.budgets.pool import effective_size
from search_spaces.space import SearchSpace
from trainers.search.distinct import Distinct
from trainers.search.priors.ridge import Ridge, fit_ridge

POOL = 1024  # networks that the scale of the logits is set on
STRONGEST = 64.0  # of the factors that logits are scaled by, per deviation of the combined score
HALVINGS = 40


@dataclass(frozen=True)
class Prior:
    """Training-free scores (S,) of some networks (S, n), and two models of the sum of the logarithms of their ranks.

    `of_networks` reads all features of a network, `of_choices` its choices alone: its weights are those of the logits.
    `weight` is its say beside the evidence of an evaluator.
    """

    space: SearchSpace
    networks_Sn: Indices
    scores: Mapping[str, Array]
    combined_S: Array
    of_networks: Ridge
    of_choices: Ridge
    weight: float

    def predict(self, networks_Xn: Indices) -> Array:
        """The combined score (X,) of any networks, as the model has it."""
        return self.of_networks.predict(features(self.space, networks_Xn))

    def values(self, networks_Xn: Sequence[Sequence[int]]) -> Array:
        """The combined score (X,) of any networks, of those that were not scored as the model has it."""
        known = {tuple(row): score for row, score in zip(self.networks_Sn.tolist(), self.combined_S, strict=True)}
        predicted_X = self.predict(np.array(networks_Xn))
        pairs = zip(networks_Xn, predicted_X, strict=True)
        return np.array([known.get(tuple(row), value) for row, value in pairs])

    def best_scored(self, problem: BudgetProblem) -> list[tuple[int, ...]]:
        """The scored networks within the budgets of a device, best first."""
        return self._within(problem, self.combined_S)

    def leaders(self, problem: BudgetProblem) -> list[tuple[int, ...]]:
        """The same by the mean of score and model, best first: near these it pays to look for more.

        The highest scores alone would lead to where the noise of scores is highest.
        """
        return self._within(problem, self.combined_S + self.predict(self.networks_Sn))

    def _within(self, problem: BudgetProblem, values_S: Array) -> list[tuple[int, ...]]:
        feasible_S = problem.is_feasible(self.networks_Sn)
        best_first = np.argsort(-values_S[feasible_S], kind="stable")
        return [tuple(row) for row in self.networks_Sn[feasible_S][best_first].tolist()]

    @property
    def choice_scores_N(self) -> Array:
        """What each choice adds to the combined score, (N,)."""
        weights_N: Array = self.of_choices.weights_F / self.of_choices.scale_F
        return weights_N

    @property
    def agreement(self) -> dict[str, float]:
        """Kendall's tau of each score with the sum of all."""
        return {name: float(kendalltau(score_S, self.combined_S).statistic) for name, score_S in self.scores.items()}


def fit_prior(space: SearchSpace, networks_Sn: Indices, scores: Mapping[str, Array], *, weight: float = 1.0) -> Prior:
    """Combines scores (S,) of networks (S, n) and carries them to the whole space."""
    combined_S = combined(scores)
    return Prior(
        space,
        networks_Sn,
        scores,
        combined_S,
        fit_ridge(features(space, networks_Sn), combined_S),
        fit_ridge(one_hot(space, networks_Sn), combined_S),
        weight,
    )


def combined(scores: Mapping[str, Array]) -> Array:
    """Sum over the scores of the logarithm of each network's rank, (S,), as share of their number.

    The worst is far down and the best are close together. Source: AZ-NAS, arXiv:2403.19232, eq. 9.
    """
    return np.sum([np.log(rankdata(score_S) / len(score_S)) for score_S in scores.values()], axis=0)


def features(space: SearchSpace, networks_Xn: Indices) -> Array:
    """What the space tells of each network, (X, F)."""
    return np.array([space.features(space.choices(network)) for network in networks_Xn], dtype=float)


def one_hot(space: SearchSpace, networks_Xn: Indices) -> Array:
    """The choices of each network, (X, N)."""
    sizes = [len(decision.choices) for decision in space.decisions]
    starts = np.cumsum([0, *sizes[:-1]])
    encoded_XN = np.zeros((len(networks_Xn), sum(sizes)))
    np.put_along_axis(encoded_XN, networks_Xn + starts, 1.0, axis=1)
    return encoded_XN


def sample(
    problems: Sequence[BudgetProblem], starts: Sequence[Survivors], size: int, generator: np.random.Generator
) -> Indices:
    """Different networks (S, n), S at most `size`, in turn uniform over those within the budgets of each device."""
    space = problems[0].table.space
    nothing_N = np.zeros(space.num_choices)
    pools = []
    for problem, start in zip(problems, starts, strict=True):
        chains = problem.chains(start.mask_N, generator)
        networks = chains.start(nothing_N, 2 * size, np.array([start.incumbent]))
        pools.append(chains.sweep(networks, nothing_N))
    chosen = Distinct(space)
    chosen.add(np.stack(pools, axis=1).reshape(-1, len(space.decisions)), up_to=size)
    return np.array(chosen.networks)


def starting_logits(
    prior: Prior,
    problems: Sequence[BudgetProblem],
    starts: Sequence[Survivors],
    *,
    pool_share: float,
    generator: np.random.Generator,
) -> Array:
    """Logits (N,) in proportion to the prior's choices, so strong that a pool keeps a share of its effective size.

    It is the mean of the devices' pools, uniform over the networks within budget, that keeps it.
    """
    scores_N, nothing_N = prior.choice_scores_N, np.zeros(prior.space.num_choices)
    sums = []
    for problem, start in zip(problems, starts, strict=True):
        chains = problem.chains(start.mask_N, generator)
        networks = chains.sweep(chains.start(nothing_N, POOL, np.array([start.incumbent])), nothing_N)
        sums.append(scores_N[networks + problem.table.first_choice[:-1]].sum(axis=1))

    def share(strength: float) -> float:
        return float(np.mean([effective_size(strength * sum_S) / POOL for sum_S in sums]))

    return _largest(share, pool_share) * scores_N


def _largest(share: Callable[[float], float], least: float) -> float:
    """The largest strength, up to STRONGEST, at which the share, which falls, is at least so much."""
    low, high = 0.0, STRONGEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) >= least else (low, middle)
    return low
