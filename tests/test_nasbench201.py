"""The cell space against the benchmark's own table, and cells worked out by hand."""

import csv
import gzip
import os

import pytest
import torch
import toy_spaces  # noqa: F401 - registers `separable_3x3`
from spaces import ROOT, yaml_space
from torch import nn

from search_spaces.errors import InvalidInputError
from search_spaces.nasbench201.cell_operations import PartialChannels
from search_spaces.nasbench201.space import (
    EDGES,
    OPERATIONS,
    NasBench201Space,
    edge_name,
    format_arch,
    live_edges,
    parse_arch,
)

DATA = os.environ.get("ESPALIER_DATA") or str(ROOT.parent / "shared" / "data")
TABLE = os.path.join(DATA, "benchmarks", "nb201.csv.gz")
needs_table = pytest.mark.skipif(not os.path.exists(TABLE), reason="needs the NAS-Bench-201 table in ESPALIER_DATA")
NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def rows() -> list[dict[str, str]]:
    with gzip.open(TABLE, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@needs_table
def test_every_cell_of_the_benchmark_is_read_and_written_in_its_notation() -> None:
    cells = rows()
    assert len(cells) == yaml_space("nasbench201").num_networks == 15625
    for row in cells:
        choices = parse_arch(row["arch_str"])
        assert format_arch(choices) == row["arch_str"]
        assert choices == {edge_name(s, t): row[f"e{s}{t}"] for s, t in EDGES}
    assert len({row["arch_str"] for row in cells}) == len(cells)


def without_dead_edges(text: str) -> str:
    choices = parse_arch(text)
    live = {edge_name(*edge) for edge in live_edges(choices)}
    return format_arch({name: choice if name in live else "none" for name, choice in choices.items()})


@needs_table
def test_multiply_adds_of_every_cell_are_those_of_the_benchmark() -> None:
    space = yaml_space("nasbench201")
    # fvcore counts the global pool over 64 channels of 8x8, the benchmark's counter does not.
    pool = 64 * 8 * 8
    # The benchmark counts an edge that leads nowhere too; the same cell without such edges has a row of its own.
    benchmark = {row["arch_str"]: int(row["macs_cifar10"]) for row in rows()}
    num_whole = 0
    for text in benchmark:
        macs = sum(operation.macs for operation in space.operations(parse_arch(text)))
        assert macs == benchmark[without_dead_edges(text)] + pool
        num_whole += without_dead_edges(text) == text
    assert num_whole > 9000


@needs_table
def test_parameters_of_cells_are_those_of_the_benchmark() -> None:
    space = yaml_space("nasbench201")
    whole = [row for row in rows() if without_dead_edges(row["arch_str"]) == row["arch_str"]]
    for row in whole[::900]:
        network = space.network(parse_arch(row["arch_str"]))
        assert sum(parameter.numel() for parameter in network.parameters()) == int(row["params_cifar10"])


def test_edges_are_written_by_target_and_then_by_source() -> None:
    text = "|none~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|nor_conv_3x3~1|none~2|"
    assert parse_arch(text) == {
        "edge01": "none",
        "edge02": "skip_connect",
        "edge12": "avg_pool_3x3",
        "edge03": "nor_conv_1x1",
        "edge13": "nor_conv_3x3",
        "edge23": "none",
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        NONE[:-4],
        NONE.replace("none~2", "none~1"),
        NONE.replace("|none~0|+|none~0|none~1|", "|none~0|none~1|+|none~0|"),
        NONE + "+|none~0|none~1|none~2|none~3|",
        NONE.replace("none~2", "max_pool_3x3~2"),
        NONE.replace("none~2", "None~2"),
        NONE.replace("none~2", "none"),
        NONE.replace("|none~0|+", "", 1),
        NONE.replace("+", " + "),
        NONE.replace("|", ""),
        NONE.replace("|", "||"),
    ],
)
def test_string_that_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_arch(text)


