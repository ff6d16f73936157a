"""Relaxations and tasks: the gradient that the logits take, and losses, by hand."""

# Shapes: N choices of all decisions.

from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from small_constraints import NUM_CHOICES, SPACE, make, softmax_blocks, some_logits
from tiny_search import CONF, binding_problem
from torch import Tensor, nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import Array, CostTable
from hardware_models.profile import load_profile
from search_spaces.nasbench201.space import NasBench201Space
from search_spaces.space import Choice, Selection, Supernet
from trainers.data.task import TASKS, Classification, Task
from trainers.search.constraints.conditioning import Pool
from trainers.search.constraints.constraint import CONSTRAINTS, Constraint
from trainers.search.relaxations.drnas import DrNas
from trainers.search.relaxations.fair import Fair
from trainers.search.relaxations.gumbel import Gdas, Gumbel, Snas, noise_given_largest
from trainers.search.relaxations.mixture import Mixture
from trainers.search.relaxations.proxyless import Proxyless
from trainers.search.relaxations.random_features import RandomFeatures
from trainers.search.relaxations.reinmax import ReinMax
from trainers.search.relaxations.relaxation import RELAXATIONS, Relaxation, Searched, Update
from trainers.search.relaxations.straight_through import StraightThrough

CELLS = NasBench201Space.small()
CELL_TABLE = CostTable(CELLS, [load_profile(CONF / "hardware" / "mid_tablet.yaml")])
CELL_PROBLEM = BudgetProblem(
    CELL_TABLE,
    "mid_tablet",
    {"gflops": float(np.median(CELL_TABLE.of(CELLS.rule_matrix.sample(999, np.random.default_rng(0)), 0)[:, 1]))},
)
CELL_LOGITS_N = np.random.default_rng(2).normal(scale=0.3, size=CELLS.num_choices)
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


def updated(kind: type[Relaxation], constraint: Constraint, **arguments: Any) -> tuple[Relaxation, Array]:
    """A relaxation after one update by plain descent at rate 1, and what it took off the logits (N,)."""
    searched = Searched(Sums(SPACE), constraint.logits, constraint, Output(), constraint.search)
    batch, before_N = (torch.zeros(2), torch.zeros(2)), constraint.logits.shared.detach().double().numpy().copy()
    optimizer = torch.optim.SGD(constraint.logits.parameters(), lr=1.0)
    relaxation = kind(searched, **arguments)
    relaxation.update(Update(0, batch, batch, optimizer, lambda loss: loss.backward(), nullcontext, lambda loss: None))
    moved_N = before_N - constraint.logits.shared.detach().double().numpy()
    assert constraint.logits.offsets[0].detach().numpy() == pytest.approx(-moved_N, abs=1e-5)
    return relaxation, moved_N


def pull(problem: BudgetProblem, p_N: Array, values_N: Array | None = None) -> Array:
    """The derivative of a softmax's mean value: each probability times its value's distance from the mean."""
    values_N = VALUES_N.double().numpy() if values_N is None else values_N
    blocks = [(p_N[a:b], values_N[a:b]) for a, b in pairwise(problem.table.first_choice)]
    return np.concatenate([p * (v - p @ v) for p, v in blocks])


@pytest.mark.parametrize("kind", [StraightThrough, Mixture])
def test_the_gradient_is_that_of_the_expected_loss(kind: type[Relaxation], problem: BudgetProblem) -> None:
    logits_N = some_logits(1)
    _, moved_N = updated(kind, make(Constraint, problem, logits=logits_N))
    assert moved_N == pytest.approx(pull(problem, softmax_blocks(problem, logits_N)), abs=1e-5)


@pytest.mark.parametrize("kind", [Gdas, Snas])
def test_gumbel_gradients_are_those_of_the_soft_sample_of_the_drawn_network(
    kind: type[Gumbel], problem: BudgetProblem
) -> None:
    logits_N = some_logits(1)
    # The same draws again, by the same generator.
    constraint = make(Constraint, problem, logits=logits_N)
    constraint.search.steps, constraint.search.step = 4, 2
    again = kind(
        Searched(Sums(SPACE), constraint.logits, constraint, Output(), constraint.search), hottest=3, coldest=1
    )
    path = constraint.draw(0)
    soft_N = again.soft(0, path, constraint.probabilities(0).detach()).double().numpy()
    assert again.temperature == 2.0
    largest = tuple(int(soft_N[a:b].argmax()) for a, b in pairwise(problem.table.first_choice))
    assert largest == path
    other = make(Constraint, problem, logits=logits_N)
    other.search.steps, other.search.step = 4, 2
    _, moved_N = updated(kind, other, hottest=3.0, coldest=1.0)
    assert moved_N == pytest.approx(pull(problem, soft_N) / 2.0, abs=1e-5)


