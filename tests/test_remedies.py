"""Remedies: what each changes, by hand; all continue from their state; what they need is asked for by name."""

# Shapes: L layers, N choices of all decisions.

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_constraints import SPACE, make
from tiny_search import CELLS as CELL_OVERRIDES
from tiny_search import CONF, TINY, composed
from torch import Tensor, nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.profile import load_profile
from search_spaces.darts.space import DartsSpace
from search_spaces.errors import InvalidInputError, keys_of
from search_spaces.nasbench201.space import NasBench201Space
from search_spaces.space import Choice, Selection, Supernet
from trainers.data.task import Classification
from trainers.runs.config import validate
from trainers.search.combinations import check_combination
from trainers.search.constraints.constraint import Constraint
from trainers.search.relaxations.relaxation import Searched
from trainers.search.remedies import REMEDIES
from trainers.search.remedies.auxiliary_skip import AuxiliarySkip
from trainers.search.remedies.beta_decay import BetaDecay
from trainers.search.remedies.drop_path import DropPath
from trainers.search.remedies.layer_alignment import LayerAlignment, alignment, alignment_slope
from trainers.search.remedies.oles import Oles
from trainers.search.remedies.path_learning_rate import PathLearningRate
from trainers.search.remedies.perturbation import Perturbation
from trainers.search.remedies.skip_limit import SkipLimit, skips_of
from trainers.search.remedies.stop_early import StopEarly, largest_curvature
from trainers.search.strategy import sections

CELLS = NasBench201Space.small()
TABLE = CostTable(CELLS, [load_profile(CONF / "hardware" / "mid_tablet.yaml")])
PROBLEM = BudgetProblem(TABLE, "mid_tablet", {"gflops": 1e3})
SKIPS = np.arange(6) * 5 + 1
VALUES_N = torch.linspace(-1, 2, 30)


def searched(*, step: int = 0, logits: Any = None, problem: BudgetProblem = PROBLEM) -> Searched:
    """A search of 10 steps over small cells, at one of them."""
    torch.manual_seed(0)
    constraint = make(Constraint, problem, logits=logits)
    constraint.search.steps, constraint.search.step = 10, step
    return Searched(problem.table.space.supernet(), constraint.logits, constraint, Classification(), constraint.search)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 8, 8, generator=generator), torch.arange(4) % 4


def mixture(search: Searched) -> Selection:
    return search.selection(search.constraint.probabilities(0).detach())


def with_gradient(search: Searched, selection: Selection, seed: int = 1) -> None:
    """Gradients of the weights on one batch at a selection."""
    search.supernet.zero_grad()
    x, y = batch(seed)
    search.task.loss(search.supernet(x, selection), y).backward()


def test_the_auxiliary_skip_adds_the_input_of_each_edge_and_fades_out() -> None:
    search = searched()
    remedy, cell, x = AuxiliarySkip(search, until=0.5), search.supernet.layers[0], torch.randn(1, 4, 8, 8)
    skip = np.zeros(30)
    skip[SKIPS] = 1  # each edge is an identity
    selection, active = search.selection(torch.from_numpy(skip).float()), search.supernet.active
    found = []
    for progress in (0.0, 0.25, 0.5, 0.9):
        remedy.before_step(progress)
        found.append(cell(x, selection, active) / x)
    # With b beside each identity: node 1 is (1+b)x, node 2 (1+b)(x + node1), node 3 (1+b)(x + node1 + node2).
    gains = [(1 + b) * (2 + b) * (2 + b) for b in (1.0, 0.5, 0.0, 0.0)]
    for ratio, gain in zip(found, gains, strict=True):
        assert ratio.detach().numpy() == pytest.approx(np.full(ratio.shape, gain), rel=1e-4)
    remedy.before_step(0.0)
    remedy.after_training()
    assert [layer.auxiliary_skip for layer in search.supernet.layers] == [0.0] * 3


