"""The cell space of DARTS: published cells, the rule of two inputs, and mixed passes beside the paper's own sum."""

from typing import Any

import numpy as np
import pytest
import torch
from plain_darts import plain_logits
from torch import Tensor, nn

from search_spaces.darts.genotype import EDGES, NODES, edge_name
from search_spaces.darts.mixed_source import joined, phases
from search_spaces.darts.space import DartsSpace
from search_spaces.errors import InvalidInputError
from search_spaces.space import Choice
from search_spaces.testing import double_precision, one_hot

# As published in the code of arXiv:1806.09055.
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)
VARIANTS: dict[str, dict[str, Any]] = {
    "all operations": {},
    "beside an identity": {"skip_beside": True},
    "no skip": {"operations": ["none", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_5x5"]},
    "one cell": {"num_cells": 1, "width": 4},
}


def published() -> dict[str, Choice]:
    return DartsSpace().parse(DARTS_V2)


def mixture(space: DartsSpace, *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        d.name: torch.randn(len(d.choices), generator=generator).softmax(0).requires_grad_() for d in space.decisions
    }


def images(side: int = 8, *, seed: int = 0) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_published_network_has_the_published_parameters_and_multiply_adds() -> None:
    space, choices = DartsSpace(), published()
    network = space.network(choices)
    # What the authors' training script prints of it, 3.349342 MB, without the auxiliary head.
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_349_342
    assert sum(operation.macs for operation in space.operations(choices)) == pytest.approx(528e6, rel=2e-3)


def test_genotype_is_read_in_any_order_and_spacing_and_written_in_one() -> None:
    space, choices = DartsSpace(), published()
    written = space.notation(choices)
    assert written.startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ")
    assert "('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2)]" in written
    assert written.endswith("reduce_concat=range(2, 6))")
    assert space.parse(written) == choices
    assert (
        space.parse(DARTS_V2.replace(" ", "\n").replace("'", '"').replace("[2,\n3,\n4,\n5]", "range(2,6)")) == choices
    )
    taken = {name for name, choice in choices.items() if choice != "none"}
    assert taken == {
        *(f"normal_edge{edge}" for edge in ("02", "12", "03", "13", "04", "14", "05", "25")),
        *(f"reduce_edge{edge}" for edge in ("02", "12", "13", "23", "04", "24", "15", "25")),
    }


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Genotype(", "__import__('os').system(", "not a genotype"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=[2, 3]", "not a genotype"),
        ("normal=[('sep_conv_3x3', 0), ", "normal=[", "got 7 edges"),
        ("('dil_conv_3x3', 2)", "('dil_conv_7x7', 2)", "dil_conv_7x7"),
        ("('dil_conv_3x3', 2)", "('none', 2)", "'none'"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "into node 5"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "node 5 reads node 0 twice"),
    ],
)
def test_text_that_is_no_cell_is_refused_with_its_reason(old: str, new: str, reason: str) -> None:
    assert old in DARTS_V2
    with pytest.raises(InvalidInputError, match=reason) as refused:
        DartsSpace().parse(DARTS_V2.replace(old, new, 1))
    assert "one is written" in str(refused.value)  # with an example that is a network


def test_every_drawn_network_has_two_edges_into_each_node() -> None:
    space = DartsSpace()
    networks_Sn = space.rule_matrix.sample(500, np.random.default_rng(0))
    taken_Sn = networks_Sn != space.edge_operations.index("none")
    for cell in range(2):
        for node in NODES:
            into = [14 * cell + place for place, edge in enumerate(EDGES) if edge[1] == node]
            assert (taken_Sn[:, into].sum(axis=1) == 2).all()
    broken = published() | {"normal_edge24": "skip_connect"}
    with pytest.raises(InvalidInputError, match="two edges into normal node 4"):
        space.check(broken)


@pytest.mark.parametrize("variant", VARIANTS)
def test_mixed_pass_is_the_plain_sum_over_operations_with_its_gradients(variant: str) -> None:
    torch.manual_seed(0)
    space = DartsSpace.small(**VARIANTS[variant])
    with double_precision():
        supernet, weights = space.supernet(), mixture(space)
        for side in (8, 10):  # of 10 the halves are odd, whose dilated convolutions run as they are
            x = images(side).contiguous(memory_format=torch.channels_last)
            plain = plain_logits(supernet, x, weights)
            expected = torch.autograd.grad(plain.square().sum(), [*supernet.parameters(), *weights.values()])
            mixed = supernet(x, weights)
            actual = torch.autograd.grad(mixed.square().sum(), [*supernet.parameters(), *weights.values()])
            torch.testing.assert_close(mixed, plain, rtol=1e-9, atol=1e-9)
            largest = max(float(gradient.abs().max()) for gradient in expected)
            for one, other in zip(actual, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9 * largest)


def test_mixed_pass_moves_running_statistics_as_the_plain_sum_does() -> None:
    torch.manual_seed(0)
    space = DartsSpace.small()
    with double_precision():
        one, other = space.supernet(), space.supernet()
        other.load_state_dict(one.state_dict())
        one(images(), mixture(space))
        plain_logits(other, images(), mixture(space))
        torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()))


