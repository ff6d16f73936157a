"""Hardware profiles: what they accept, what they price, and what they say of themselves."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from priced_profiles import FILES, ROOFLINE
from spaces import ROOT
from toy_spaces import EMBEDDING

from hardware_models.calibration.roofline_design import roofline_amounts
from hardware_models.latency_models.roofline import price_kind, priced_as
from hardware_models.profile import METRICS, HardwareProfile, load_profile, profile_from_dict
from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS, Operation

MODELS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))["latency"]["model"] for path in FILES}
SHAPE = (32, 16, 16)
OPERATIONS = {
    "pointwise": Operation("conv", SHAPE, (64, 16, 16)),
    "dense": Operation("conv", SHAPE, SHAPE, kernel=3),
    "depthwise": Operation("conv", SHAPE, SHAPE, kernel=5, groups=32),
    "grouped": Operation("conv", SHAPE, SHAPE, kernel=3, groups=4),
    "linear": Operation("linear", (64, 1, 1), (10, 1, 1)),
    "average pool": Operation("avg_pool", SHAPE, SHAPE, kernel=3),
    "maximum pool": Operation("max_pool", SHAPE, (32, 8, 8), kernel=2, stride=2),
    "global pool": Operation("global_pool", SHAPE, (32, 1, 1)),
    "add": Operation("add", SHAPE, SHAPE),
    "scale": Operation("scale", SHAPE, SHAPE),
}


def changed(**keys: object) -> dict[str, object]:
    """ROOFLINE with other values; a double underscore goes one level down."""
    copy = yaml.safe_load(yaml.safe_dump(ROOFLINE))
    for key, value in keys.items():
        *way, last = key.split("__")
        part = copy
        for step in way:
            part = part[step]
        part[last] = value
    return copy


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_file_is_a_profile_placed_in_its_own_hydra_package(path: Path) -> None:
    assert path.read_text(encoding="utf-8").splitlines()[0] == f"# @package hardware.{path.stem}"
    profile = load_profile(path)
    assert profile.name == path.stem
    assert profile.budgets["latency_ms"] > 0
    assert profile.source and profile.measured and profile.inferred
    assert profile.bound is not None and profile.bound.level == 0.9
    assert 0 < profile.error.median_ape < 0.25 and profile.error.spearman > 0.85


@pytest.mark.parametrize("kind", OPERATIONS)
@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model == "roofline"])
def test_a_shipped_roofline_prices_every_kind_of_operation_above_zero(name: str, kind: str) -> None:
    price = load_profile(ROOT / "conf" / "hardware" / f"{name}.yaml").price(OPERATIONS[kind])
    assert all(math.isfinite(value) for value in price.values())
    assert price["latency_ms"] > 0 and price["activation_mb"] > 0


def test_a_larger_depthwise_kernel_costs_more_time_on_every_shipped_roofline() -> None:
    for name in (name for name, model in MODELS.items() if model == "roofline"):
        profile = load_profile(ROOT / "conf" / "hardware" / f"{name}.yaml")
        small, large = (Operation("conv", SHAPE, SHAPE, kernel=k, groups=32, bias=False) for k in (3, 7))
        assert profile.price(large)["latency_ms"] > profile.price(small)["latency_ms"]


def test_a_roofline_price_is_work_plus_weights_plus_activations_plus_overhead() -> None:
    # conv 3x3, 2 -> 4 channels, 8x8, bias: 4*2*9*64 = 4608 multiply-adds; 72 + 4 parameters; 128 + 256 elements; fp16.
    operation = Operation("conv", (2, 8, 8), (4, 8, 8), kernel=3, held=100)
    price = profile_from_dict("made_up", ROOFLINE).price(operation)
    assert price["latency_ms"] == pytest.approx(4608 / 10e6 + 76 * 2 / 4e6 + 384 * 2 / 2e6 + 0.25, rel=1e-12)
    assert price["gflops"] == pytest.approx(4608e-9)
    assert price["params_m"] == pytest.approx(76e-6)
    assert price["weight_mb"] == pytest.approx(152e-6)
    assert price["activation_mb"] == pytest.approx((384 + 100) * 2e-6)


def test_an_add_without_throughput_costs_its_three_tensors() -> None:
    price = profile_from_dict("made_up", ROOFLINE).price(Operation("add", (10, 10, 10), (10, 10, 10)))
    assert price["latency_ms"] == pytest.approx(3000 * 2 / 2e6)


def test_a_kind_without_a_price_is_an_error_that_names_it_and_the_profile() -> None:
    with pytest.raises(InvalidInputError, match=r"made_up has no latency for conv \(priced as depthwise\)") as caught:
        profile_from_dict("made_up", ROOFLINE).price(OPERATIONS["depthwise"])
    assert "dense, elementwise" in str(caught.value) and "hardware.made_up.latency" in str(caught.value)


def test_a_kind_of_a_plugin_is_priced_by_a_rate_of_its_own_name() -> None:
    assert KINDS["embedding"] is EMBEDDING
    operation = Operation("embedding", (10, 6, 1), (4, 6, 1))
    with pytest.raises(InvalidInputError, match=r"made_up .*embedding"):
        profile_from_dict("made_up", ROOFLINE).price(operation)
    rate = {"throughput_gops": None, "overhead_ms": 0.5}
    profile = profile_from_dict("made_up", changed(latency__kinds__embedding=rate))
    # 40 weights; a row of 6 tokens read, 24 numbers written; fp16.
    assert profile.price(operation)["latency_ms"] == pytest.approx(0.5 + 40 * 2 / 4e6 + 30 * 2 / 2e6)
    with pytest.raises(InvalidInputError, match="embedding"):
        roofline_amounts([[operation]])


def test_kinds_of_convolution_are_distinguished_by_kernel_and_groups() -> None:
    for kind in ("pointwise", "dense", "depthwise", "grouped", "linear"):
        assert price_kind(OPERATIONS[kind]) == kind
    assert {price_kind(OPERATIONS[kind]) for kind in ("average pool", "maximum pool", "global pool")} == {"pool"}
    assert {price_kind(OPERATIONS[kind]) for kind in ("add", "scale")} == {"elementwise"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("budgets__latency_ms", wrong) for wrong in (-5, 0, math.nan, math.inf, "8", True, [8])),
        ("budgets__latency", 8),
        ("budgets__latency", None),
        ("budgets", 8),
        ("precision", "fp8"),
        ("threads", 0),
        ("threads", 1.5),
        ("title", None),
        ("colour", "red"),
        ("bound__margin", 2),
        ("bound__factor", 0.9),
        ("latency__model", "oracle"),
        ("latency__kinds__fancy", {"throughput_gops": 1.0, "overhead_ms": 0.0}),
        ("latency__kinds__dense__gops", 1),
        ("latency__kinds__dense__throughput_gops", "fast"),
    ],
)
def test_a_wrong_field_is_refused_by_its_dotted_key(key: str, value: object) -> None:
    with pytest.raises(InvalidInputError) as caught:
        profile_from_dict("x", changed(**{key: value}))
    assert set(caught.value.fields) == {"hardware.x." + key.replace("__", ".")}


def test_an_unknown_field_or_model_is_refused_with_those_that_there_are() -> None:
    for wrong, allowed in (
        (changed(latency__kinds__dense__gops=1), "throughput_gops, overhead_ms"),
        (changed(bound__margin=2), "level, n, factor, coverage, subject"),
        (changed(latency__model="oracle"), "additive, host, roofline, table"),
    ):
        with pytest.raises(InvalidInputError, match=f"allowed: .*{allowed}"):
            profile_from_dict("x", wrong)
    with pytest.raises(InvalidInputError, match=r"hardware\.x: got \[1, 2\]"):
        profile_from_dict("x", [1, 2])  # type: ignore[arg-type]


def test_all_wrong_values_are_listed_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        profile_from_dict("x", changed(budgets__latency_ms=-1, threads="two", latency__weight_gb_per_s=0))
    keys = ("threads", "budgets.latency_ms", "latency.weight_gb_per_s")
    assert caught.value.fields == tuple(f"hardware.x.{key}" for key in keys)


def test_a_file_that_is_missing_or_no_yaml_is_refused_with_its_path(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("budgets: {", encoding="utf-8")
    for path in (broken, tmp_path / "missing.yaml"):
        with pytest.raises(InvalidInputError, match=path.name):
            load_profile(path)


def test_a_null_budget_is_no_budget() -> None:
    assert profile_from_dict("x", ROOFLINE).budgets == {"latency_ms": 10, "gflops": 1.5}


@given(limit=st.floats(1e-3, 1e6))
def test_the_upper_bound_of_the_largest_total_is_the_limit(limit: float) -> None:
    bounded, unbounded = (profile_from_dict("x", changed(bound=bound)) for bound in (ROOFLINE["bound"], None))
    for metric in METRICS:
        assert bounded.upper(metric, bounded.largest_total(metric, limit)) == pytest.approx(limit, rel=1e-12)
        assert unbounded.upper(metric, limit) == limit
    assert bounded.upper("latency_ms", limit) == limit * 1.25
    assert bounded.upper("gflops", limit) == limit


def test_provenance_carries_origin_and_error_as_plain_values() -> None:
    provenance = profile_from_dict("x", ROOFLINE).provenance
    assert provenance["source"] == "this test"
    assert provenance["bound"] == {**ROOFLINE["bound"], "subject": "network"}
    assert yaml.safe_load(yaml.safe_dump(provenance)) == provenance


def nb201_like_network() -> list[Operation]:
    """A NAS-Bench-201 network whose cell is conv3x3 on 0-1 and 1-3, conv1x1 on 0-3: 2 + 1 convolutions and 1 add."""
    a, b, c = (16, 32, 32), (32, 16, 16), (64, 8, 8)
    operations = [Operation("conv", (3, 32, 32), a, kernel=3)]
    for before, shape in ((None, a), (a, b), (b, c)):
        if before:
            pooled = (before[0], *shape[1:])
            operations += [
                Operation("conv", before, shape, kernel=3, stride=2),
                Operation("conv", shape, shape, kernel=3),
                Operation("avg_pool", before, pooled, kernel=2, stride=2),
                Operation("conv", pooled, shape),
                Operation("add", shape, shape),
            ]
        cell = [Operation("conv", shape, shape, kernel=3)] * 2 + [Operation("conv", shape, shape)]
        operations += 5 * [*cell, Operation("add", shape, shape)]
    return [*operations, Operation("global_pool", c, (64, 1, 1)), Operation("linear", (64, 1, 1), (10, 1, 1))]


def additive_profile(conv_1x1: float, conv_3x3: float, add: float) -> HardwareProfile:
    same = {"kind": "conv", "stride": 1, "same_channels": True}
    latency = {
        "model": "additive",
        "constant_ms": 5.0,
        "in_constant": [
            {"kind": "conv", "same_channels": False},
            {"kind": "avg_pool", "stride": 2},
            {"kind": "global_pool"},
            {"kind": "linear"},
        ],
        "terms": [
            {"match": {**same, "kernel": 1}, "ms": conv_1x1},
            {"match": {**same, "kernel": 3}, "ms": conv_3x3},
            {"match": {"kind": "add"}, "ms": add},
        ],
    }
    return profile_from_dict("cells", changed(latency=latency))


def test_an_additive_profile_sums_a_network_as_by_hand() -> None:
    profile = additive_profile(conv_1x1=0.25, conv_3x3=0.5, add=0.125)
    total = profile.constant_ms + sum(profile.price(operation)["latency_ms"] for operation in nb201_like_network())
    # 15 cells of two conv3x3, one conv1x1, one add; each of two reductions holds one more conv3x3 and one more add.
    assert total == 5.0 + 15 * 0.25 + (30 + 2) * 0.5 + (15 + 2) * 0.125


def test_an_additive_profile_refuses_an_operation_that_its_benchmark_lacks() -> None:
    profile = additive_profile(1, 1, 1)
    for operation in (Operation("conv", SHAPE, SHAPE, kernel=5), OPERATIONS["average pool"], OPERATIONS["scale"]):
        with pytest.raises(InvalidInputError, match="cells has no latency for"):
            profile.price(operation)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model == "additive"])
def test_a_shipped_additive_profile_prices_its_benchmark(name: str) -> None:
    profile = load_profile(ROOT / "conf" / "hardware" / f"{name}.yaml")
    cell = Operation("avg_pool", SHAPE, SHAPE, kernel=3)
    prices = [profile.price(operation)["latency_ms"] for operation in [*nb201_like_network(), cell]]
    assert profile.constant_ms > 0 and sum(prices) > 0 and all(price >= 0 for price in prices)


def test_a_roofline_without_winograd_prices_its_convolutions_as_dense() -> None:
    suited = Operation("conv", (16, 8, 8), (16, 8, 8), kernel=3)
    others = [Operation("conv", (3, 8, 8), (16, 8, 8), kernel=3), Operation("conv", (16, 8, 8), (16, 4, 4), 3, 2)]
    assert [priced_as(op, ("dense", "winograd")) for op in [suited, *others]] == ["winograd", "dense", "dense"]
    assert priced_as(suited, ("dense",)) == "dense"


@pytest.mark.parametrize("subject", ["network", "block", "operation"])
def test_only_a_bound_of_networks_bounds_networks(subject: str) -> None:
    path = ROOT / "conf" / "hardware" / "mid_tablet.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["bound"] |= {"subject": subject, "factor": 1.5}
    profile = profile_from_dict("mid_tablet", content)
    estimate, bounds = profile.estimate("latency_ms", 10.0), subject == "network"
    assert (profile.network_bound is not None) == bounds
    assert profile.upper("latency_ms", 10.0) == pytest.approx(estimate * (1.5 if bounds else 1.0))
    assert profile.largest_total("latency_ms", 10.0) == pytest.approx(
        profile.largest_total("latency_ms", 10.0 / (1.5 if bounds else 1.0), margin="point")
    )