def test_beta_decay_is_the_mean_logsumexp_and_grows() -> None:
    logits_N = np.random.default_rng(0).normal(size=30)
    search = searched(step=5, logits=logits_N)
    by_hand = np.mean([np.log(np.exp(logits_N[a:b]).sum()) for a, b in pairwise(range(0, 31, 5))])
    added = BetaDecay(search, strength=4.0).architecture_loss(0, search.constraint.probabilities(0))
    assert float(added.detach()) == pytest.approx(4.0 * 0.5 * by_hand, rel=1e-5)


def test_perturbed_mixtures_stay_within_a_box_that_grows() -> None:
    search = searched(step=5)
    before = mixture(search)
    after = Perturbation(search, first=0.0, last=0.1).weights_selection(before)
    moves = torch.cat([after[n] - before[n] for n in before])  # type: ignore[operator]
    assert 0.03 < float(moves.abs().max()) <= 0.05 + 1e-6
    hard = CELLS.selection((0, 1, 2, 3, 4, 0))
    assert Perturbation(search).weights_selection(hard) == hard


def test_dropped_operations_keep_their_mean_and_skips_are_kept() -> None:
    search = searched(step=5)
    remedy = DropPath(search, most=0.8)
    operations = search.supernet.edge_operations
    x = torch.randn(2000, 4, 2, 2)
    pooled, plain = operations["0.edge01.avg_pool_3x3"], nn.AvgPool2d(3, 1, 1, count_include_pad=False)(x)
    shares = (pooled(x) / plain).mean(dim=(1, 2, 3))
    # Half of the way to 0.8: each image is lost with 0.4, or scaled by 1 / 0.6.
    assert sorted({round(float(share), 4) for share in shares}) == [0.0, round(1 / 0.6, 4)]
    assert float((shares == 0).float().mean()) == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / 2000))
    assert operations["0.edge01.skip_connect"](x) is x
    assert torch.equal(pooled.eval()(x), plain)
    pooled.train()
    remedy.after_training()
    assert torch.equal(pooled(x), plain)


def test_an_operation_freezes_when_its_mean_cosine_over_a_window_is_low() -> None:
    search = searched()
    remedy = Oles(search, threshold=0.4, window=3)
    name, other = "0.edge01.nor_conv_3x3", "0.edge02.nor_conv_3x3"
    for cosine in (0.9, 0.1, 0.1):  # their mean is below 0.4
        remedy._note(name, cosine)
    for cosine in (0.9, 0.2, 0.2):
        remedy._note(other, cosine)
    assert remedy.frozen == {name}
    selection = mixture(search)
    with_gradient(search, selection)
    # On the very batch of the weights the cosine is one, and nothing else freezes.
    remedy.on_weights_gradient(batch(1), batch(1), [selection])
    frozen, free = (list(search.supernet.edge_operations[each].parameters()) for each in (name, other))
    assert all(weight.grad is None for weight in frozen) and all(weight.grad is not None for weight in free)
    assert remedy.cosines[other] == pytest.approx([1.0], abs=1e-5)


def test_the_slope_of_the_alignment_is_its_derivative() -> None:
    gradients_LN = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    root = 1 / np.sqrt(2)
    assert float(alignment(gradients_LN)) == pytest.approx((root + 0.0 + root) / 3)
    # Of the first row: (sum of the other units less their part along its own) over its length and the three pairs.
    assert alignment_slope(gradients_LN)[0].tolist() == pytest.approx([0.0, (root + 1) / 3])


def test_layer_alignment_adds_what_differentiating_twice_gives() -> None:
    search = searched(step=10, logits=np.random.default_rng(0).normal(size=30))
    search.supernet.double()
    selection = {name: torch.as_tensor(weights).double() for name, weights in mixture(search).items()}
    x, y = batch(1)
    data, remedy = (x.double(), y), LayerAlignment(search, strength=0.5, nudge=1e-6)  # no activation changes its sign
    weights = list(search.supernet.parameters())
    at_LN = torch.zeros(3, 30, dtype=torch.float64, requires_grad=True)
    gradients_LN = torch.autograd.grad(remedy._loss(data, selection, at_LN), at_LN, create_graph=True)[0]
    exact = torch.autograd.grad(alignment(gradients_LN), weights, allow_unused=True)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    remedy.on_weights_gradient(data, data, [selection])
    for weight, slope in zip(weights, exact, strict=True):
        assert weight.grad is not None
        expected = torch.zeros_like(weight) if slope is None else -0.5 * slope
        assert torch.allclose(weight.grad, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max() + 1))