LIVE = {  # cell: its edges on a path of operations from node 0 to node 3
    NONE: [],
    "|skip_connect~0|+|none~0|none~1|+|none~0|none~1|none~2|": [],  # node 1 leads nowhere
    "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|": [(0, 3)],
    # Nodes 1 and 2 receive nothing, so what leaves them is nothing.
    "|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|": [(0, 3)],
    # Node 1 is fed but only node 2 uses it, and node 2 goes nowhere.
    "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|none~1|none~2|": [(0, 3)],
    # One path through every node.
    "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|": [(0, 1), (1, 2), (2, 3)],
    "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|": [(0, 1), (1, 3)],
}


@pytest.mark.parametrize("text", LIVE)
def test_live_edges_are_those_on_a_path_through_the_cell(text: str) -> None:
    assert sorted(live_edges(parse_arch(text))) == LIVE[text]


def test_a_full_cell_lives_on_every_edge() -> None:
    assert live_edges(dict.fromkeys((edge_name(*edge) for edge in EDGES), OPERATIONS[-1])) == list(EDGES)


def test_operations_of_its_own_join_a_space_that_names_them_and_leave_others_as_they_were() -> None:
    assert "operations" not in NasBench201Space().spec()  # as before there were others: the same hash
    space = NasBench201Space.small(operations=["skip_connect", "separable_3x3"])  # and no `none`
    assert space.spec()["operations"] == ["skip_connect", "separable_3x3"]
    choices = dict.fromkeys((edge_name(*edge) for edge in EDGES), "separable_3x3")
    assert space.parse(space.notation(choices)) == choices
    assert "3×3 separable" in space.draw(choices)
    # One batch norm on each of six edges in three stages, beside those of stem, two reductions and head.
    assert sum(isinstance(module, nn.BatchNorm2d) for module in space.network(choices).modules()) == 18 + 1 + 4 + 1
    with pytest.raises(InvalidInputError):
        NasBench201Space(operations=["none", "no_such_operation"])


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (  # a skip before an operation, or after it
            "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
            "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|",
            True,
        ),
        (  # an operation whose output nothing reads
            "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
            "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
            True,
        ),
        (
            "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
            "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|",
            False,
        ),
    ],
)
def test_cells_that_compute_the_same_are_known_as_one(one: str, other: str, alike: bool) -> None:
    space = NasBench201Space.small()
    assert (space.identity(parse_arch(one)) == space.identity(parse_arch(other))) is alike


class Doubled(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_an_operation_on_partial_channels_leaves_the_others_as_they_are() -> None:
    """Of six channels 0 to 5 in two groups the first three are doubled, and the groups take turns: 0 3 1 4 2 5."""
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    doubled = PartialChannels(Doubled(), 2)(x)
    assert doubled.flatten().tolist() == [0.0, 3.0, 2.0, 4.0, 4.0, 5.0]


def test_a_search_of_partial_channels_trains_networks_of_fewer_weights_and_costs_are_those_of_the_whole() -> None:
    partial, plain = (NasBench201Space.small(width=8, search_partial=groups) for groups in (4, None))
    assert partial.spec() == plain.spec()
    assert plain.searched is plain
    convolutions = [
        sum(weight.numel() for name, weight in network.named_parameters() if "edges" in name and weight.dim() == 4)
        for network in (partial.searched.supernet(), plain.searched.supernet())
    ]
    assert convolutions[0] * 16 == convolutions[1]
    torch.manual_seed(0)
    supernet = partial.searched.supernet().eval()
    x = torch.randn(2, 3, 8, 8)
    for indices in ((4, 4, 3, 1, 2, 4), (0, 1, 2, 3, 4, 0)):
        choices = partial.choices(indices)
        torch.testing.assert_close(supernet(x, partial.selection(indices)), supernet.extract(choices).eval()(x))
    for wrong in ({"width": 6, "search_partial": 4}, {"search_partial": "four"}, {"search_partial": 4.0}):
        with pytest.raises(InvalidInputError, match=r"space\.search_partial"):
            NasBench201Space.small(**wrong)
