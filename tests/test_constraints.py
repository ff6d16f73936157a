"""Constraints: what they draw is feasible and active, and probabilities are those of the distribution they claim."""

# Shapes: S networks, n decisions, N choices of all decisions.

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from small_constraints import (
    NETWORKS,
    NUM_CHOICES,
    SPACE,
    columns,
    make,
    softmax_blocks,
    some_logits,
    survivors_of,
)
from tiny_search import binding_problem
from torch import Tensor

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import Array, Indices, Mask
from hardware_models.budgets.pool import effective_size
from search_spaces.errors import InvalidInputError
from trainers.runs.validation import check_arguments
from trainers.search.constraints.conditioning import Pool
from trainers.search.constraints.constraint import CONSTRAINTS, Constraint
from trainers.search.constraints.dual import Dual
from trainers.search.constraints.penalty import Penalty

# Of a share estimated from a pool of 2,048: 0.5 / sqrt(2048) at most, five times over.
SAMPLING_ERROR = 0.056


@pytest.fixture(scope="module")
def problem() -> BudgetProblem:
    return binding_problem(SPACE)


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
    """The same survivors without one choice, the incumbent a network that lacks it."""
    mask_N = survivors.mask_N.copy()
    place = [d.name for d in SPACE.decisions].index(decision)
    mask_N[problem.table.first_choice[place] + choice] = False
    fitting = NETWORKS[problem.is_feasible(NETWORKS) & mask_N[columns(problem, NETWORKS)].all(axis=1)]
    return Survivors(mask_N, tuple(int(k) for k in fitting[0]))


def sharpen(constraint: Constraint, logits_N: Array) -> None:
    with torch.no_grad():
        constraint.logits.shared.copy_(torch.from_numpy(logits_N))


every = pytest.mark.parametrize("kind", [Constraint, *CONSTRAINTS.values()], ids=["none", *CONSTRAINTS])


def test_the_budget_of_these_tests_cuts_the_space_in_two(problem: BudgetProblem) -> None:
    assert 16 < problem.is_feasible(NETWORKS).sum() < 48


@every
def test_weights_sum_to_one_over_each_decision(kind: type[Constraint], problem: BudgetProblem) -> None:
    weights_N = make(kind, problem, logits=some_logits(2)).probabilities(0)
    starts = problem.table.first_choice
    for a, b in pairwise(starts):
        assert float(weights_N[a:b].detach().sum()) == pytest.approx(1, abs=1e-5)  # float32
    assert weights_N.detach().min() >= 0


@every
def test_after_restrict_only_living_choices_are_drawn_and_weighted(
    kind: type[Constraint], problem: BudgetProblem
) -> None:
    constraint = make(kind, problem, logits=some_logits(2))
    survivors = without(problem, survivors_of(problem), "stage2.width", 0)
    constraint.search.survivors[0] = survivors
    constraint.restrict(0)
    assert constraint.probabilities(0).detach().numpy()[~survivors.mask_N] == pytest.approx(0, abs=1e-12)
    drawn = np.array([constraint.draw(0) for _ in range(100)])
    assert survivors.mask_N[columns(problem, drawn)].all()


def test_every_drawn_network_of_a_pool_is_within_budget_while_the_logits_move(problem: BudgetProblem) -> None:
    constraint = make(Pool, problem, pool_size=64)
    drawn = []
    for scale in (0.0, 1.0, 5.0, 20.0):
        sharpen(constraint, some_logits(scale))
        drawn += [constraint.draw(0) for _ in range(50)]
    assert problem.is_feasible(np.array(drawn)).all()


def test_pool_weights_lie_in_the_convex_hull_of_the_networks_within_budget(problem: BudgetProblem) -> None:
    weights_N = make(Pool, problem, logits=some_logits(3), pool_size=256).probabilities(0).detach().double().numpy()
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
    independent = make(Penalty, problem, logits=large).probabilities(0).detach().double().numpy()
    pool = make(Pool, problem, logits=large, pool_size=2048).probabilities(0).detach().double().numpy()
    assert np.abs(independent - within).max() > 0.3
    assert pool == pytest.approx(within, abs=SAMPLING_ERROR)


# Logits that are sharper, or favour two modes, can leave ones that one decision at a time does not join: not claimed.
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_pool_weights_are_the_marginals_conditioned_on_the_budget(problem: BudgetProblem, scale: float) -> None:
    logits = scale * np.sin(np.arange(NUM_CHOICES))
    constraint = make(Pool, problem, logits=logits, pool_size=2048)
    assert constraint.probabilities(0).detach().numpy() == pytest.approx(
        conditioned_marginals(problem, logits), abs=SAMPLING_ERROR
    )


def test_flat_logits_draw_networks_within_budget_uniformly(problem: BudgetProblem) -> None:
    constraint = make(Pool, problem, pool_size=2048)
    drawn = np.array([constraint.draw(0) for _ in range(2048)])
    uniform = conditioned_marginals(problem, np.zeros(NUM_CHOICES))
    # Drawn with replacement from a pool that is itself a sample: twice the variance.
    assert one_hot(problem, drawn).mean(axis=0) == pytest.approx(uniform, abs=SAMPLING_ERROR * 1.5)


