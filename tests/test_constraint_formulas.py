"""Constraints on the expectation and on the gradient: each against numbers worked out by hand."""

# Shapes: n decisions, N choices of all decisions, C choices of one decision.

from itertools import pairwise

import numpy as np
import pytest
import torch
from small_constraints import NETWORKS, NUM_CHOICES, SPACE, columns, make, softmax_blocks, some_logits
from tiny_search import binding_problem, bound_factor, small_problem
from torch import Tensor

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import Array
from trainers.search.constraints.absolute import Absolute
from trainers.search.constraints.augmented_lagrangian import AugmentedLagrangian
from trainers.search.constraints.connas import ConNas, _pulls
from trainers.search.constraints.constraint import Constraint
from trainers.search.constraints.hinge import Hinge
from trainers.search.constraints.projection import Projection


@pytest.fixture(scope="module")
def problem() -> BudgetProblem:
    return binding_problem(SPACE)


def gflops_of(network: Array) -> float:
    return sum(op.macs for op in SPACE.operations(SPACE.choices(network))) / 1e9


def expected_share(problem: BudgetProblem, p_N: Array) -> float:
    """Mean GFLOPs over all networks, decisions drawn independently, over the budget."""
    probability_S = p_N[columns(problem, NETWORKS)].prod(axis=1)
    return float(probability_S @ [gflops_of(network) for network in NETWORKS]) / problem.limits["gflops"]


def extreme(problem: BudgetProblem, size: float) -> Array:
    """Logits of the largest choices, or of the smallest where `size` is negative."""
    logits_N = np.zeros(NUM_CHOICES)
    logits_N[problem.table.first_choice[1:] - 1] = size
    return logits_N


def penalty(constraint: Constraint) -> float:
    return float(constraint.penalty(0, constraint.probabilities(0)).detach())


def test_the_hinge_grows_over_half_the_search_and_is_zero_within_budget(problem: BudgetProblem) -> None:
    over_N, within_N = extreme(problem, 5.0), extreme(problem, -5.0)
    constraint = make(Hinge, problem, logits=over_N, strength=2.0)
    overshoot = expected_share(problem, softmax_blocks(problem, over_N)) - 1
    constraint.search.steps = 100
    for step, grown in ((0, 0.01), (25, 0.505), (50, 1.0), (80, 1.0)):
        constraint.search.step = step
        assert penalty(constraint) == pytest.approx(2.0 * grown * overshoot, rel=1e-3)
    assert overshoot > 0
    assert penalty(make(Hinge, problem, logits=within_N, strength=2.0)) == 0


@pytest.mark.parametrize("size", [5.0, -5.0])
def test_the_absolute_penalty_pulls_from_both_sides(problem: BudgetProblem, size: float) -> None:
    logits_N = extreme(problem, size)
    distance = abs(expected_share(problem, softmax_blocks(problem, logits_N)) - 1)
    assert penalty(make(Absolute, problem, logits=logits_N, strength=0.1)) == pytest.approx(0.1 * distance, rel=1e-3)


def test_the_augmented_lagrangian_is_a_square_first_and_then_has_a_multiplier(problem: BudgetProblem) -> None:
    logits_N = extreme(problem, 5.0)
    constraint = make(AugmentedLagrangian, problem, logits=logits_N, rho=3.0)
    g = expected_share(problem, softmax_blocks(problem, logits_N)) - 1
    # (3g)^2 / 6, then ((3g + 3g)^2 - (3g)^2) / 6.
    assert [penalty(constraint), penalty(constraint)] == pytest.approx([1.5 * g**2, 4.5 * g**2], rel=1e-3)
    assert float(constraint.multipliers[0]) == pytest.approx(6 * g, rel=1e-3)
    slack = make(AugmentedLagrangian, problem, logits=extreme(problem, -5.0), rho=3.0)
    assert (penalty(slack), float(slack.multipliers[0])) == (0, 0)


def test_a_projection_meets_the_budget_and_tilts_by_one_multiplier(problem: BudgetProblem) -> None:
    logits_N = extreme(problem, 2.0)
    constraint = make(Projection, problem, logits=logits_N)
    p_N = constraint.probabilities(0).detach().double().numpy()
    over = expected_share(problem, softmax_blocks(problem, logits_N)) - 1
    assert over > 0
    assert expected_share(problem, p_N) == pytest.approx(1, abs=0.05 * over)  # costs are linearised three times
    # Optimality: log(p / softmax) of both choices of a decision differ by a multiple of their marginal costs.
    tilt_N = np.log(p_N) - logits_N
    at_N = torch.from_numpy(p_N).requires_grad_()
    (problem.table.expected(at_N)[0, 1] / problem.limits["gflops"]).backward()
    assert at_N.grad is not None
    ratios = [
        (tilt_N[b - 1] - tilt_N[a]) / float(at_N.grad[b - 1] - at_N.grad[a])
        for a, b in pairwise(problem.table.first_choice)
        if b - a == 2
    ]
    assert max(ratios) < 0 and ratios == pytest.approx([np.mean(ratios)] * len(ratios), rel=0.05)


