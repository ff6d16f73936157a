"""Relaxations and searchers: the gradient that the logits take, by hand, and what a searcher proposes."""

# Shapes: N choices of all decisions.

from collections.abc import Mapping
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from small_constraints import NETWORKS, NUM_CHOICES, SPACE, make, softmax_blocks, some_logits, survivors_of
from tiny_search import binding_problem
from torch import Tensor, nn

from hardware_models.budgets.budget_problem import BudgetProblem
from search_spaces.space import Choice, Selection, Supernet
from trainers.data.task import TASKS, Classification, Task
from trainers.deploy.standalone import Score
from trainers.search.candidates import Request, random_candidates
from trainers.search.constraints.constraint import Constraint
from trainers.search.relaxations.relaxation import RELAXATIONS, Searched, Update
from trainers.search.relaxations.straight_through import StraightThrough
from trainers.search.searchers import SEARCHERS

VALUES_N = torch.from_numpy(some_logits(seed=7)).float()


class Sums(Supernet):
    """A network's output is the sum of the values of its choices."""

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        return torch.cat([torch.as_tensor(selection[d.name]) for d in SPACE.decisions]) @ VALUES_N

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        return pytest.fail("no network is extracted from this one")


class Output(Task):
    """The output is the loss."""

    score_name = "output"

    def total_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs * len(targets)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.zeros(len(targets))


@pytest.fixture(scope="module")
def problem() -> BudgetProblem:
    return binding_problem(SPACE)


def test_straight_through_takes_the_gradient_of_the_expected_loss(problem: BudgetProblem) -> None:
    logits_N = some_logits(1)
    constraint = make(Constraint, problem, logits=logits_N)
    searched = Searched(Sums(SPACE), constraint.logits, constraint, Output(), constraint.search)
    batch = (torch.zeros(2), torch.zeros(2))
    optimizer = torch.optim.SGD(constraint.logits.parameters(), lr=1.0)
    update = Update(0, batch, batch, optimizer, lambda loss: loss.backward(), nullcontext, lambda loss: None)
    p_N = StraightThrough(searched).update(update).detach().numpy()
    assert p_N == pytest.approx(softmax_blocks(problem, logits_N), abs=1e-6)
    # The derivative of a softmax's mean value: each probability times its value's distance from the mean.
    blocks = [(p_N[a:b], VALUES_N.numpy()[a:b]) for a, b in pairwise(problem.table.first_choice)]
    gradient_N = np.concatenate([p * (v - p @ v) for p, v in blocks])
    moved_N = logits_N - constraint.logits.shared.detach().double().numpy()
    assert moved_N == pytest.approx(gradient_N, abs=1e-5)
    assert constraint.logits.offsets[0].detach().numpy() == pytest.approx(-gradient_N, abs=1e-5)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_a_relaxation_leaves_the_weights_trainable_and_continues_from_its_state(
    name: str, problem: BudgetProblem
) -> None:
    constraint = make(Constraint, problem)
    searched = Searched(SPACE.supernet(), constraint.logits, constraint, Classification(), constraint.search)
    batch = (torch.randn(4, 3, 16, 16), torch.zeros(4, dtype=torch.long))
    optimizer = torch.optim.SGD(constraint.logits.parameters(), lr=0.1)
    relaxation = RELAXATIONS[name](searched)
    relaxation.update(Update(0, batch, batch, optimizer, lambda loss: loss.backward(), nullcontext, lambda loss: None))
    assert all(weight.requires_grad and weight.grad is None for weight in searched.supernet.parameters())
    again = RELAXATIONS[name](searched)
    again.load_state_dict(relaxation.state_dict())
    assert again.state_dict() == relaxation.state_dict()


@pytest.mark.parametrize("name", SEARCHERS)
def test_a_searcher_proposes_networks_within_budget_best_first_from_any_evaluator(
    name: str, problem: BudgetProblem
) -> None:
    """The evaluator here is a table, so no supernet is trained."""
    scores = dict(zip(map(tuple, NETWORKS.tolist()), np.random.default_rng(3).random(len(NETWORKS)), strict=True))

    def evaluate(indices: tuple[int, ...]) -> Score:
        return Score(float(scores[indices]), 1.0, 100)

    start, generator = survivors_of(problem), np.random.default_rng(0)
    randoms = random_candidates(problem, start, evaluate, num_candidates=6, generator=generator)
    request = Request(problem, start, np.zeros(NUM_CHOICES), evaluate, 6, randoms, generator)
    found = SEARCHERS[name]().search(request)
    assert problem.is_feasible(np.array([candidate.indices for candidate in found])).all()
    assert [c.validation.accuracy for c in found] == sorted((scores[c.indices] for c in found), reverse=True)
    assert 1 <= len(found) <= 6


@pytest.mark.parametrize("name", TASKS)
def test_the_mean_loss_of_a_task_is_its_total_over_the_examples(name: str) -> None:
    outputs, targets = torch.randn(8, 5), torch.arange(8) % 5
    task = TASKS[name]()
    assert float(task.loss(outputs, targets)) == pytest.approx(float(task.total_loss(outputs, targets)) / 8, rel=1e-5)
    assert 0 <= task.total_score(outputs, targets) <= 8