def test_layers_that_read_two_cells_are_aligned_as_those_that_read_one() -> None:
    table = CostTable(DartsSpace.small(), TABLE.devices)
    search = searched(step=10, problem=BudgetProblem(table, "mid_tablet", {"gflops": 1e3}))
    selection = mixture(search)
    with_gradient(search, selection)
    weights = {name: weight for name, weight in search.supernet.named_parameters() if weight.grad is not None}
    before = {name: torch.as_tensor(weight.grad).clone() for name, weight in weights.items()}
    LayerAlignment(search, strength=1.0).on_weights_gradient(batch(1), batch(2), [selection])
    moved = [name for name, weight in weights.items() if not torch.equal(torch.as_tensor(weight.grad), before[name])]
    assert any(".edges." in name for name in moved)


def test_the_weakest_skips_go_until_as_many_are_left_as_allowed() -> None:
    logits_N = np.zeros(30)
    logits_N[SKIPS] = [1.0, 2.0, 0.5, 3.0, -1.0, 4.0]
    logits_N[3] = 0.9  # the first edge's skip leads by 0.1 alone
    search = searched(logits=logits_N)
    assert len(skips_of(search, 0)) == 5
    SkipLimit(search, most=3).after_training()
    assert skips_of(search, 0) == SKIPS[[1, 3, 5]].tolist()
    assert search.logits.shared.detach().numpy() == pytest.approx(logits_N)  # other devices have their own


def test_logits_stop_when_the_curvature_has_risen_and_go_back() -> None:
    search = searched()
    remedy = StopEarly(search, window=2, ratio=0.75)
    for number, curvature in enumerate((1.0, 1.2, 1.3, 1.5)):  # 1.0 / 1.3 is above 0.75, and so is 1.2 / 1.5
        with torch.no_grad():
            search.logits.shared.fill_(float(number))
        remedy.note(curvature)
        assert not remedy.stops_architecture
    with torch.no_grad():
        search.logits.shared.fill_(4.0)
    remedy.note(1.8)  # 1.3 / 1.8 is below
    assert remedy.stops_architecture and search.logits.shared.detach().tolist() == [2.0] * 30


def test_logits_stop_at_the_second_skip() -> None:
    search = searched()
    remedy = StopEarly(search, by="skips", every=1)
    for skips, stopped in (((), False), ((0,), False), ((0, 3), True)):
        with torch.no_grad():
            search.logits.shared.zero_()
            search.logits.shared[[0, 5, 10]] = 1.0
            search.logits.shared[SKIPS[list(skips)]] = 2.0
        remedy.on_weights_gradient(batch(1), batch(2), [])
        assert remedy.stops_architecture == stopped


class Square(Supernet):
    """The square of the mean value of a selection: smooth, as finite differences need it to be exact."""

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        return (torch.cat([torch.as_tensor(selection[d.name]) for d in CELLS.decisions]) @ VALUES_N).square()

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        return pytest.fail("no network is extracted from this one")


