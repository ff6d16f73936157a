"""The one-line notation of an operation: written, and read back as the same operation or refused."""

from dataclasses import replace

import pytest
import toy_spaces  # noqa: F401 - registers `embedding`
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import draw, narrow_space, np

from hardware_models.measuring.graph import Graph
from hardware_models.testing import made_up_profile
from search_spaces.architecture import SPACES
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, parse_operation

BUILT_IN = ("conv", "linear", "avg_pool", "max_pool", "global_pool", "add", "scale", "batch_norm")
SIDE = st.integers(1, 40)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """Operations that exist, of every kind; windows padded as torch pads them, symmetrically."""
    kind, channels, height, width = draw(st.sampled_from(BUILT_IN)), draw(SIDE), draw(SIDE), draw(SIDE)
    shape = (channels, height, width)
    if kind in ("add", "scale", "batch_norm"):
        return Operation(kind, shape, shape)
    if kind == "global_pool":
        return Operation(kind, shape, (channels, 1, 1))
    bias = kind not in ("conv", "linear") or draw(st.booleans())
    if kind == "linear":
        return Operation(kind, (channels, 1, 1), (draw(SIDE), 1, 1), bias=bias)
    kernel, stride = draw(st.integers(1, min(height, width))), draw(st.integers(1, 4))
    padding = draw(st.integers(0, kernel // 2))
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    if kind != "conv":
        return Operation(kind, shape, (channels, *sides), kernel, stride)
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    return Operation(kind, shape, (groups * draw(SIDE), *sides), kernel, stride, groups, bias)


@given(operations())
@settings(max_examples=500, deadline=None)
def test_operation_is_read_back_from_its_notation(operation: Operation) -> None:
    assert parse_operation(operation.notation) == operation


@pytest.mark.parametrize(
    ("operation", "notation"),
    [
        (Operation("conv", (16, 112, 112), (24, 56, 56), 3, 2), "conv 16x112x112 -> 24x56x56 k3 s2"),
        (Operation("conv", (8, 7, 5), (8, 7, 5), 3, groups=8), "conv 8x7x5 -> 8x7x5 k3 g8"),
        (Operation("conv", (8, 7, 7), (4, 7, 7), bias=False), "conv 8x7x7 -> 4x7x7 nobias"),
        (Operation("linear", (960, 1, 1), (10, 1, 1)), "linear 960x1x1 -> 10x1x1"),
        (
            Operation("avg_pool", (8, 7, 7), (8, 4, 4), 2, 2),
            "avg_pool 8x7x7 -> 8x4x4 k2 s2",
        ),  # rounded up, as ceil_mode
        (Operation("global_pool", (8, 7, 7), (8, 1, 1)), "global_pool 8x7x7 -> 8x1x1"),
    ],
)
def test_notation_leaves_defaults_out(operation: Operation, notation: str) -> None:
    assert operation.notation == notation
    assert parse_operation(notation) == operation


def test_notation_says_nothing_of_what_is_held() -> None:
    held = Operation("add", (8, 7, 7), (8, 7, 7), held=99)
    assert parse_operation(held.notation) == Operation("add", (8, 7, 7), (8, 7, 7))


def test_defaults_may_be_spelled_out() -> None:
    assert parse_operation("conv 16x112x112 -> 24x112x112 k1 s1 g1 bias").notation == "conv 16x112x112 -> 24x112x112"


@pytest.mark.parametrize("name", SPACES)
def test_every_operation_of_a_space_has_a_notation_that_is_read_back(name: str) -> None:
    space = narrow_space(name)
    for indices in draw(space, 20, np.random.default_rng(0)):
        for operation in space.operations(space.choices(indices)):
            again = parse_operation(operation.notation)
            assert (again.notation, again.macs, again.params) == (operation.notation, operation.macs, operation.params)


NO_OPERATIONS = [
    "",
    "conv",
    "gelu 8x7x7 -> 8x7x7",
    "conv 8x7x7 → 8x7x7",
    "conv 8x7x7 -> 8x7x7 s2 k3",
    "conv 8x7x7 -> 8x7x7 k3 k3",
    "conv 8x7x7 -> 8x7x7\n",
    "conv 8x7x-7 -> 8x7x7",
    "conv ٨x7x7 -> 8x7x7",
    "conv 8x7x7 -> 8x7x9999999999",
    "conv 0x7x7 -> 8x7x7",
    "conv 8x7x7 -> 8x7x7 s0",
    "conv 8x7x7 -> 8x7x7 k3 g3",
    "conv 8x7x7 -> 8x7x7 k3 s2",
    "max_pool 8x2x2 -> 8x9x9 k2",
    "max_pool 8x4x4 -> 4x2x2 k2 s2",
    "add 8x7x7 -> 8x7x5",
    "add 8x7x7 -> 4x7x7",
    "scale 8x7x7 -> 8x7x7 nobias",
    "linear 8x1x1 -> 4x1x1 g2",
    "linear 8x7x7 -> 4x1x1",
    "global_pool 8x7x7 -> 8x7x7",
    "global_pool 8x7x7 -> 8x1x1 k7",
]


@pytest.mark.parametrize("text", NO_OPERATIONS)
def test_text_that_is_no_operation_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_operation(text)


@given(st.text(alphabet="conv add_pl 0123456789x->ksgbia", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_an_operation_or_refused(text: str) -> None:
    try:
        operation = parse_operation(text)
    except InvalidInputError:
        return
    assert parse_operation(operation.notation) == operation


def test_the_padded_pointwise_convolution_of_squeezenet_can_be_written() -> None:
    operation = Operation("conv", (512, 14, 14), (1000, 16, 16))  # as ncnn's squeezenet.param has it
    assert parse_operation(operation.notation) == operation


def test_an_operation_of_its_own_precision_is_priced_in_its_bytes_and_written_so() -> None:
    whole = Operation("conv", (8, 7, 7), (16, 7, 7))
    narrow, same = replace(whole, precision="int8"), replace(whole, precision="fp32")
    assert (narrow.notation, parse_operation(narrow.notation)) == ("conv 8x7x7 -> 16x7x7 int8", narrow)
    device = made_up_profile("x", gops=1e6, gb_per_s=1.0, overhead_ms=0.0)  # whose time is that of bytes
    costs = {operation.precision: device.price(operation) for operation in (whole, narrow, same)}
    assert costs[None] == costs["fp32"]
    for metric in ("weight_mb", "activation_mb"):
        assert costs["int8"][metric] == pytest.approx(costs[None][metric] / 4)
    assert costs["int8"]["latency_ms"] == pytest.approx(costs[None]["latency_ms"] / 4, rel=1e-2)
    assert costs["int8"]["params_m"] == costs[None]["params_m"]
    with pytest.raises(InvalidInputError):
        device.price(replace(whole, precision="fp8"))


def test_a_kind_of_its_own_is_counted_by_its_record_and_timed_only_with_a_node() -> None:
    operation = parse_operation("embedding 11x6x1 -> 4x6x1")
    assert (operation.params, operation.macs, operation.in_elements, operation.out_elements) == (44, 0, 6, 24)
    with pytest.raises(InvalidInputError, match="embedding"):
        Graph().add(operation, "tokens")
    with pytest.raises(InvalidInputError, match="embeding"):
        Operation("embeding", (1, 1, 1), (1, 1, 1))
