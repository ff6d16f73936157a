"""Model spaces of nni: those of its hub are read as nni means them, and what cannot be read is refused by name."""

import subprocess
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from console import SEARCH, Cli, console, done
from tiny_search import SHORT
from torch import Tensor, nn

from hardware_models.counting import peak_activation_mb, recount
from search_spaces.errors import InvalidInputError
from search_spaces.nni.space import NniSpace
from search_spaces.testing import SpaceContracts, double_precision, one_hot
from search_spaces.tracing import operations_of
from trainers.cli.overrides import as_meant

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nni
    import nni.nas.nn.pytorch as pnn
    from nni.nas.nn.pytorch.base import ParametrizedModule

HUB: Mapping[str, Mapping[str, Any]] = {
    "NasBench201": {"stem_out_channels": 4, "num_modules_per_stack": 1},
    "ProxylessNAS": {"base_widths": [8, 8, 8, 8, 8, 8, 8, 16, 16]},
    "MobileNetV3Space": {
        "base_widths": [8, 8, 16, 16, 16, 16, 16, 16, 16],
        "width_multipliers": [0.5, 1.0],
        "expand_ratios": [1.0, 2.5],
        "depth_range": [1, 2],
    },
    "ShuffleNetSpace": {"channel_search": True},
}
# Of MobileNetV3: 8 widths, 2 kernels, 5 depths, and of 10 blocks expansion, kernel and, of 6, squeeze-and-excitation.
NUM_DECISIONS = {"NasBench201": 6, "ProxylessNAS": 26, "MobileNetV3Space": 8 + 2 + 5 + 20 + 6, "ShuffleNetSpace": 40}


@pytest.fixture(params=HUB, scope="class")
def _hub_space(request: pytest.FixtureRequest) -> None:
    target = f"nni.nas.hub.pytorch:{request.param}"
    request.cls.space = NniSpace(target=target, arguments=HUB[request.param], num_classes=3, image_size=32)
    request.cls.title = request.param


@pytest.mark.usefixtures("_hub_space")
class TestHub:
    """Spaces that nni ships, at small shapes."""

    space: NniSpace
    title: str

    def contracts(self) -> SpaceContracts:
        found = SpaceContracts()
        found.space = self.space
        return found

    def test_decisions_are_those_of_nni(self) -> None:
        whole = self.space._class(num_labels=3, **self.space.arguments)
        assert {d.name: len(d.choices) for d in self.space.decisions} == {
            label: len(mutable.values) for label, mutable in whole.simplify().items()
        }
        assert len(self.space.decisions) == NUM_DECISIONS[self.title]

    @torch.no_grad()
    def test_network_is_what_nni_freezes_with_the_weights_of_the_supernet(self) -> None:
        contracts = self.contracts()
        with double_precision():
            supernet, (image,) = contracts.trained(), contracts.inputs()
            for indices in contracts.networks(4):
                choices = self.space.choices(indices)
                network = supernet.extract(choices)
                expected = network(image)
                for selection in (self.space.selection(indices), one_hot(self.space, indices)):
                    contracts.assert_same(supernet(image, selection), expected)
                frozen = self.space._class.frozen_factory(self.space.sample(choices))(
                    num_labels=3, **self.space.arguments
                )
                # nni leaves out modules that do nothing, so that paths differ and the order does not.
                weights = dict(zip(frozen.state_dict(), network.state_dict().values(), strict=True))
                frozen.load_state_dict(weights)
                contracts.assert_same(frozen.double().eval()(image), expected)
                self.space.network(choices).load_state_dict(network.state_dict())
                assert not any(isinstance(m, ParametrizedModule) for m in network.modules())

    def test_sites_count_what_runs(self) -> None:
        supernet = self.space.supernet()
        for indices in self.contracts().networks(2):
            choices = self.space.choices(indices)
            network, operations = supernet.extract(choices).eval(), self.space.operations(choices)
            counted = recount(network, self.space.inputs)
            assert counted.gflops * 1e9 == pytest.approx(sum(operation.macs for operation in operations))
            assert counted.params_m * 1e6 == pytest.approx(sum(operation.params for operation in operations))
            plain = [replace(operation, held=0).notation for operation in operations]
            assert sorted(plain) == sorted(op.notation for op in operations_of(network, self.space.inputs))
            most = max(operation.live_elements for operation in operations)
            assert peak_activation_mb(network, self.space.inputs) * 1e6 / 4 == pytest.approx(most)


# Marks of nni


class Images(pnn.ModelSpace):
    """A stem, the layers of a subclass, and a classifier."""

    def __init__(self, num_labels: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.layers = self.parts()
        self.classifier = nn.Linear(4, num_labels)

    def parts(self) -> nn.Module:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(self.stem(x)).mean((2, 3)))


def space_of(target: type[nn.Module], **arguments: Any) -> NniSpace:
    return NniSpace(target=target, num_classes=2, image_size=4, arguments=arguments)


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))
        self.chosen = pnn.InputChoice(3, 2, reduction="mean", label="chosen")

    def forward(self, x: Tensor) -> Tensor:
        return self.chosen([conv(x) for conv in self.convs])


class Joining(Images):
    def parts(self) -> nn.Module:
        return Joined()


def test_several_chosen_inputs_are_one_decision_of_their_combinations() -> None:
    space = space_of(Joining)
    assert space.decisions[0].choices == ("0+1", "0+2", "1+2")
    x, supernet = torch.rand(2, 3, 4, 4), space.supernet()
    maps = [conv(supernet.whole.stem(x)) for conv in supernet.whole.layers.convs]
    expected = supernet.whole.classifier(((maps[0] + maps[2]) / 2).mean((2, 3)))
    torch.testing.assert_close(supernet(x, {"chosen": 1}), expected)
    torch.testing.assert_close(supernet.extract({"chosen": "0+2"})(x), expected)


