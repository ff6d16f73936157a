"""Strategies: what they draw is feasible and alive, and their weights are those of the distribution they claim."""

# Shapes: S networks, n decisions, N choices of all decisions.

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from tiny_search import CONF, binding_problem, bound_factor, networks_of, small_problem, small_space
from torch import Tensor

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, CostTable, Indices, Mask
from hardware_models.budgets.pool import effective_size
from hardware_models.profile import load_profile
from search_spaces.errors import InvalidInputError
from trainers.architecture_parameters import ArchitectureParameters
from trainers.prepare import check_arguments
from trainers.strategies import STRATEGIES, Dual, Penalty, Pool, Random, Strategy

SPACE = small_space()
NETWORKS = networks_of(SPACE)
NUM_CHOICES = SPACE.num_choices
# Of a share estimated from a pool of 2,048: 0.5 / sqrt(2048) at most, five times over.
SAMPLING_ERROR = 0.056


@pytest.fixture(scope="module")
def problem() -> BudgetProblem:
    return binding_problem(SPACE)


def survivors_of(problem: BudgetProblem) -> Survivors:
    return problem.start()[0]


def make(kind: type[Strategy], problem: BudgetProblem, *, logits: Array | None = None, **arguments: Any) -> Strategy:
    """A strategy of one device over the small space, with these shared logits (N,)."""
    parameters = ArchitectureParameters(NUM_CHOICES, 1, offset_decay=0.0)
    if logits is not None:
        with torch.no_grad():
            parameters.shared.copy_(torch.from_numpy(logits))
    return kind([problem], [survivors_of(problem)], parameters, np.random.default_rng(0), **arguments)


