"""The recount against numbers worked out by hand, and what it refuses."""

import pytest
import torch
from torch import Tensor, nn
from toy_spaces import SensorSpace, TokenSpace

from hardware_models.counting import peak_activation_mb, recount
from hardware_models.measuring.measure import time_module
from search_spaces.blocks import Add, Resize, Scale
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation
from search_spaces.space import SearchSpace
from search_spaces.tracing import deployed, operations_of


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x, self.gate(x))


class Block(nn.Module):
    """MBConv of 4 channels, 8 hidden ones, 3x3, squeezed to 2, with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True)
        )
        self.squeeze = SqueezeExcite(8, 2)
        self.project = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.project(self.squeeze(self.depthwise(self.expand(x)))))


class Residual(nn.Module):
    """Three convolutions in a chain, their input added at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 2, 1)
        self.act = nn.ReLU(inplace=True)
        self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.third(self.act(self.second(self.act(self.first(x))))))


def head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, classes))


def with_statistics(module: nn.Module) -> nn.Module:
    """Batch norms as after training: each with statistics, scales and shifts of its own."""
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            assert tensor is not None
            tensor.uniform_(0.5, 2)
    return module


BLOCK_OPERATIONS = [
    Operation("conv", (4, 6, 6), (8, 6, 6)),
    Operation("conv", (8, 6, 6), (8, 6, 6), kernel=3, groups=8),
    Operation("global_pool", (8, 6, 6), (8, 1, 1)),
    Operation("conv", (8, 1, 1), (2, 1, 1)),
    Operation("conv", (2, 1, 1), (8, 1, 1)),
    Operation("scale", (8, 6, 6), (8, 6, 6)),
    Operation("conv", (8, 6, 6), (4, 6, 6)),
    Operation("add", (4, 6, 6), (4, 6, 6)),
]

# (module, input shape, multiply-adds, parameters once batch norm is folded), each written out as a product.
COUNTED = {
    "convolution": (nn.Conv2d(3, 8, 3, 2, 1), (3, 10, 10), 8 * 3 * 9 * 5 * 5, 8 * 3 * 9 + 8),
    "convolution without bias": (nn.Conv2d(3, 8, 1, bias=False), (3, 4, 4), 8 * 3 * 16, 8 * 3),
    "grouped convolution": (nn.Conv2d(8, 8, 3, 1, 1, groups=4), (8, 4, 4), 8 * 2 * 9 * 16, 8 * 2 * 9 + 8),
    "linear": (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (12, 1, 1), 12 * 5, 12 * 5 + 5),
    "folded batch norm": (
        nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.BatchNorm2d(4)),
        (2, 3, 3),
        4 * 2 * 9,
        4 * 2 + 4,
    ),
    "kept batch norm": (nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(4)), (4, 5, 5), 0, 4 + 4),
    "local pools": (nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(2)), (4, 6, 6), 0, 0),
    "head": (head(4, 7), (4, 6, 6), 4 * 36 + 4 * 7, 4 * 7 + 7),
    "squeeze-excite": (SqueezeExcite(8, 2), (8, 6, 6), 8 * 36 + 8 * 2 + 2 * 8, 8 * 2 + 2 + 2 * 8 + 8),
    "block": (
        Block(),
        (4, 6, 6),
        4 * 8 * 36 + 8 * 9 * 36 + 8 * 36 + 2 * 8 * 2 + 8 * 4 * 36,
        (4 * 8 + 8) + (8 * 9 + 8) + (8 * 2 + 2 + 2 * 8 + 8) + (8 * 4 + 4),
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_recount_equals_hand_count(name: str) -> None:
    module, shape, macs, params = COUNTED[name]
    result = recount(module, shape)
    assert result.gflops * 1e9 == pytest.approx(macs, abs=1e-3)
    assert result.params_m * 1e6 == pytest.approx(params, abs=1e-3)
    assert sum(result.by_operator.values()) == pytest.approx(result.gflops)


@pytest.mark.parametrize("name", COUNTED)
def test_operations_add_up_to_the_multiply_adds_of_fvcore(name: str) -> None:
    module, shape, _, _ = COUNTED[name]
    macs = sum(operation.macs for operation in operations_of(module, shape))
    assert macs == pytest.approx(recount(module, shape).gflops * 1e9, abs=1e-3)


def test_operations_of_a_block_are_the_expected_ones_in_order() -> None:
    assert operations_of(Block(), (4, 6, 6)) == BLOCK_OPERATIONS


def test_operations_of_pools_and_linear_carry_their_shapes() -> None:
    module = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3, bias=False))
    assert operations_of(module, (2, 8, 8)) == [
        Operation("max_pool", (2, 8, 8), (2, 4, 4), kernel=3, stride=2),
        Operation("avg_pool", (2, 4, 4), (2, 2, 2), kernel=2, stride=2),
        Operation("linear", (8, 1, 1), (3, 1, 1), bias=False),
    ]