class Output(Classification):
    """The output is the loss."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs


def test_the_largest_curvature_is_that_of_the_hessian() -> None:
    search = searched(logits=np.random.default_rng(0).normal(size=30))
    search = Searched(Square(CELLS), search.logits, search.constraint, Output(), search.state)

    def loss(logits_N: Tensor) -> Tensor:
        return search.supernet(None, search.selection(search.constraint.softmax(0, logits_N)))

    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, search.logits(0).detach()))
    largest = float(values[values.abs().argmax()])
    assert largest_curvature(search, 0, batch(3)) == pytest.approx(largest, rel=0.05)  # after ten iterations


def test_cheap_networks_learn_less_and_less() -> None:
    search = searched(step=5)
    remedy = PathLearningRate(search, smallest=2.0, largest=0.5)
    middle = np.sqrt(remedy.least * remedy.most)
    powers = [remedy.power(params) for params in (remedy.least, middle, remedy.most)]
    assert powers == pytest.approx([2.0, 1.25, 0.5])
    heaviest = CELLS.selection([4] * 6)
    with_gradient(search, heaviest)
    weights = [weight for weight in search.supernet.parameters() if weight.grad is not None]
    before = [weight.grad.clone() for weight in weights if weight.grad is not None]
    remedy.on_weights_gradient(batch(1), batch(1), [heaviest])
    for weight, gradient in zip(weights, before, strict=True):
        assert weight.grad is not None and torch.allclose(weight.grad, gradient * 0.5**0.5)
    one_hot = search.selection(search.one_hot([4] * 6))
    assert remedy._params(one_hot) == pytest.approx(remedy._params(heaviest), rel=1e-6)


@pytest.mark.parametrize("name", REMEDIES)
def test_a_remedy_leaves_finite_gradients_and_continues_from_its_state(name: str) -> None:
    search = searched(step=2, logits=np.random.default_rng(0).normal(size=30))
    remedy = REMEDIES[name](search)
    remedy.before_step(0.2)
    selection = remedy.weights_selection(mixture(search))
    with_gradient(search, selection)
    remedy.on_weights_gradient(batch(1), batch(2), [selection])
    gradients = [weight.grad for weight in search.supernet.parameters() if weight.grad is not None]
    assert gradients and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    again = REMEDIES[name](search)
    again.load_state_dict(remedy.state_dict())
    assert str(again.state_dict()) == str(remedy.state_dict())
    assert again.stops_architecture == remedy.stops_architecture
    for each in (remedy, again):
        each.after_training()


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (("relaxation=gdas", "sampler=mixture"), ("sampler",)),
        (("relaxation=fair",), ("relaxation",)),
        (("relaxation={name:mixture,order:second,single_level:true}",), ("relaxation.order",)),
        (("remedy=[auxiliary_skip,oles]",), ("remedy.auxiliary_skip", "remedy.oles")),
        (("remedy=[perturbation]",), ("remedy.perturbation",)),
        (("relaxation=mixture", "sampler=mixture", "remedy=[perturbation,beta_decay]"), ()),
    ],
)
def test_parts_that_exclude_each_other_are_refused_by_name(overrides: tuple[str, ...], keys: tuple[str, ...]) -> None:
    config = validate(composed(*TINY, *overrides))
    check: Callable[[], None] = lambda: check_combination(sections(config), config.remedy, SPACE)  # noqa: E731
    if not keys:
        return check()
    with pytest.raises(InvalidInputError) as refused:
        check()
    assert keys_of(str(refused.value)) == keys


def test_every_preset_of_cells_goes_together() -> None:
    names = sorted(path.stem for path in (CONF / "strategy").glob("*.yaml"))
    for name in names:
        config = validate(composed(*CELL_OVERRIDES, f"strategy={name}"))
        check_combination(sections(config), config.remedy, CELLS)
        assert config.strategy["name"] == name
    assert {"darts", "gdas", "drnas", "fair_darts", "oles"} <= set(names)


def test_a_part_on_the_command_line_takes_precedence_over_the_presets() -> None:
    given = composed(
        *CELL_OVERRIDES, "strategy=darts", "constraint=alm", "remedy=[beta_decay]", "arch_optimizer.lr=0.1"
    )
    parts = sections(validate(given))
    assert (parts["constraint"]["name"], parts["relaxation"]["name"]) == ("alm", "mixture")
    assert list(given["remedy"]) == ["beta_decay"] and given["arch_optimizer"]["lr"] == 0.1


def test_rules_are_refused_with_the_fair_sampler() -> None:
    parts = {part: {"name": name} for part, name in (("relaxation", "straight_through"), ("sampler", "fair"))}
    ruled = SimpleNamespace(**{k: getattr(SPACE, k) for k in ("name", "decisions", "hard_decisions")}, rules=("two",))
    ruled.operation_decisions = frozenset()
    with pytest.raises(InvalidInputError) as refused:
        check_combination(parts, {}, ruled)  # type: ignore[arg-type]
    assert keys_of(str(refused.value)) == ("sampler",)
