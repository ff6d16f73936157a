"""ncnn's networks get the pools and scales of squeeze-excite, which its table of layers leaves out."""

import runpy
from collections import Counter

import pytest
from spaces import ROOT

from hardware_models.importers.ncnn import ncnn_networks
from search_spaces.operation import parse_operation

MAP, REDUCE, EXPAND = "conv 96x14x14 -> 96x14x14 k3 g96", "linear 96x1x1 -> 24x1x1", "linear 24x1x1 -> 96x1x1"
PROJECT, HEAD, LAST = "conv 96x14x14 -> 32x14x14", "linear 96x1x1 -> 1280x1x1", "linear 1280x1x1 -> 1000x1x1"


@pytest.mark.parametrize(
    ("layers", "added"),
    [
        ([MAP, REDUCE, EXPAND, PROJECT], ["global_pool", "scale"]),
        ([MAP, HEAD, LAST], []),
        ([MAP, PROJECT], []),
    ],
)
def test_a_pool_and_a_scale_stand_around_two_small_layers_behind_a_map(
    layers: list[str], added: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    complete = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_profiles.py"))["with_squeeze_excite"]
    found = list(complete([parse_operation(layer) for layer in layers]))
    assert [operation.notation for operation in found if operation.kind in ("conv", "linear")] == layers
    extra = [operation for operation in found if operation.kind not in ("conv", "linear")]
    assert [operation.kind for operation in extra] == added
    assert all(operation.in_shape == (96, 14, 14) for operation in extra)


def test_the_networks_that_have_it_have_all_of_theirs() -> None:
    counts = {name: Counter(o.kind for o in layers) for name, layers in ncnn_networks().items()}
    found = {name: own["scale"] for name, own in counts.items() if own["scale"]}
    assert found == {"efficientnet_b0": 16, "mobilenet_v3": 8, "regnety_400m": 16}
    assert all(counts[name]["global_pool"] == number for name, number in found.items())