def test_a_projection_within_budget_is_the_softmax(problem: BudgetProblem) -> None:
    logits_N = extreme(problem, -2.0)
    p_N = make(Projection, problem, logits=logits_N).probabilities(0).detach().numpy()
    assert p_N == pytest.approx(softmax_blocks(problem, logits_N), abs=1e-6)


def test_several_budgets_bind_a_projection_together() -> None:
    loose = small_problem(SPACE, {"gflops": 1e3, "latency_ms": 1e6})
    latency_ms, gflops = np.quantile(loose.table.of(NETWORKS, 0)[:, :2], 0.3, axis=0)
    # Latency is budgeted at the profile's bound, a factor on the estimate.
    problem = small_problem(
        SPACE, {"gflops": gflops, "latency_ms": latency_ms * bound_factor("mid_tablet", least_pixels=32 * 32)}
    )
    logits_N = extreme(problem, 2.0)
    before_M = problem.table.expected(torch.from_numpy(softmax_blocks(problem, logits_N)))[0].numpy()
    after_M = problem.table.expected(make(Projection, problem, logits=logits_N).probabilities(0).detach())[0].numpy()
    over_M, left_M = before_M[:2] - problem.limits_M[:2], after_M[:2] - problem.limits_M[:2]
    assert (over_M > 0).all() and (left_M <= 0.05 * over_M).all()


def test_the_gradient_of_a_projection_is_a_finite_difference_of_its_linearised_costs(problem: BudgetProblem) -> None:
    logits_N, direction = extreme(problem, 2.0), torch.from_numpy(some_logits(seed=5)).float()
    constraint = make(Projection, problem, logits=logits_N)
    (constraint.probabilities(0) @ direction).backward()
    gradient = constraint.logits.shared.grad
    assert gradient is not None
    slopes_KN, multipliers_K = constraint._solve(0, constraint.logits(0).detach().double())
    bound = slopes_KN @ constraint.probabilities(0).detach().double()

    def value(nudged_N: Tensor) -> float:
        found = constraint._multipliers(0, nudged_N, slopes_KN, bound)
        return float(constraint.softmax(0, nudged_N - found @ slopes_KN) @ direction.double())

    assert float(multipliers_K[0]) > 0
    for choice in range(NUM_CHOICES):
        nudge_N = 1e-3 * torch.eye(NUM_CHOICES, dtype=torch.float64)[choice]
        at_N = torch.from_numpy(logits_N)
        difference = (value(at_N + nudge_N) - value(at_N - nudge_N)) / 2e-3
        assert float(gradient[choice]) == pytest.approx(difference, abs=2e-4)


@pytest.mark.parametrize(
    ("costs", "pulls"),
    [
        ([1, 2, 5, 6], [2, 2, -2, -2]),  # those that meet 3 gain on those that do not
        ([4, 5, 6], [2, 0, -2]),  # none does: the cheaper gain on the dearer
        ([1, 2, 3], [0, 0, 0]),
    ],
)
def test_choices_gain_on_those_that_exceed_the_budget(costs: list[float], pulls: list[float]) -> None:
    assert _pulls(np.array(costs, dtype=float), 3.0).tolist() == pulls


def test_connas_turns_each_decision_by_what_it_could_mend_alone(problem: BudgetProblem) -> None:
    logits_N = extreme(problem, 1.0)
    constraint = make(ConNas, problem, logits=logits_N, rescale=1.5)
    largest, limit = (
        np.array(problem.table.first_choice[1:] - problem.table.first_choice[:-1] - 1),
        problem.limits["gflops"],
    )
    by_hand = np.zeros(NUM_CHOICES)
    for decision, (a, b) in enumerate(pairwise(problem.table.first_choice)):
        smaller = largest.copy()
        smaller[decision] = 0
        # Of two choices the smaller one wins, whether it meets the budget by itself or is merely cheaper.
        if b - a == 2:
            by_hand[[a, a + 1]] = np.array([1, -1]) / np.sqrt(2)
    assert gflops_of(largest) > limit
    assert constraint.direction(0) == pytest.approx(by_hand)
    gradient_N = some_logits(seed=3)
    constraint.logits.shared.grad = torch.from_numpy(gradient_N).float()
    constraint.logits.offsets.grad = torch.from_numpy(gradient_N).float()[None].clone()
    constraint.modify_gradient(0)
    lengths_N = np.concatenate(
        [np.full(b - a, np.linalg.norm(gradient_N[a:b])) for a, b in pairwise(problem.table.first_choice)]
    )
    for turned in (constraint.logits.shared.grad, constraint.logits.offsets.grad[0]):
        assert turned.numpy() == pytest.approx(gradient_N - 1.5 * lengths_N * by_hand, abs=1e-6)
        # A step against it raises the smaller choice of every decision, whatever the loss asked for.
        for a, b in pairwise(problem.table.first_choice):
            assert b - a == 1 or float(turned[a]) < float(turned[a + 1])


def test_connas_leaves_a_network_within_budget_alone(problem: BudgetProblem) -> None:
    constraint = make(ConNas, problem, logits=extreme(problem, -1.0))
    assert constraint.direction(0).tolist() == [0.0] * NUM_CHOICES