def test_mixed_pass_with_hooks_calls_every_operation_and_computes_the_same() -> None:
    torch.manual_seed(0)
    space = DartsSpace.small(skip_beside=True)
    with double_precision():
        supernet, weights = space.supernet().eval(), mixture(space)
        expected, called = supernet(images(), weights), []
        for name, operation in supernet.edge_operations.items():
            operation.register_forward_hook(lambda *given, name=name: called.append(name))
        torch.testing.assert_close(supernet(images(), weights), expected, rtol=1e-9, atol=1e-9)
    assert sorted(called) == sorted(supernet.edge_operations)
    assert len(called) == 4 * 14 * 7  # cells, edges, operations


def test_restricted_mixture_runs_its_operations_alone() -> None:
    space = DartsSpace.small()
    supernet, weights = space.supernet(), mixture(space)
    kept = [space.edge_operations.index(name) for name in ("none", "skip_connect", "dil_conv_3x3")]
    supernet.restrict({decision.name: kept for decision in space.decisions})
    supernet(images(), weights).sum().backward()
    reached = {
        name.rpartition(".")[2]
        for name, operation in supernet.edge_operations.items()
        if any(parameter.grad is not None for parameter in operation.parameters())
    }
    assert reached == {"dil_conv_3x3", "skip_connect"}  # of stride 2 a skip has weights


def test_auxiliary_skip_adds_the_input_of_each_mixed_edge() -> None:
    """Of edges whose operations all have weight 0 it is all there is: a node is the sum of the nodes below it."""
    space = DartsSpace.small(num_cells=1)
    with double_precision():
        (cell,) = space.supernet().eval().layers
        cell.auxiliary_skip = 0.5
        nothing = {d.name: torch.zeros(len(d.choices)) for d in space.decisions}
        before = torch.randn(2, 6, 8, 8), torch.randn(2, 6, 8, 8)
        nodes = [prepare(x) for prepare, x in zip(cell.prepare, before, strict=True)]
        for _ in NODES:
            nodes.append(0.5 * sum(nodes))  # type: ignore[arg-type]
        actual = cell(before, nothing, {d.name: tuple(range(8)) for d in space.decisions})
        torch.testing.assert_close(actual, torch.cat(nodes[2:], dim=1))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_phases_are_pixels_of_even_and_odd_rows_and_columns(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 4, 6).contiguous(memory_format=layout)
    parts = phases(x).unflatten(0, (2, 2, -1))
    for row in range(2):
        for column in range(2):
            assert torch.equal(parts[row, column], x[..., row::2, column::2])
    assert torch.equal(joined(phases(x)), x)


def test_edges_beside_an_identity_add_their_input() -> None:
    """With every norm's scale and shift at 0 operations give nothing, and what is left are identities."""
    space = DartsSpace.small(num_cells=1, skip_beside=True)
    choices = {d.name: "none" for d in space.decisions} | {
        edge_name("normal", source, node): "sep_conv_3x3" for node in NODES for source in (0, 1)
    }
    network = space.network(choices).eval()
    for norm in (m for m in network.frame.cells[0].edges.modules() if isinstance(m, nn.BatchNorm2d)):  # type: ignore[union-attr, index]
        nn.init.zeros_(norm.weight)
    cell = network.frame.cells[0]  # type: ignore[union-attr, index]
    before = torch.randn(2, 6, 8, 8), torch.randn(2, 6, 8, 8)
    both = cell.prepare[0](before[0]) + cell.prepare[1](before[1])
    torch.testing.assert_close(cell(before), torch.cat([both] * 4, dim=1))


def test_search_trains_a_smaller_network_of_the_same_decisions() -> None:
    space = DartsSpace(search_width=4, search_cells=5)
    assert space.searched.spec() == space.spec() | {"width": 4, "num_cells": 5}
    assert space.searched.decisions == space.decisions


def test_extracted_network_computes_what_its_one_hot_mixture_does_after_recalibration() -> None:
    space = DartsSpace.small()
    with double_precision():
        supernet = space.supernet()
        indices = space.rule_matrix.sample(1, np.random.default_rng(1))[0]
        supernet.recalibrate(space.selection(indices), [images(seed=1), images(seed=2)])
        network = supernet.extract(space.choices(indices))
        torch.testing.assert_close(network(images()), supernet(images(), one_hot(space, indices)))


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"operations": ["skip_connect", "max_pool_3x3"]}, "space.operations"),
        ({"operations": ["none", "conv_7x7"]}, "space.operations"),
        ({"stem": "mnist"}, "space.stem"),
        ({"image_size": 30}, "space.image_size"),
        ({"stem": "imagenet", "image_size": 48}, "space.image_size"),
        ({"search_cells": 2}, "space.search_cells"),
        ({"width": 1}, "space.width"),
        ({"num_cells": 0}, "space.num_cells"),
    ],
)
def test_what_no_network_can_have_is_refused_by_its_key(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInputError, match=key):
        DartsSpace(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"stem": "imagenet", "image_size": 64, "num_cells": 5},
        {"num_cells": 3, "width": 5, "image_size": [12, 8], "skip_beside": True},
        {"num_cells": 2, "width": 3, "image_size": 7},
    ],
)
def test_declared_memory_is_that_of_the_network_that_runs(arguments: dict[str, Any]) -> None:
    from hardware_models.counting import peak_activation_mb

    space = DartsSpace(**{"width": 4, **arguments})
    for indices in space.rule_matrix.sample(5, np.random.default_rng(0)):
        choices = space.choices(indices)
        largest = max(operation.live_elements for operation in space.operations(choices))
        assert largest * 4 / 1e6 == pytest.approx(peak_activation_mb(space.network(choices), space.inputs), rel=1e-9)
