"""Samplers of what the weights are trained on: counts and frequencies by hand, and one search by each kind."""

# Shapes: S networks, n decisions, N choices of all decisions.

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_constraints import NETWORKS, NUM_CHOICES, SPACE, columns, make, some_logits
from tiny_search import CELLS, TINY, binding_problem, composed, tiny_config

from hardware_models.budgets.budget_problem import BudgetProblem
from search_spaces.errors import keys_of
from trainers.data.task import Classification
from trainers.runs.config import validate
from trainers.search.constraints.conditioning import Pool
from trainers.search.constraints.constraint import Constraint
from trainers.search.plan import part_problems
from trainers.search.relaxations.mixture import Mixture
from trainers.search.relaxations.relaxation import Searched
from trainers.search.run import run
from trainers.search.samplers.mixed import Mixed
from trainers.search.samplers.sandwich import Sandwich
from trainers.search.samplers.strictly_fair import StrictlyFair
from trainers.search.samplers.uniform import Uniform


@pytest.fixture(scope="module")
def problem() -> BudgetProblem:
    return binding_problem(SPACE)


def searched(constraint: Constraint) -> Searched:
    return Searched(SPACE.supernet(), constraint.logits, constraint, Classification(), constraint.search)


def test_uniform_paths_are_uniform_within_budget_whatever_the_logits_say(problem: BudgetProblem) -> None:
    sampler = Uniform(make(Pool, problem, logits=some_logits(3), pool_size=32), warmup_steps=9)
    drawn_Sn = np.array([sampler.path(step, 0) for step in range(800)])
    feasible_Sn = NETWORKS[problem.is_feasible(NETWORKS)]
    assert problem.is_feasible(drawn_Sn).all()
    counted_N, uniform_N = (
        np.bincount(columns(problem, networks).ravel(), minlength=NUM_CHOICES) / len(networks)
        for networks in (drawn_Sn, feasible_Sn)
    )
    assert counted_N == pytest.approx(uniform_N, abs=4 * 0.5 / np.sqrt(800))


def test_a_fair_update_takes_every_active_choice_as_often_as_another(problem: BudgetProblem) -> None:
    sampler = StrictlyFair(make(Constraint, problem), warmup_steps=0)
    for _ in range(4):
        round_Sn = np.array(sampler.round(0))
        assert len(round_Sn) == 2
        for decision, (a, b) in enumerate(pairwise(problem.table.first_choice)):
            taken = sorted(round_Sn[:, decision].tolist())
            assert taken == ([0, 1] if b - a == 2 else [0, 0])
    assert len({tuple(map(tuple, sampler.round(0))) for _ in range(20)}) > 1


def test_a_sandwich_has_the_largest_and_the_smallest_network_and_some_between(problem: BudgetProblem) -> None:
    constraint = make(Pool, problem, pool_size=32)
    sampler = Sandwich(constraint, warmup_steps=0, drawn=3)
    largest, smallest, *between = sampler.selections(Mixture(searched(constraint)), 0, 0)
    assert largest == SPACE.selection(np.diff(problem.table.first_choice) - 1)
    assert set(smallest.values()) == {0}
    assert len(between) == 3
    assert problem.is_feasible(np.array([[s[d.name] for d in SPACE.decisions] for s in between])).all()


def test_the_loss_of_the_taught_is_the_cross_entropy_with_the_teachers_probabilities() -> None:
    outputs, taught = torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 0.0]])
    teacher, student = taught.double().softmax(1)[0], outputs.double().log_softmax(1)[0]
    assert float(Classification().distillation_loss(outputs, taught)) == pytest.approx(
        -float(teacher @ student), rel=1e-6
    )


def test_mixed_weights_are_trained_at_the_probabilities_and_draw_what_cannot_be_mixed(problem: BudgetProblem) -> None:
    constraint = make(Constraint, problem, logits=some_logits(1))
    (selection,) = Mixed(constraint, warmup_steps=9).selections(Mixture(searched(constraint)), 0, 0)
    p_N = constraint.probabilities(0).detach()
    blocks = pairwise(problem.table.first_choice)
    for decision, (a, b) in zip(SPACE.decisions, blocks, strict=True):
        weights = selection[decision.name]
        assert isinstance(weights, torch.Tensor) and not weights.requires_grad
        if decision.name not in SPACE.hard_decisions:
            assert weights.tolist() == pytest.approx(p_N[a:b].tolist())


@pytest.mark.parametrize("sampler", ["sandwich", "fair"])
def test_weights_that_take_several_passes_are_trained_to_another_end(sampler: str, tmp_path: Path) -> None:
    given = (*TINY, "hardware=[mid_tablet]", "trainer.candidates=1", "trainer.steps=2", f"sampler={sampler}")
    result = run(tiny_config(tmp_path, *given), lambda line: None)
    assert result.status == "done" and result.devices["mid_tablet"].met


def test_cells_are_searched_as_a_mixture_with_remedies_within_budget(tmp_path: Path) -> None:
    parts = (
        "strategy=darts_minus",
        "constraint=pool",
        "hardware=[mid_tablet]",
        "trainer.steps=4",
        "trainer.candidates=1",
    )
    result = run(tiny_config(tmp_path, *CELLS[:5], *parts), lambda line: None)
    assert result.status == "done" and all(device.met for device in result.devices.values())


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("sampler={name:sandwich,drawn:-1}",), "sampler.drawn"),
        (("relaxation={name:gdas,hottest:0.0}",), "relaxation.hottest"),
        (("constraint={name:connas,rescale:1.0}",), "constraint.rescale"),
        (("relaxation={name:mixture,order:third}",), "relaxation.order"),
    ],
)
def test_a_wrong_argument_of_a_part_is_refused_by_its_key(overrides: tuple[str, ...], key: str) -> None:
    (problem,) = part_problems(validate(composed(*TINY, *overrides)))
    assert keys_of(problem) == (key,)