def test_a_module_called_twice_is_two_operations() -> None:
    shared = nn.Conv2d(4, 4, 1)
    assert len(operations_of(nn.Sequential(shared, nn.ReLU(), shared), (4, 2, 2))) == 2


def test_deployed_network_computes_what_the_trained_one_does() -> None:
    module = with_statistics(nn.Sequential(Block(), nn.AvgPool2d(2), nn.BatchNorm2d(4))).eval()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    folded = deployed(module)
    assert [type(m) for m in folded.modules() if isinstance(m, nn.BatchNorm2d)] == [nn.BatchNorm2d]  # the pool's
    torch.testing.assert_close(folded(x), module(x))


def test_deployed_leaves_its_argument_as_it_was() -> None:
    module = Block().train()
    deployed(module)
    assert module.training
    assert isinstance(module.expand[1], nn.BatchNorm2d)


def test_deployed_network_takes_images_of_its_own_size() -> None:
    module = nn.Sequential(Resize(0.5), nn.Conv2d(3, 4, 1))
    assert operations_of(module, (3, 4, 4)) == [Operation("conv", (3, 4, 4), (4, 4, 4))]


def test_batch_norm_beside_its_convolution_outside_a_sequential_is_refused() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x))

    with pytest.raises(InvalidInputError):
        deployed(nn.Sequential(Loose()))


def test_operator_that_fvcore_cannot_count_is_refused() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(2)

    with pytest.raises(InvalidInputError, match="cannot count aten::cumsum of Sequential"):
        recount(nn.Sequential(nn.Conv2d(2, 2, 1), Sums()), (2, 4, 4))


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


class Around(Shift):
    """A parameter of its own beside a child."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.value


@pytest.mark.parametrize(
    "module",
    [Shift(), Around(), nn.ConvTranspose2d(2, 2, 1), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(2)],
    ids=lambda module: type(module).__name__,
)
def test_module_of_no_known_kind_is_refused(module: nn.Module) -> None:
    with pytest.raises(InvalidInputError):
        operations_of(nn.Sequential(module), (2, 4, 4))


def test_convolution_that_is_not_square_is_counted_as_fvcore_does_and_read_back() -> None:
    convolution = nn.Conv2d(2, 6, (10, 4), stride=2, padding=(5, 1))
    (operation,) = operations_of(convolution, (2, 49, 10))
    assert operation.notation == "conv 2x49x10 -> 6x25x5 k10x4 s2"
    assert parse_operation(operation.notation) == operation
    assert operation.macs == 6 * 25 * 5 * 2 * 10 * 4 == round(recount(convolution, (2, 49, 10)).gflops * 1e9)
    assert operation.params == 6 * 2 * 10 * 4 + 6 and operation.biases == 6


def test_convolution_of_two_strides_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        operations_of(nn.Conv2d(2, 2, 3, stride=(1, 2)), (2, 4, 4))


def test_peak_of_a_residual_chain_is_its_widest_operation_and_the_held_input() -> None:
    # The second convolution reads 6 and writes 6 channels of 5x5 while the input's 2 channels wait for the sum.
    assert peak_activation_mb(Residual(), (2, 5, 5)) == pytest.approx((6 + 6 + 2) * 25 * 4 / 1e6)


def test_peak_scales_with_the_bytes_of_an_element() -> None:
    assert peak_activation_mb(Residual(), (2, 5, 5), bytes_per_element=1) == pytest.approx((6 + 6 + 2) * 25 / 1e6)


def test_peak_without_a_residual_forgets_the_input() -> None:
    chain = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 2, 1))
    assert peak_activation_mb(chain, (2, 5, 5)) == pytest.approx((6 + 6) * 25 * 4 / 1e6)


def test_peak_counts_an_activation_that_is_not_in_place() -> None:
    chain = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU())
    assert peak_activation_mb(chain, (2, 5, 5)) == pytest.approx((6 + 6) * 25 * 4 / 1e6)


def test_peak_of_a_block_is_the_most_that_its_operations_keep_alive() -> None:
    # Scale: reads 8 channels and 8 factors, writes 8 channels, while the residual's 4 channels wait.
    assert peak_activation_mb(Block(), (4, 6, 6)) == pytest.approx(((8 + 8 + 4) * 36 + 8) * 4 / 1e6)


@pytest.mark.parametrize("space", [TokenSpace(), SensorSpace()], ids=lambda space: space.name)
def test_networks_of_tokens_and_of_several_inputs_are_exported_and_timed(space: SearchSpace) -> None:
    network = space.network({d.name: d.choices[0] for d in space.decisions}).eval()
    measurement = time_module(network, space.inputs, repeats=2)
    assert measurement.min_ms > 0