def test_noise_given_the_largest_choice_is_gumbel_noise_where_that_choice_is_drawn() -> None:
    generator, logs_C = np.random.default_rng(0), np.log([0.6, 0.3, 0.1])
    choices = generator.choice(3, p=np.exp(logs_C), size=4000)
    noise_SC = np.array([noise_given_largest(logs_C, int(choice), generator) for choice in choices])
    assert ((noise_SC + logs_C).argmax(axis=1) == choices).all()
    # Mean and deviation of a Gumbel variable, within four standard errors.
    assert noise_SC.mean(axis=0) == pytest.approx([np.euler_gamma] * 3, abs=4 * np.pi / np.sqrt(6 * 4000))
    assert noise_SC.std(axis=0) == pytest.approx([np.pi / np.sqrt(6)] * 3, rel=0.06)
    dead = noise_given_largest(np.array([0.0, -np.inf]), 0, generator)
    assert dead[1] == 0 and np.isfinite(dead[0])


def test_reinmax_takes_twice_the_gradient_half_way_to_the_drawn_network(problem: BudgetProblem) -> None:
    logits_N = some_logits(1)
    p_N = softmax_blocks(problem, logits_N)
    path = make(Constraint, problem, logits=logits_N).draw(0)  # the first draw of the same generator
    drawn_N = np.zeros(NUM_CHOICES)
    drawn_N[np.array(path) + problem.table.first_choice[:-1]] = 1
    _, moved_N = updated(ReinMax, make(Constraint, problem, logits=logits_N))
    by_hand_N = 2 * pull(problem, (drawn_N + p_N) / 2) - pull(problem, p_N) / 2
    assert moved_N == pytest.approx(by_hand_N, abs=1e-5)


def test_two_paths_move_against_each_other_and_nothing_else_runs(problem: BudgetProblem) -> None:
    logits_N = some_logits(1)
    _, moved_N = updated(Proxyless, make(Constraint, problem, logits=logits_N))
    # Decisions here have two choices at most, so that the pair is all there is.
    assert moved_N == pytest.approx(pull(problem, softmax_blocks(problem, logits_N)), abs=1e-5)
    constraint = make(Constraint, CELL_PROBLEM, logits=np.zeros(CELLS.num_choices))
    searched = Searched(CELLS.supernet(), constraint.logits, constraint, Classification(), constraint.search)
    relaxation = Proxyless(searched)
    path = constraint.draw(0)
    weights_N = relaxation.weights(0, path, constraint.probabilities(0))
    gates_N = torch.autograd.grad(weights_N @ torch.arange(30.0), constraint.logits.shared)[0]
    assert [(gates_N[a:b] != 0).sum().item() for a, b in pairwise(range(0, 31, 5))] == [2] * 6
    assert float(gates_N.sum()) == pytest.approx(0, abs=1e-6)
    assert dict(searched.supernet.active) == {d.name: tuple(range(5)) for d in CELLS.decisions}


def test_sigmoids_move_each_by_itself_and_away_from_one_half(problem: BudgetProblem) -> None:
    logits_N = some_logits(1)
    sigmoid_N = 1 / (1 + np.exp(-logits_N))
    slope_N = sigmoid_N * (1 - sigmoid_N)
    _, moved_N = updated(Fair, make(Constraint, problem, logits=logits_N), strength=3.0)
    values_N = np.where(np.arange(NUM_CHOICES) == 0, 0.0, VALUES_N.numpy())  # a resolution is drawn, not mixed
    by_hand_N = values_N * slope_N - 3.0 * 2 * (sigmoid_N - 0.5) * slope_N / NUM_CHOICES
    assert moved_N == pytest.approx(by_hand_N, abs=1e-5)