def some_logits(scale: float = 1.0, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(scale=scale, size=NUM_CHOICES)


def columns(problem: BudgetProblem, networks_Sn: Indices) -> Indices:
    return networks_Sn + problem.table.first_choice[:-1]


def one_hot(problem: BudgetProblem, networks_Sn: Indices) -> Array:
    encoded_SN = np.zeros((len(networks_Sn), NUM_CHOICES))
    np.put_along_axis(encoded_SN, columns(problem, networks_Sn), 1.0, axis=1)
    return encoded_SN


def conditioned_marginals(problem: BudgetProblem, logits_N: Array, alive_N: Mask | None = None) -> Array:
    """Share (N,) of each choice under the softmax over networks within budget, summed network by network."""
    kept_S = problem.is_feasible(NETWORKS)
    if alive_N is not None:
        kept_S &= alive_N[columns(problem, NETWORKS)].all(axis=1)
    networks = NETWORKS[kept_S]
    weights_S = np.exp(logits_N[columns(problem, networks)].sum(axis=1))
    return weights_S / weights_S.sum() @ one_hot(problem, networks)


def without(problem: BudgetProblem, survivors: Survivors, decision: str, choice: int) -> Survivors:
    """The same survivors without one choice, the witness a network that lacks it."""
    mask_N = survivors.mask_N.copy()
    place = [d.name for d in SPACE.decisions].index(decision)
    mask_N[problem.table.first_choice[place] + choice] = False
    fitting = NETWORKS[problem.is_feasible(NETWORKS) & mask_N[columns(problem, NETWORKS)].all(axis=1)]
    return Survivors(mask_N, tuple(int(k) for k in fitting[0]))


def softmax_blocks(problem: BudgetProblem, logits_N: Array) -> Array:
    starts = problem.table.first_choice
    blocks = [np.exp(logits_N[a:b]) / np.exp(logits_N[a:b]).sum() for a, b in pairwise(starts)]
    return np.concatenate(blocks)


def sharpen(strategy: Strategy, logits_N: Array) -> None:
    with torch.no_grad():
        strategy.parameters.shared.copy_(torch.from_numpy(logits_N))


every = pytest.mark.parametrize("kind", STRATEGIES.values(), ids=STRATEGIES)
pools = pytest.mark.parametrize("kind", [Pool, Random])


def test_the_budget_of_these_tests_cuts_the_space_in_two(problem: BudgetProblem) -> None:
    assert 16 < problem.is_feasible(NETWORKS).sum() < 48


@every
def test_weights_sum_to_one_over_each_decision(kind: type[Strategy], problem: BudgetProblem) -> None:
    weights_N = make(kind, problem, logits=some_logits(2)).weights(0)
    starts = problem.table.first_choice
    for a, b in pairwise(starts):
        assert float(weights_N[a:b].detach().sum()) == pytest.approx(1, abs=1e-5)  # float32
    assert weights_N.detach().min() >= 0


@every
def test_after_restrict_only_living_choices_are_drawn_and_weighted(
    kind: type[Strategy], problem: BudgetProblem
) -> None:
    strategy = make(kind, problem, logits=some_logits(2))
    survivors = without(problem, survivors_of(problem), "stage2.width", 0)
    strategy.restrict(0, survivors)
    assert strategy.weights(0).detach().numpy()[~survivors.mask_N] == pytest.approx(0, abs=1e-12)
    drawn = np.array([strategy.path(0) for _ in range(100)])
    assert survivors.mask_N[columns(problem, drawn)].all()


@pools
def test_every_path_is_within_budget_while_the_logits_move(kind: type[Strategy], problem: BudgetProblem) -> None:
    strategy = make(kind, problem, pool_size=64)
    drawn = []
    for scale in (0.0, 1.0, 5.0, 20.0):
        sharpen(strategy, some_logits(scale))
        drawn += [strategy.path(0) for _ in range(50)]
    assert problem.is_feasible(np.array(drawn)).all()


def test_pool_weights_lie_in_the_convex_hull_of_the_networks_within_budget(problem: BudgetProblem) -> None:
    weights_N = make(Pool, problem, logits=some_logits(3), pool_size=256).weights(0).detach().double().numpy()
    vertices = one_hot(problem, NETWORKS[problem.is_feasible(NETWORKS)])
    # The least distance, in the largest entry, of a mixture of the vertices from the weights.
    num = len(vertices)
    rows = np.vstack([np.hstack([sign * vertices.T, -np.ones((NUM_CHOICES, 1))]) for sign in (1, -1)])
    found = linprog(
        np.append(np.zeros(num), 1.0),
        A_ub=rows,
        b_ub=np.concatenate([weights_N, -weights_N]),
        A_eq=np.append(np.ones(num), 0.0)[None],
        b_eq=[1.0],
    )
    assert found.fun < 1e-6  # weights are float32


def test_independent_weights_of_the_same_logits_lie_outside_of_that_hull(problem: BudgetProblem) -> None:
    large = np.zeros(NUM_CHOICES)
    large[problem.table.first_choice[1:] - 1] = 20.0
    within = conditioned_marginals(problem, large)
    independent = make(Penalty, problem, logits=large).weights(0).detach().double().numpy()
    pool = make(Pool, problem, logits=large, pool_size=2048).weights(0).detach().double().numpy()
    assert np.abs(independent - within).max() > 0.3
    assert pool == pytest.approx(within, abs=SAMPLING_ERROR)


# Sharper logits can leave modes that one decision at a time does not join: those marginals are not claimed.
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_pool_weights_are_the_marginals_conditioned_on_the_budget(problem: BudgetProblem, scale: float) -> None:
    logits = some_logits(scale)
    strategy = make(Pool, problem, logits=logits, pool_size=2048)
    assert strategy.weights(0).detach().numpy() == pytest.approx(
        conditioned_marginals(problem, logits), abs=SAMPLING_ERROR
    )


def test_random_draws_networks_within_budget_uniformly(problem: BudgetProblem) -> None:
    strategy = make(Random, problem, pool_size=2048)
    drawn = np.array([strategy.path(0) for _ in range(2048)])
    uniform = conditioned_marginals(problem, np.zeros(NUM_CHOICES))
    # Drawn with replacement from a pool that is itself a sample: twice the variance.
    assert one_hot(problem, drawn).mean(axis=0) == pytest.approx(uniform, abs=SAMPLING_ERROR * 1.5)


def test_random_neither_learns_nor_prunes() -> None:
    assert not Random.learns
    assert not Random.prunes


def test_the_pools_gradient_is_that_of_its_softmax_marginals(problem: BudgetProblem) -> None:
    strategy = make(Pool, problem, pool_size=512)
    assert isinstance(strategy, Pool)
    direction = torch.from_numpy(some_logits(seed=5)).float()
    parameters = strategy.parameters
    (strategy.weights(0) @ direction).backward()
    # By hand: the derivative of an expectation under a softmax is a covariance. All weights are equal here.
    encoded = one_hot(problem, strategy.networks[0])
    values_S = encoded @ direction.double().numpy()
    covariance_N = ((values_S - values_S.mean())[:, None] * encoded).mean(axis=0)
    assert parameters.shared.grad is not None
    assert parameters.shared.grad.numpy() == pytest.approx(covariance_N, abs=1e-5)
    assert parameters.offsets.grad is not None
    assert parameters.offsets.grad[0].numpy() == pytest.approx(covariance_N, abs=1e-5)


def test_the_pools_gradient_is_a_finite_difference_of_its_weights(problem: BudgetProblem) -> None:
    logits, step = some_logits(0.3), 0.02
    strategy = make(Pool, problem, pool_size=512)
    sharpen(strategy, logits)  # away from the logits that the pool was drawn with
    direction = torch.from_numpy(some_logits(seed=5)).float()

    def value() -> Tensor:
        return strategy.weights(0) @ direction

    value().backward()
    assert strategy.parameters.shared.grad is not None
    for choice in range(0, NUM_CHOICES, 3):
        nudge = np.eye(NUM_CHOICES)[choice] * step
        sharpen(strategy, logits + nudge)
        above = float(value().detach())
        sharpen(strategy, logits - nudge)
        difference = (above - float(value().detach())) / (2 * step)
        # step^2 times a third derivative, and float32 over the step.
        assert float(strategy.parameters.shared.grad[choice]) == pytest.approx(difference, abs=1e-3)


def test_weights_agree_before_and_after_a_refresh(problem: BudgetProblem) -> None:
    strategy = make(Pool, problem, pool_size=2048)
    assert isinstance(strategy, Pool)
    logits = some_logits(1.2)
    sharpen(strategy, logits)
    before, networks = strategy.weights(0).detach().numpy(), strategy.networks[0]
    log_weights = logits[columns(problem, networks)].sum(axis=1)
    assert effective_size(log_weights) < 1024  # worn out: the next path refreshes it
    strategy.path(0)
    assert strategy.networks[0] is not networks
    after = strategy.weights(0).detach().numpy()
    exact = conditioned_marginals(problem, logits)
    assert after == pytest.approx(exact, abs=SAMPLING_ERROR)
    # Fewer networks carried the weight before: the error grows as the root of their number falls.
    assert before == pytest.approx(exact, abs=SAMPLING_ERROR * (2048 / effective_size(log_weights)) ** 0.5)


def test_a_pool_of_which_no_network_is_alive_is_drawn_anew(problem: BudgetProblem) -> None:
    strategy = make(Pool, problem, logits=np.where(np.arange(NUM_CHOICES) % 2, -30.0, 0.0), pool_size=32)
    assert isinstance(strategy, Pool)
    fitting = NETWORKS[problem.is_feasible(NETWORKS)]
    present = {tuple(network) for network in strategy.networks[0].tolist()}
    other = next(network for network in fitting if tuple(network.tolist()) not in present)
    mask_N = np.zeros(NUM_CHOICES, dtype=bool)
    mask_N[columns(problem, other[None])[0]] = True
    strategy.restrict(0, Survivors(mask_N, tuple(int(k) for k in other)))
    assert (strategy.networks[0] == other).all()


@pytest.mark.parametrize("kind", [Penalty, Dual])
def test_independent_weights_are_the_softmax_of_each_decision(kind: type[Strategy], problem: BudgetProblem) -> None:
    logits = some_logits(2)
    weights_N = make(kind, problem, logits=logits).weights(0).detach().numpy()
    assert weights_N == pytest.approx(softmax_blocks(problem, logits), abs=1e-6)


def expected_gflops(problem: BudgetProblem, weights_N: Array) -> float:
    """Mean over all networks, decisions drawn independently, of the operations that they declare."""
    probability_S = weights_N[columns(problem, NETWORKS)].prod(axis=1)
    gflops_S = [sum(op.macs for op in SPACE.operations(SPACE.choices(network))) / 1e9 for network in NETWORKS]
    return float(probability_S @ gflops_S)


def test_the_penalty_is_strength_times_expected_cost_over_budget(problem: BudgetProblem) -> None:
    logits = some_logits(1)
    strategy = make(Penalty, problem, logits=logits, strength=0.5)
    share = expected_gflops(problem, softmax_blocks(problem, logits)) / problem.limits["gflops"]
    assert float(strategy.penalty(0, strategy.weights(0)).detach()) == pytest.approx(0.5 * (share - 1), rel=1e-4)


def test_a_step_against_the_penaltys_gradient_lowers_the_expected_cost(problem: BudgetProblem) -> None:
    logits = some_logits(1)
    strategy = make(Penalty, problem, logits=logits)
    strategy.penalty(0, strategy.weights(0)).backward()
    gradient = strategy.parameters.shared.grad
    assert gradient is not None
    lower = logits - gradient.double().numpy()
    before, after = (expected_gflops(problem, softmax_blocks(problem, each)) for each in (logits, lower))
    assert after < before


def test_each_budget_has_its_own_share_of_the_penalty() -> None:
    problem = small_problem(SPACE, {"latency_ms": 9.0, "gflops": 0.002})
    strategy = make(Penalty, problem, strength=1.0)
    weights_N = softmax_blocks(problem, np.zeros(NUM_CHOICES))
    costs_M = problem.table.expected(torch.from_numpy(weights_N))[0].numpy()
    # Latency is budgeted at the profile's bound, a factor on the estimate.
    by_hand = costs_M[0] * bound_factor("mid_tablet") / 9.0 - 1 + costs_M[1] / 0.002 - 1
    assert float(strategy.penalty(0, strategy.weights(0)).detach()) == pytest.approx(by_hand, rel=1e-4)


def dual_at(problem: BudgetProblem, logits: Array, step_size: float) -> tuple[Dual, Callable[[], float], float]:
    """A dual strategy, a step of it that returns its multiplier, and the expected overshoot, by hand."""
    strategy = make(Dual, problem, logits=logits, step_size=step_size)
    assert isinstance(strategy, Dual)

    def step() -> float:
        strategy.penalty(0, strategy.weights(0))
        return float(strategy.multipliers[0][0])

    overshoot = expected_gflops(problem, softmax_blocks(problem, logits)) / problem.limits["gflops"] - 1
    return strategy, step, overshoot


def extreme_logits(problem: BudgetProblem, *, largest: bool) -> Array:
    logits = np.zeros(NUM_CHOICES)
    logits[problem.table.first_choice[1:] - 1] = 5.0 if largest else -5.0
    return logits


def test_dual_multipliers_rise_by_the_overshoot_while_the_expected_cost_exceeds_the_budget(
    problem: BudgetProblem,
) -> None:
    _, step, overshoot = dual_at(problem, extreme_logits(problem, largest=True), step_size=0.5)
    assert overshoot > 0
    assert [step(), step(), step()] == pytest.approx([0.5 * overshoot * k for k in (1, 2, 3)], rel=1e-3)


def test_dual_multipliers_fall_while_the_expected_cost_is_within_budget_and_never_below_zero(
    problem: BudgetProblem,
) -> None:
    strategy, step, overshoot = dual_at(problem, extreme_logits(problem, largest=False), step_size=0.5)
    assert overshoot < 0
    strategy.multipliers[0] += 1.5 * 0.5 * -overshoot
    assert [step(), step(), step()] == pytest.approx([0.5 * 0.5 * -overshoot, 0, 0], rel=1e-3)


def test_devices_have_multipliers_and_logits_of_their_own(problem: BudgetProblem) -> None:
    parameters = ArchitectureParameters(NUM_CHOICES, 2, offset_decay=0.0)
    profiles = [load_profile(CONF / "hardware" / f"{name}.yaml") for name in ("mid_tablet", "iot_terminal")]
    table = CostTable(SPACE, profiles)
    problems = [BudgetProblem(table, profile.name, problem.limits) for profile in profiles]
    starts = [survivors_of(each) for each in problems]
    strategy = Dual(problems, starts, parameters, np.random.default_rng(0))
    with torch.no_grad():
        parameters.offsets[1] += torch.from_numpy(extreme_logits(problem, largest=True))
        parameters.offsets[0] += torch.from_numpy(extreme_logits(problem, largest=False))
    for device in (0, 1):
        strategy.penalty(device, strategy.weights(device))
    assert float(strategy.multipliers[0][0]) == 0
    assert float(strategy.multipliers[1][0]) > 0


@pools
def test_there_is_no_penalty_where_the_budget_is_a_condition(kind: type[Strategy], problem: BudgetProblem) -> None:
    strategy = make(kind, problem, pool_size=32)
    assert float(strategy.penalty(0, strategy.weights(0))) == 0


@every
def test_scores_are_the_devices_logits(kind: type[Strategy], problem: BudgetProblem) -> None:
    logits = some_logits()
    strategy = make(kind, problem, logits=logits)
    with torch.no_grad():
        strategy.parameters.offsets[0, 2] = 4.0
    assert strategy.scores(0) == pytest.approx(logits + 4.0 * np.eye(NUM_CHOICES)[2], abs=1e-6)


@every
def test_the_same_generator_draws_the_same_paths(kind: type[Strategy], problem: BudgetProblem) -> None:
    first, second = make(kind, problem, logits=some_logits()), make(kind, problem, logits=some_logits())
    assert [first.path(0) for _ in range(20)] == [second.path(0) for _ in range(20)]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Pool, {"pool_size": 15}),
        (Penalty, {"strength": -0.1}),
        (Penalty, {"strength": float("nan")}),
        (Dual, {"step_size": 0.0}),
        (Dual, {"step_size": float("nan")}),
    ],
)
def test_an_argument_out_of_range_is_an_error_that_names_its_key(
    kind: type[Strategy], arguments: dict[str, Any]
) -> None:
    [name] = [name for name, each in STRATEGIES.items() if each is kind]
    with pytest.raises(InvalidInputError, match=rf"strategy\.{next(iter(arguments))}: got"):
        check_arguments("strategy", STRATEGIES, {"name": name, **arguments}, given=frozenset())
