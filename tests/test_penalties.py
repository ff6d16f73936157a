"""Penalties: what the expected cost over budget adds to the loss, and the multipliers that weigh it."""

# Shapes: S networks, N choices of all decisions, M metrics.

from collections.abc import Callable

import numpy as np
import pytest
import torch
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
from tiny_search import CONF, binding_problem, bound_factor, small_problem

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import Array, CostTable
from hardware_models.profile import load_profile
from trainers.search.constraints.conditioning import Pool
from trainers.search.constraints.dual import Dual
from trainers.search.constraints.penalty import Penalty
from trainers.search.logits import ArchitectureParameters
from trainers.search.search_state import SearchState


@pytest.fixture(scope="module")
def problem() -> BudgetProblem:
    return binding_problem(SPACE)


def expected_gflops(problem: BudgetProblem, weights_N: Array) -> float:
    """Mean over all networks, decisions drawn independently, of the operations that they declare."""
    probability_S = weights_N[columns(problem, NETWORKS)].prod(axis=1)
    gflops_S = [sum(op.macs for op in SPACE.operations(SPACE.choices(network))) / 1e9 for network in NETWORKS]
    return float(probability_S @ gflops_S)


def test_the_penalty_is_strength_times_expected_cost_over_budget(problem: BudgetProblem) -> None:
    logits = some_logits(1)
    constraint = make(Penalty, problem, logits=logits, strength=0.5)
    share = expected_gflops(problem, softmax_blocks(problem, logits)) / problem.limits["gflops"]
    assert float(constraint.penalty(0, constraint.probabilities(0)).detach()) == pytest.approx(
        0.5 * (share - 1), rel=1e-4
    )


def test_a_step_against_the_penaltys_gradient_lowers_the_expected_cost(problem: BudgetProblem) -> None:
    logits = some_logits(1)
    constraint = make(Penalty, problem, logits=logits)
    constraint.penalty(0, constraint.probabilities(0)).backward()
    gradient = constraint.logits.shared.grad
    assert gradient is not None
    lower = logits - gradient.double().numpy()
    before, after = (expected_gflops(problem, softmax_blocks(problem, each)) for each in (logits, lower))
    assert after < before


def test_each_budget_has_its_own_share_of_the_penalty() -> None:
    problem = small_problem(SPACE, {"latency_ms": 9.0, "gflops": 0.002})
    constraint = make(Penalty, problem, strength=1.0)
    weights_N = softmax_blocks(problem, np.zeros(NUM_CHOICES))
    costs_M = problem.table.expected(torch.from_numpy(weights_N))[0].numpy()
    # Latency is budgeted at the profile's bound, a factor on the estimate.
    by_hand = costs_M[0] * bound_factor("mid_tablet", least_pixels=32 * 32) / 9.0 - 1 + costs_M[1] / 0.002 - 1
    assert float(constraint.penalty(0, constraint.probabilities(0)).detach()) == pytest.approx(by_hand, rel=1e-4)


def dual_at(problem: BudgetProblem, logits: Array, step_size: float) -> tuple[Dual, Callable[[], float], float]:
    """A dual constraint, a step of it that returns its multiplier, and the expected overshoot, by hand."""
    constraint = make(Dual, problem, logits=logits, step_size=step_size)

    def step() -> float:
        constraint.penalty(0, constraint.probabilities(0))
        return float(constraint.multipliers[0][0])

    overshoot = expected_gflops(problem, softmax_blocks(problem, logits)) / problem.limits["gflops"] - 1
    return constraint, step, overshoot


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
    constraint, step, overshoot = dual_at(problem, extreme_logits(problem, largest=False), step_size=0.5)
    assert overshoot < 0
    constraint.multipliers[0] += 1.5 * 0.5 * -overshoot
    assert [step(), step(), step()] == pytest.approx([0.5 * 0.5 * -overshoot, 0, 0], rel=1e-3)


def test_devices_have_multipliers_and_logits_of_their_own(problem: BudgetProblem) -> None:
    parameters = ArchitectureParameters(NUM_CHOICES, 2, offset_decay=0.0)
    profiles = [load_profile(CONF / "hardware" / f"{name}.yaml") for name in ("mid_tablet", "iot_terminal")]
    table = CostTable(SPACE, profiles)
    problems = [BudgetProblem(table, profile.name, problem.limits) for profile in profiles]
    starts = [survivors_of(each) for each in problems]
    constraint = Dual(SearchState(problems, starts), parameters, np.random.default_rng(0))
    with torch.no_grad():
        parameters.offsets[1] += torch.from_numpy(extreme_logits(problem, largest=True))
        parameters.offsets[0] += torch.from_numpy(extreme_logits(problem, largest=False))
    for device in (0, 1):
        constraint.penalty(device, constraint.probabilities(device))
    assert float(constraint.multipliers[0][0]) == 0
    assert float(constraint.multipliers[1][0]) > 0


def test_there_is_no_penalty_where_the_budget_is_a_condition(problem: BudgetProblem) -> None:
    constraint = make(Pool, problem, pool_size=32)
    assert float(constraint.penalty(0, constraint.probabilities(0))) == 0