def test_dirichlet_mixtures_have_the_mean_of_their_concentrations_and_an_anchor(problem: BudgetProblem) -> None:
    torch.manual_seed(0)
    logits_N = some_logits(1)
    constraint = make(Constraint, problem, logits=logits_N)
    relaxation = DrNas(Searched(Sums(SPACE), constraint.logits, constraint, Output(), constraint.search), anchor=0.5)
    p_N = constraint.probabilities(0)
    concentration_N = np.where(logits_N > 0, logits_N + 1, np.exp(logits_N))  # elu + 1
    blocks = [concentration_N[a:b] for a, b in pairwise(problem.table.first_choice)]
    drawn_SN = torch.stack([relaxation.weights(0, (), p_N).detach() for _ in range(300)]).numpy()
    assert drawn_SN.mean(axis=0) == pytest.approx(np.concatenate([b / b.sum() for b in blocks]), abs=0.1)
    divergence = sum(
        gammaln(b.sum()) - gammaln(b).sum() - gammaln(len(b)) + (b - 1) @ (digamma(b) - digamma(b.sum()))
        for b in blocks
    )
    assert float(relaxation.added_loss(0, p_N).detach()) == pytest.approx(0.5 * divergence, rel=1e-4)


def test_conditioned_logits_are_the_logits_where_decisions_are_independent(problem: BudgetProblem) -> None:
    constraint = make(Constraint, problem, logits=some_logits(1))
    searched = Searched(Sums(SPACE), constraint.logits, constraint, Output(), constraint.search)
    found_N = searched.conditioned_logits(0, constraint.probabilities(0))
    assert found_N.detach().numpy() == pytest.approx(some_logits(1), abs=1e-5)
    pool = make(Pool, problem, logits=some_logits(1), pool_size=256)
    searched = Searched(Sums(SPACE), pool.logits, pool, Output(), pool.search)
    p_N = pool.probabilities(0)
    again_N = pool.softmax(0, searched.conditioned_logits(0, p_N))
    assert again_N.detach().numpy() == pytest.approx(p_N.detach().numpy(), abs=1e-5)


class Follows(Sums):
    """Half the squared distance of one weight from the mean value of a selection, times the mean of the inputs."""

    def __init__(self) -> None:
        super().__init__(SPACE)
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        return (self.weight - x.mean() * super().forward(x, selection)).square() / 2


def test_the_second_order_goes_through_one_step_of_the_weights(problem: BudgetProblem) -> None:
    logits_N, rate = some_logits(1), 0.25
    constraint = make(Constraint, problem, logits=logits_N)
    supernet = Follows()
    searched = Searched(supernet, constraint.logits, constraint, Output(), constraint.search)
    ones, twos, none = torch.ones(2), 2 * torch.ones(2), torch.zeros(2)
    optimizer = torch.optim.SGD(constraint.logits.parameters(), lr=1.0)
    of_weights = torch.optim.SGD(supernet.parameters(), lr=rate)
    tools = (optimizer, lambda loss: loss.backward(), nullcontext, lambda loss: None)
    Mixture(searched, order="second").update(
        Update(0, (ones, none), (twos, none), *tools, weights_optimizer=of_weights)
    )
    p_N = softmax_blocks(problem, logits_N)
    mean = float(p_N @ VALUES_N.double().numpy())
    stepped = 0.7 - rate * (0.7 - mean)
    # The loss (w' - 2m)^2 / 2 changes with the mean m directly and through w' = w - rate (w - m).
    by_hand_N = (stepped - 2 * mean) * (rate - 2) * pull(problem, p_N)
    moved_N = logits_N - constraint.logits.shared.detach().double().numpy()
    assert moved_N == pytest.approx(by_hand_N, rel=1e-2, abs=1e-4)  # differences of float32
    assert float(supernet.weight.detach()) == pytest.approx(0.7, abs=1e-7)


def test_a_single_level_learns_from_the_batch_of_the_weights(problem: BudgetProblem) -> None:
    def moved(**arguments: Any) -> Array:
        constraint = make(Constraint, problem, logits=some_logits(1))
        searched = Searched(Follows(), constraint.logits, constraint, Output(), constraint.search)
        batches = ((torch.ones(2), torch.zeros(2)), (2 * torch.ones(2), torch.zeros(2)))
        optimizer = torch.optim.SGD(constraint.logits.parameters(), lr=1.0)
        tools = (optimizer, lambda loss: loss.backward(), nullcontext, lambda loss: None)
        Mixture(searched, **arguments).update(Update(0, *batches, *tools))
        return some_logits(1) - constraint.logits.shared.detach().double().numpy()

    p_N = softmax_blocks(problem, some_logits(1))
    mean = float(p_N @ VALUES_N.double().numpy())
    assert moved(single_level=True) == pytest.approx(-(0.7 - mean) * pull(problem, p_N), abs=1e-5)
    assert moved() == pytest.approx(-2 * (0.7 - 2 * mean) * pull(problem, p_N), abs=1e-5)