class Falling(Images):
    """A depth and a width that shrink as what is chosen grows, and alternatives without names."""

    def parts(self) -> nn.Module:
        wide = nni.choice("wide", [4, 2])
        pair = nn.Sequential(pnn.MutableConv2d(4, wide, 1), pnn.MutableConv2d(wide, 4, 3, padding=1))
        blocks = pnn.Repeat(lambda _: nn.Conv2d(4, 4, 1), 1 + nni.choice("more", [0, 2]))
        return nn.Sequential(pair, blocks, pnn.LayerChoice([nn.Identity(), nn.Conv2d(4, 4, 1)], label="last"))


def test_depths_of_expressions_and_values_in_any_order_are_read() -> None:
    space = space_of(Falling)
    assert {d.name: d.choices for d in space.decisions} == {"wide": (4, 2), "more": (0, 2), "last": ("0", "1")}
    network = space.supernet().extract({"wide": 2, "more": 2, "last": "1"})
    shapes = [tuple(m.weight.shape) for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [(4, 3, 1, 1), (2, 4, 1, 1), (4, 2, 3, 3), *[(4, 4, 1, 1)] * 4]


# What is refused


class Continuous(Images):
    def parts(self) -> nn.Module:
        return pnn.MutableDropout(nni.uniform("rate", 0.1, 0.9))


class Dropped(Images):
    def parts(self) -> nn.Module:
        return pnn.MutableDropout(nni.choice("rate", [0.1, 0.9]))


class Reversed(Images):
    def parts(self) -> nn.Module:
        width = 6 - nni.choice("width", [2, 4])
        return nn.Sequential(pnn.MutableConv2d(4, width, 1), pnn.MutableConv2d(width, 4, 1))


class Switched(Images):
    def parts(self) -> nn.Module:
        return pnn.Repeat(lambda _: nn.Identity(), nni.choice("depth", [1, 2]) * nni.choice("half", [False, True]))


class Biased(Images):
    def parts(self) -> nn.Module:
        return pnn.MutableConv2d(4, 4, 3, padding=1, bias=nni.choice("bias", [False, True]))


class Listed(Images):
    def parts(self) -> nn.Module:
        return pnn.InputChoice(2, 1, reduction="none", label="listed")


class Scale(pnn.MutableModule):
    def __init__(self) -> None:
        super().__init__()
        self.add_mutable(nni.choice("factor", [1, 2]))


class OwnCode(Images):
    def parts(self) -> nn.Module:
        return Scale()


class Fixed(Images):
    def parts(self) -> nn.Module:
        return nn.Identity()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Continuous, "'rate'.*no list of values"),
        (Dropped, "MutableDropout: searched p,"),
        (Reversed, "2 where its parts are largest, 4 elsewhere"),
        (Switched, "depth of Repeat.*allowed: whole numbers"),
        (Biased, "searched bias, which is no size"),
        (Listed, "reduction none"),
        (OwnCode, "Scale: code of its own reads factor"),
        (Fixed, "nothing in its network is marked"),
        (nn.Identity, "no ModelSpace of nni"),
        ("nni.nas.hub.pytorch:DARTS", "is a Cell of nni.*space=darts"),
        ("nni.nas.hub.pytorch:AutoFormer", "RelativePositionSelfAttention: code of its own"),
        ("nni.nas.hub.pytorch:Missing", "no class of torch modules"),
        ("nni.retiarii:Anything", "plugins=nni.retiarii"),
        ("no_such_module:Net", "plugins=no_such_module"),
    ],
    ids=lambda value: getattr(value, "__name__", value).rpartition(":")[2],
)
def test_what_cannot_be_read_is_refused_by_name(target: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=f"(?s){words}"):
        NniSpace(target=target, num_classes=2, image_size=4)


def test_arguments_that_the_target_does_not_take_are_refused() -> None:
    for arguments in ({"no_such": 1}, {"base_widths": [8]}):
        with pytest.raises(InvalidInputError, match="cannot be called"):
            NniSpace(target="nni.nas.hub.pytorch:ProxylessNAS", arguments=arguments)


def test_images_that_no_network_takes_are_refused_with_what_to_give() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot run on \[\(1, 1, 32, 32\)\].*data.channels"):
        NniSpace(target="nni.nas.hub.pytorch:ShuffleNetSpace", channels=1).supernet()


# Commands


def test_nni_is_imported_where_such_a_space_is_made_alone() -> None:
    script = (
        "import sys, search_spaces.nni.space, search_spaces.nni.supernet\n"
        "from search_spaces.architecture import SPACES\n"
        "SPACES['module'].small().decisions, SPACES['nni']\n"
        "assert 'nni' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_arguments_of_a_target_may_be_any() -> None:
    assert as_meant("space.arguments={width: 2}") == "++space.arguments={width: 2}"
    assert as_meant("space.arguments.width=2") == "++space.arguments.width=2"
    assert as_meant("+space.arguments.width=2") == "+space.arguments.width=2"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(SEARCH, monkeypatch, capsys, tmp_path, f"paths.runs={tmp_path}/runs")


def test_a_space_of_the_hub_is_searched_within_its_budget(search: Cli) -> None:
    hub = ("space=nni", "space.target=nni.nas.hub.pytorch:NasBench201", "data.channels=3")
    small = "space.arguments={stem_out_channels: 4, num_modules_per_stack: 1}"
    output = done(search(*hub, small, *SHORT, "hardware=[mid_tablet]", "strategy.pool_size=32", "trainer.candidates=1"))
    assert "mid_tablet: budgets met" in output and "1/1 devices within budget" in output
