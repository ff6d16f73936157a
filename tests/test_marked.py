"""Spaces of marked modules: what marks mean, which costs they find, and what is refused. Contracts: test_contracts."""

import csv

import numpy as np
import pytest
import torch
from data_files import REPOSITORY, real
from torch import Tensor, nn

from search_spaces.errors import InvalidInputError
from search_spaces.fbnet import FBNetSpace
from search_spaces.marked.marks import Choice, Depth, building, number
from search_spaces.marked.number import Number, scaled
from search_spaces.marked.user_module import ModuleSpace
from search_spaces.nasbench_macro import NasBenchMacroSpace
from search_spaces.operation import Operation
from search_spaces.tiny_ds import TinyDSSpace, feature_matrix
from search_spaces.tiny_mobile import TinyMobileSpace
from search_spaces.tiny_resnet import TinyResNetSpace


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Chain(nn.Module):
    """A chain of the layers that a subclass gives, and a classifier of its last width."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers, width = self.parts()
        self.classifier = nn.Linear(width, num_classes)

    def parts(self) -> tuple[nn.Module, int]:
        width = number("width", 2, 4)
        return nn.Sequential(conv(3, width), nn.ReLU()), width

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(x).mean((2, 3)))


def space_of(network: type[nn.Module], size: int = 4) -> ModuleSpace:
    return ModuleSpace(target=network, num_classes=2, image_size=size)


# Numbers


def test_number_is_the_chosen_value_in_one_network_and_all_of_them_in_a_supernet() -> None:
    with building({"width": 4}):
        assert type(number("width", 2, 4, 8)) is int and number("width", 2, 4, 8) == 4
    with building() as builder:
        width, expand = number("width", 2, 4), number("expand", 1, 3)
        product = width * expand
        quotient = scaled(product, lambda channels: max(2, channels // 4))
        assert isinstance(product, Number) and isinstance(quotient, Number)
        assert product == 12 and set(product.values.values()) == {2, 6, 4, 12}
        assert set(quotient.values.values()) == {2, 3} and (width // 2).values == {(0,): 1, (1,): 2}
    assert [d.name for d in builder.decisions.values()] == ["width", "expand"]
    assert scaled(16, lambda channels: channels // 4) == 4


@pytest.mark.parametrize("values", [(), (4, 2), (0, 1), (2.0, 4.0)], ids=str)
def test_number_of_other_values_is_refused(values: tuple[int, ...]) -> None:
    with building(), pytest.raises(InvalidInputError, match="width"):
        number("width", *values)


def test_numbers_are_not_added() -> None:
    with building(), pytest.raises(InvalidInputError, match="side by side"):
        number("first", 2, 4) + number("second", 2, 4)


def test_one_name_is_one_decision() -> None:
    with building() as builder:
        number("width", 2, 4)
        number("width", 2, 4)
        with pytest.raises(InvalidInputError, match="declared with choices"):
            number("width", 2, 8)
    assert list(builder.decisions) == ["width"]


def test_marks_outside_of_a_space_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="outside of one"):
        number("width", 2, 4)


# Networks


class Deep(Chain):
    def parts(self) -> tuple[nn.Module, int]:
        inner = Choice("inner", {"small": conv(4, 4, 1), "large": conv(4, 4, number("kernel", 3, 5))})
        return nn.Sequential(conv(3, 4), Depth("depth", conv(4, 4), inner)), 4


def test_choices_of_what_is_left_out_change_nothing() -> None:
    space = space_of(Deep)
    base = {"inner": "small", "kernel": 3, "depth": 1}
    assert space.used(base) == {"depth"} and space.notation(base) == "depth=1"
    assert space.identity(base) == space.identity({**base, "inner": "large", "kernel": 5})
    deep = {**base, "depth": 2}
    assert space.used(deep) == {"depth", "inner"}
    assert space.used({**deep, "inner": "large"}) == {"depth", "inner", "kernel"}
    assert space.operations({**base, "kernel": 5}) == space.operations(base) != space.operations(deep)


def test_places_depend_on_what_changes_them_and_no_more() -> None:
    scopes = {frozenset(site.scope) for site in space_of(Deep).sites}
    kernel = {"depth", "inner", "kernel"}
    assert scopes == {frozenset(), frozenset({"depth"}), frozenset({"depth", "inner"}), frozenset(kernel)}


def test_depth_of_none_and_optional_layers() -> None:
    class Optional(Chain):
        def parts(self) -> tuple[nn.Module, int]:
            maybe = Choice("maybe", {"skip": nn.Identity(), "conv": lambda: conv(4, 4)})
            return nn.Sequential(conv(3, 4), maybe, Depth("more", lambda: conv(4, 4))), 4

    space = space_of(Optional)
    every = [(maybe, more) for maybe in ("skip", "conv") for more in (0, 1)]
    counts = {pair: len(space.operations({"maybe": pair[0], "more": pair[1]})) for pair in every}
    assert counts == {("skip", 0): 3, ("conv", 0): 4, ("skip", 1): 4, ("conv", 1): 5}
    network = space.network({"maybe": "skip", "more": 0})
    assert network(torch.zeros(1, 3, 4, 4)).shape == (1, 2)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 1


def test_arithmetic_written_in_forward_is_counted_and_what_it_holds_too() -> None:
    class Sum(Chain):
        def parts(self) -> tuple[nn.Module, int]:
            self.body = conv(4, 4, number("kernel", 1, 3))
            return conv(3, 4), 4

        def forward(self, x: Tensor) -> Tensor:
            x = self.layers(x)
            return self.classifier((x + self.body(self.body(x))).mean((2, 3)))

    operations = space_of(Sum).operations({"kernel": 3})
    assert sorted(op.kind for op in operations) == ["add", "conv", "conv", "conv", "global_pool", "linear"]
    second = [op for op in operations if op.in_shape == op.out_shape and op.kind == "conv"]
    assert [op.held for op in second] == [0, 4 * 16]  # the second call runs while the sum's other part waits


class Tripled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x, x, x]).sum(0)


def test_code_of_classes_without_weights_is_counted_as_what_it_computes() -> None:
    class Stacked(Chain):
        def parts(self) -> tuple[nn.Module, int]:
            return nn.Sequential(conv(3, 4, number("kernel", 1, 3)), Tripled()), 4

    operations = space_of(Stacked).operations({"kernel": 3})
    assert sorted(op.kind for op in operations) == ["add", "add", "conv", "global_pool", "linear"]
    # One map of 4 x 4 x 4, three of them stacked, and their sum; an add itself has two and the sum.
    assert [op.held for op in operations if op.kind == "add"] == [64, 64]


# What is refused


class Bare(Chain):
    def parts(self) -> tuple[nn.Module, int]:
        return conv(3, 4), 4


class Normed(Chain):
    def parts(self) -> tuple[nn.Module, int]:
        width = number("width", 2, 4)
        return nn.Sequential(nn.Conv2d(3, width, 1), nn.GroupNorm(1, width)), width


class Mismatched(Chain):
    def parts(self) -> tuple[nn.Module, int]:
        return Choice("layer", {"narrow": conv(3, 2), "wide": conv(3, 4)}), 4


class Unused(Chain):
    def parts(self) -> tuple[nn.Module, int]:
        number("lost", 2, 4)
        return super().parts()


def built(network: type[nn.Module]) -> int:
    space = space_of(network)
    space.supernet()
    return len(space.sites)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Bare, "nothing in its network is marked"),
        (Normed, "cannot share weights between sizes"),
        (Mismatched, "cannot run"),
        (Unused, "no layer uses the searched lost"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_network_that_cannot_be_searched_is_refused(network: type[nn.Module], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        built(network)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_module:Net", "plugins=no_such_module"),
        ("subprocess:run", "no class of torch modules"),
        ("torch.nn:Missing", "no class of torch modules"),
        ("Net", "not imported"),
        ("search_spaces.marked.example:Missing", "no class of torch modules"),
    ],
)
def test_target_that_is_no_imported_class_of_modules_is_refused(target: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        ModuleSpace(target=target)


def test_arguments_that_the_target_does_not_take_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot be called"):
        ModuleSpace(arguments={"no_such": 1})


# Named networks


def counted(operations: list[Operation]) -> tuple[int, int, int, int]:
    """Multiply-adds but those of pools, parameters, biases among them, and the most live elements."""
    macs = sum(op.macs for op in operations if op.kind != "global_pool")
    params, biases = sum(op.params for op in operations), sum(op.biases for op in operations)
    return macs, params, biases, max(op.live_elements for op in operations)


def test_networks_of_mlperf_tiny_are_points_of_the_spaces_with_their_published_counts() -> None:
    """Counted from the files of github.com/mlcommons/tiny: benchmark/training, and runs of the closed division."""
    resnet = TinyResNetSpace()
    assert counted(resnet.operations(resnet.reference())) == (12_501_632, 77_706, 346, 49_152)
    large = counted(resnet.operations(resnet.reference(large=True)))
    assert (*large[:2], large[3]) == (76_473_920, 480_330, 122_880)
    mobile = TinyMobileSpace()
    vww = counted(mobile.operations(mobile.reference()))
    assert (*vww[:2], vww[3]) == (7_489_664, 210_850, 55_296)
    keywords = TinyDSSpace()
    features, *others = keywords.operations(keywords.reference())
    dscnn = counted(others)
    assert (*dscnn[:2], dscnn[3]) == (2_656_768, 22_604, 16_000)
    assert (features.macs, features.params) == (49 * 40 * 10, 400)  # which the published network has before it


def test_cepstra_are_those_of_the_shared_features() -> None:
    file = real("kws", "kws_logmel_u8_49x40.npz") / "kws" / "kws_logmel_u8_49x40.npz"
    with np.load(file) as stored:
        logmel = stored["logmel"][:20] * stored["scale"] + stored["offset"]
        levels = stored["mfcc"][:20]
    cepstra = logmel @ feature_matrix("cepstra10", 40).numpy()
    assert np.abs(np.clip(np.trunc(cepstra / 0.5847 + 83), -128, 127) - levels).max() <= 1


@pytest.mark.parametrize("features", ["cepstra0", "bands7", "cepstra41", "mfcc10", "bands"])
def test_features_that_a_log_mel_does_not_give_are_refused(features: str) -> None:
    with pytest.raises(InvalidInputError, match="features"):
        TinyDSSpace(features=["cepstra10", features])


def test_blocks_of_fbnet_have_the_multiply_adds_of_the_published_table() -> None:
    file = real("latency", "fbnet_lut_hwnasbench.csv") / "latency" / "fbnet_lut_hwnasbench.csv"
    space = FBNetSpace(num_classes=100)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    skips = {d.name: "skip" for d in space.decisions}
    base = sum(op.macs for op in space.operations(skips))
    compared = 0
    for row in rows:
        of_skip = next(r for r in rows if r["layer"] == row["layer"] and r["op_name"] == "skip")
        if row["op_name"] == "skip" or not of_skip["macs"]:
            continue  # a skip that changes the shape has no count in the table
        operations = space.operations({**skips, f"layer{row['layer']}": row["op_name"]})
        assert sum(op.macs for op in operations) - base == float(row["macs"])
        compared += 1
    assert compared == 8 * 16  # layers that keep their shape, and every block but the skip


@pytest.mark.parametrize(
    ("space", "notation"),
    [(NasBenchMacroSpace(), "01201212"), (FBNetSpace(), "7 8 1 8 4 8 8 8 7 4 1 4 7 3 2 7 3 2 4 2 4 5")],
    ids=["nasbench_macro", "fbnet"],
)
def test_networks_are_written_as_their_papers_do(space: NasBenchMacroSpace | FBNetSpace, notation: str) -> None:
    assert space.notation(space.parse(notation)) == notation
    for wrong in ("", notation[:-1] + "9", notation + notation):
        with pytest.raises(InvalidInputError, match="no network of the space"):
            space.parse(wrong)


def test_sizes_of_the_benchmark_spaces() -> None:
    assert NasBenchMacroSpace().num_networks == 3**8 == 6561
    assert FBNetSpace().num_networks == 9**22


def test_own_model_of_the_docs_is_a_space_of_under_forty_lines() -> None:
    text = (REPOSITORY / "docs" / "spaces.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, type[nn.Module]] = {}
    exec(code, names)
    assert len(code.splitlines()) < 40
    space = ModuleSpace(target=names["MyNet"], num_classes=2, image_size=8)
    assert {d.name for d in space.decisions} >= {"width", "down", "depth", "block0.kernel"}
    assert space.num_networks == 3 * 2 * 3 * 6**3