def test_random_features_train_norms_and_heads_alone(problem: BudgetProblem) -> None:
    constraint = make(Constraint, problem)
    supernet = SPACE.supernet()
    RandomFeatures(Searched(supernet, constraint.logits, constraint, Output(), constraint.search))
    trained = {name for name, weight in supernet.named_parameters() if weight.requires_grad}
    assert "classifier.weight" in trained and "head_norm.weight" in trained
    assert not [name for name in trained if dict(supernet.named_parameters())[name].dim() == 4]


@dataclass
class Search:
    """One relaxation under one constraint on cells, an update at a time."""

    relaxation: Relaxation
    optimizer: torch.optim.Optimizer
    weights_optimizer: torch.optim.Optimizer

    @classmethod
    def begin(cls, name: str, constraint_name: str) -> "Search":
        torch.manual_seed(0)
        constraint = make(CONSTRAINTS[constraint_name], CELL_PROBLEM, logits=CELL_LOGITS_N)
        constraint.search.steps = 4
        supernet = CELLS.supernet()
        searched = Searched(supernet, constraint.logits, constraint, Classification(), constraint.search)
        return cls(
            RELAXATIONS[name](searched),
            torch.optim.Adam(constraint.logits.parameters(), lr=0.03, betas=(0.5, 0.999)),
            torch.optim.SGD([w for w in supernet.parameters() if w.requires_grad], lr=0.1, momentum=0.9),
        )

    def update(self) -> Array:
        """Logits (N,) after one more update."""
        searched = self.relaxation.searched
        generator = torch.Generator().manual_seed(searched.state.step)
        batch = (torch.randn(2, 3, 8, 8, generator=generator), torch.arange(2))
        tools = (self.optimizer, lambda loss: loss.backward(), nullcontext, lambda loss: None)
        trained = [weight.requires_grad for weight in searched.supernet.parameters()]
        self.relaxation.update(Update(0, batch, batch, *tools, weights_optimizer=self.weights_optimizer))
        assert [weight.requires_grad for weight in searched.supernet.parameters()] == trained
        gradient_N = searched.logits.shared.grad
        assert gradient_N is not None and bool(torch.isfinite(gradient_N).all())
        searched.state.step += 1
        return searched.logits.shared.detach().numpy().copy()

    def parts(self) -> list[Any]:
        searched = self.relaxation.searched
        return [self.relaxation, searched.constraint, searched.logits, self.optimizer]


@pytest.mark.parametrize("name", [*RELAXATIONS, "mixture of second order"])
def test_every_relaxation_moves_the_logits_under_every_constraint_and_resumes_to_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    constraints = list(CONSTRAINTS)
    if name == "mixture of second order":  # six passes an update
        monkeypatch.setitem(RELAXATIONS._loaded, "mixture", partial(Mixture, order="second"))
        name, constraints = "mixture", ["dual", "pool", "projection"]
    for constraint in constraints:
        whole = Search.begin(name, constraint)
        first_N = whole.update()
        assert np.abs(first_N - CELL_LOGITS_N).max() > 1e-4, f"{name} under {constraint} moves nothing"
        saved = [deepcopy(part.state_dict()) for part in whole.parts()]
        random = torch.get_rng_state()
        second_N = whole.update()
        resumed = Search.begin(name, constraint)
        for part, state in zip(resumed.parts(), saved, strict=True):
            part.load_state_dict(state)
        resumed.relaxation.searched.state.step = 1
        torch.set_rng_state(random)
        assert np.array_equal(resumed.update(), second_N), f"{name} under {constraint} resumes to other bits"


@pytest.mark.parametrize("name", TASKS)
def test_the_mean_loss_of_a_task_is_its_total_over_the_examples(name: str) -> None:
    outputs, targets = torch.randn(8, 5), torch.arange(8) % 5
    task = TASKS[name]()
    assert float(task.loss(outputs, targets)) == pytest.approx(float(task.total_loss(outputs, targets)) / 8, rel=1e-5)
    assert 0 <= task.total_score(outputs, targets) <= 8