def test_the_pools_gradient_is_that_of_its_softmax_marginals(problem: BudgetProblem) -> None:
    constraint = make(Pool, problem, pool_size=512)
    direction = torch.from_numpy(some_logits(seed=5)).float()
    parameters = constraint.logits
    (constraint.probabilities(0) @ direction).backward()
    # By hand: the derivative of an expectation under a softmax is a covariance. All weights are equal here.
    encoded = one_hot(problem, constraint.networks[0])
    values_S = encoded @ direction.double().numpy()
    covariance_N = ((values_S - values_S.mean())[:, None] * encoded).mean(axis=0)
    assert parameters.shared.grad is not None
    assert parameters.shared.grad.numpy() == pytest.approx(covariance_N, abs=1e-5)
    assert parameters.offsets.grad is not None
    assert parameters.offsets.grad[0].numpy() == pytest.approx(covariance_N, abs=1e-5)


def test_the_pools_gradient_is_a_finite_difference_of_its_weights(problem: BudgetProblem) -> None:
    logits, step = some_logits(0.3), 0.02
    constraint = make(Pool, problem, pool_size=512)
    sharpen(constraint, logits)  # away from the logits that the pool was drawn with
    direction = torch.from_numpy(some_logits(seed=5)).float()

    def value() -> Tensor:
        return constraint.probabilities(0) @ direction

    value().backward()
    assert constraint.logits.shared.grad is not None
    for choice in range(0, NUM_CHOICES, 3):
        nudge = np.eye(NUM_CHOICES)[choice] * step
        sharpen(constraint, logits + nudge)
        above = float(value().detach())
        sharpen(constraint, logits - nudge)
        difference = (above - float(value().detach())) / (2 * step)
        # step^2 times a third derivative, and float32 over the step.
        assert float(constraint.logits.shared.grad[choice]) == pytest.approx(difference, abs=1e-3)


def test_weights_agree_before_and_after_a_refresh(problem: BudgetProblem) -> None:
    constraint = make(Pool, problem, pool_size=2048)
    logits = some_logits(1.2)
    sharpen(constraint, logits)
    before, networks = constraint.probabilities(0).detach().numpy(), constraint.networks[0]
    log_weights = logits[columns(problem, networks)].sum(axis=1)
    assert effective_size(log_weights) < 1024  # worn out: the next path refreshes it
    constraint.draw(0)
    assert constraint.networks[0] is not networks
    after = constraint.probabilities(0).detach().numpy()
    exact = conditioned_marginals(problem, logits)
    assert after == pytest.approx(exact, abs=SAMPLING_ERROR)
    # Fewer networks carried the weight before: the error grows as the root of their number falls.
    assert before == pytest.approx(exact, abs=SAMPLING_ERROR * (2048 / effective_size(log_weights)) ** 0.5)


def test_a_pool_of_which_no_network_is_alive_is_drawn_anew(problem: BudgetProblem) -> None:
    constraint = make(Pool, problem, logits=np.where(np.arange(NUM_CHOICES) % 2, -30.0, 0.0), pool_size=32)
    fitting = NETWORKS[problem.is_feasible(NETWORKS)]
    present = {tuple(network) for network in constraint.networks[0].tolist()}
    other = next(network for network in fitting if tuple(network.tolist()) not in present)
    mask_N = np.zeros(NUM_CHOICES, dtype=bool)
    mask_N[columns(problem, other[None])[0]] = True
    constraint.search.survivors[0] = Survivors(mask_N, tuple(int(k) for k in other))
    constraint.restrict(0)
    assert (constraint.networks[0] == other).all()


@pytest.mark.parametrize("kind", [Constraint, Penalty, Dual])
def test_independent_weights_are_the_softmax_of_each_decision(kind: type[Constraint], problem: BudgetProblem) -> None:
    logits = some_logits(2)
    weights_N = make(kind, problem, logits=logits).probabilities(0).detach().numpy()
    assert weights_N == pytest.approx(softmax_blocks(problem, logits), abs=1e-6)


@every
def test_the_same_generator_draws_the_same_paths(kind: type[Constraint], problem: BudgetProblem) -> None:
    first, second = make(kind, problem, logits=some_logits()), make(kind, problem, logits=some_logits())
    assert [first.draw(0) for _ in range(20)] == [second.draw(0) for _ in range(20)]


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
    kind: type[Constraint], arguments: dict[str, Any]
) -> None:
    [name] = [name for name, each in CONSTRAINTS.items() if each is kind]
    with pytest.raises(InvalidInputError) as refused:
        check_arguments("constraint", CONSTRAINTS, {"name": name, **arguments}, given=frozenset())
    assert refused.value.fields == (f"constraint.{next(iter(arguments))}",)
