"""Training-free scores on networks small enough to work them out by hand, and the model that carries them."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from tiny_search import binding_problem, small_space
from torch import Tensor, nn

from search_spaces.nasbench201.space import NasBench201Space, parse_arch
from trainers.data.task import Classification
from trainers.search.priors.az_nas import expressivity, progressivity, trainability
from trainers.search.priors.fresh import PRIORS, Fresh, blocks_of
from trainers.search.priors.gradient_norm import gradient_norm
from trainers.search.priors.live_parameters import live_parameters
from trainers.search.priors.naswot import naswot
from trainers.search.priors.prior import combined, fit_prior, sample, starting_logits
from trainers.search.priors.ridge import fit_ridge
from trainers.search.priors.snip import snip
from trainers.search.priors.swap import swap
from trainers.search.priors.synflow import synflow
from trainers.search.priors.zen import STEP, zen
from trainers.search.priors.zico import zico

LOG2 = math.log(2)


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def fresh(network: nn.Module, inputs: Tensor, targets: list[int] | None = None) -> Fresh:
    return Fresh(network, inputs, torch.tensor(targets or [0] * len(inputs)), Classification())


class Chain(nn.Module):
    """Blocks that scale their map by fixed factors, each with a part of its own."""

    def __init__(self, *scales: float, channels: int = 1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False)) for _ in scales)
        for block, scale in zip(self.blocks, scales, strict=True):
            block[0].weight.data = scale * torch.eye(channels)[..., None, None]  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3))


def test_live_parameters_are_weights_of_convolutions_and_linear_layers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert live_parameters(fresh(network, torch.zeros(1, 3, 3, 3))) == 3 * 4 * 9 + 4 * 2


def test_signs_of_two_samples_that_agree_in_one_unit_of_two() -> None:
    """Units are positive for (both, the second): two patterns; the kernel is ((2, 1), (1, 2))."""
    network = nn.Sequential(linear([1.0, 1.0], [1.0, -1.0]), nn.ReLU())
    both = fresh(network, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    assert swap(both) == 2
    assert naswot(both) == pytest.approx(math.log(3))


def test_activations_that_write_over_their_input_are_read_before() -> None:
    one = fresh(nn.Sequential(linear([1.0], [-1.0]), nn.Hardswish(inplace=True)), torch.tensor([[4.0], [5.0]]))
    assert swap(one) == 2  # one unit always positive, one never


def test_synflow_is_the_sum_over_paths_of_absolute_products() -> None:
    network = nn.Sequential(linear([1.0, -2.0]), linear([-3.0]))
    assert synflow(fresh(network, torch.zeros(1, 2))) == pytest.approx(math.log(2 * (1 + 2) * 3))  # of two layers


def test_two_equal_uncorrelated_channels_have_an_entropy_of_log_two() -> None:
    x = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]]).reshape(1, 2, 2, 2)
    two = fresh(Chain(1.0, 3.0, channels=2), x)
    assert expressivity(two) == pytest.approx(2 * LOG2)
    assert progressivity(two) == pytest.approx(0.0, abs=1e-9)


def test_a_channel_that_a_block_puts_out_lowers_progressivity() -> None:
    network, x = Chain(1.0, 1.0, channels=2), torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])
    network.blocks[1][0].weight.data[1] = 0.0  # type: ignore[index,union-attr,operator]
    assert progressivity(fresh(network, x.reshape(1, 2, 2, 2))) == pytest.approx(-LOG2)


def test_trainability_is_largest_where_gradients_keep_their_size() -> None:
    x = torch.randn(2, 1, 3, 3)
    assert trainability(fresh(Chain(1.0, 1.0), x)) == pytest.approx(0.0, abs=1e-5)
    assert trainability(fresh(Chain(1.0, 4.0), x)) == pytest.approx(2 - 4 - 1 / 4, rel=1e-5)


def test_gradient_scores_of_one_layer() -> None:
    """Two equal outputs: the loss pushes each weight by half, up for the target, down for the other."""
    one = fresh(linear([3.0], [3.0]), torch.tensor([[1.0]]))
    assert gradient_norm(one) == pytest.approx(math.sqrt(0.5))
    assert snip(one) == pytest.approx(3.0)


def test_zico_is_the_log_of_mean_over_deviation_of_the_gradients() -> None:
    """Gradients of (1, 3) times a half: mean 1, deviation 1/2, for each of two weights."""
    two = fresh(linear([0.0], [0.0]), torch.tensor([[1.0], [3.0]]))
    assert zico(two) == pytest.approx(math.log(2 + 2))


def test_zen_is_the_move_of_the_last_map_with_the_scale_that_batch_norm_took() -> None:
    x = torch.zeros(64, 3, 16, 16)
    assert zen(fresh(nn.AdaptiveAvgPool2d(1), x)) == pytest.approx(math.log(STEP * math.sqrt(2 / math.pi)), abs=0.02)
    normed = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))
    plain = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.AdaptiveAvgPool2d(1))
    assert zen(fresh(normed, x)) == pytest.approx(zen(fresh(plain, x)), abs=0.5)


def test_blocks_of_a_cell_network_are_its_cells_and_reductions() -> None:
    space = NasBench201Space.small()
    network = space.network(parse_arch("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|"))
    assert [type(block).__name__ for block in blocks_of(network)] == ["Cell"] * 3 + ["Reduction"] * 2


@pytest.mark.parametrize("name", sorted(PRIORS))
@pytest.mark.parametrize("space", [small_space(), NasBench201Space.small()], ids=lambda space: space.name)
def test_every_score_is_the_same_number_each_time(name: str, space: NasBench201Space) -> None:
    largest = space.choices([len(decision.choices) - 1 for decision in space.decisions])
    _, *shape = (1, *space.deploy_shape)
    scores = []
    for _ in range(2):
        torch.manual_seed(0)
        network = space.network(largest).train()
        inputs = torch.randn(8, *shape)
        scores.append(PRIORS[name](fresh(network, inputs, list(range(4)) * 2)))
    assert scores[0] == scores[1]
    assert math.isfinite(scores[0])


def test_leave_one_out_predictions_are_those_of_models_without_the_one() -> None:
    generator = np.random.default_rng(0)
    x, noise = generator.normal(size=(12, 3)), generator.normal(size=12)
    y = x @ [1.0, -2.0, 0.5] + noise
    fitted = fit_ridge(x, y, strength=1e-9)
    left_out = []
    for k in range(12):
        kept = np.delete(np.arange(12), k)
        slopes, *_ = np.linalg.lstsq(np.c_[x[kept], np.ones(11)], y[kept])
        left_out.append(np.r_[x[k], 1.0] @ slopes)
    assert fitted.tau == pytest.approx(kendalltau(y, left_out).statistic)
    assert fitted.predict(x) == pytest.approx(np.c_[x, np.ones(12)] @ np.linalg.lstsq(np.c_[x, np.ones(12)], y)[0])


def test_a_feature_that_never_changes_has_no_say() -> None:
    x = np.c_[np.arange(6.0), np.ones(6)]
    fitted = fit_ridge(x, np.arange(6.0))
    assert fitted.predict(np.array([[2.0, 1.0]])) == fitted.predict(np.array([[2.0, 99.0]]))


def test_ranks_are_summed_as_logarithms() -> None:
    scores = {"one": np.array([0.0, 5.0]), "other": np.array([7.0, 6.0])}
    assert combined(scores) == pytest.approx([-LOG2, -LOG2])


def test_logits_prefer_what_scores_well_and_leave_the_pool_its_share() -> None:
    space = small_space()
    problem = binding_problem(space)
    start, generator = problem.start()[0], np.random.default_rng(0)
    networks = sample([problem], [start], 60, generator)
    assert problem.is_feasible(networks).all()
    assert len({tuple(space.features(space.choices(n))) for n in networks}) == len(networks)
    varied = int(networks.std(axis=0).argmax())
    first, after = problem.table.first_choice[varied : varied + 2]
    prior = fit_prior(space, networks, {"one decision": networks[:, varied].astype(float)})
    shares = {}
    for share in (0.9, 0.2):
        logits_N = starting_logits(prior, [problem], [start], pool_share=share, generator=np.random.default_rng(1))
        shares[share] = float(logits_N[after - 1] - logits_N[first])
    assert shares[0.2] > shares[0.9] > 0
