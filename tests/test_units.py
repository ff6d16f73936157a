"""Profiles of several units: what they accept, and that prices and transfers are those computed by hand."""

import copy
from typing import Any

import pytest
from spaces import ROOT
from unit_profiles import bus, content, device, roofline, unit, wireless

from hardware_models.latency_models.roofline import Roofline
from hardware_models.profile import load_profile, profile_from_dict
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

CONV = Operation("conv", (2, 8, 8), (4, 8, 8), kernel=3, held=100)  # 4 * 2 * 9 * 64 = 4608 multiply-adds, 76 numbers
UNITS = {"cpu": unit(roofline(1.0)), "npu": unit(roofline(10.0, overhead_ms=0.5), load=0.2, weight=0.5)}
GOOD = content(UNITS, {"bus": bus(2.0, 0.25)}, "cpu")


def changed(*path: str, value: Any) -> dict[str, Any]:
    """GOOD with one value replaced."""
    mapping = copy.deepcopy(GOOD)
    part = mapping
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return mapping


def test_time_on_a_unit_is_its_price_over_weight_and_free_share() -> None:
    profile = profile_from_dict("x", GOOD)
    assert profile.price(CONV, unit="cpu")["latency_ms"] == pytest.approx(4608 / 1e6, rel=1e-12)
    expected = (4608 / 10e6 + 0.5) / (0.5 * (1 - 0.2))
    assert profile.price(CONV, unit="npu")["latency_ms"] == pytest.approx(expected, rel=1e-12)


def test_counts_are_the_same_on_every_unit_and_memory_only_on_the_device_itself() -> None:
    units = {"phone": unit(roofline(1.0)), "server": unit(roofline(10.0), remote=True)}
    profile = device("x", units, {"air": wireless(10.0, 4.0, None)}, entry="phone")
    here, there = profile.price(CONV, unit="phone"), profile.price(CONV, unit="server")
    assert here["gflops"] == there["gflops"] == pytest.approx(4608e-9)
    assert here["params_m"] == there["params_m"] == pytest.approx(76e-6)
    assert here["weight_mb"] == pytest.approx(76 * 4e-6)
    assert here["activation_mb"] == pytest.approx((128 + 256 + 100) * 4e-6)
    assert there["weight_mb"] == there["activation_mb"] == 0.0


def test_a_bus_takes_its_constant_and_the_bytes_of_the_precision() -> None:
    profile = profile_from_dict("x", {**GOOD, "precision": "fp16"})
    moved = profile.transfer(1000, "cpu", "npu")
    assert moved == {"latency_ms": pytest.approx(0.25 + 2000 / 2e6), "activation_mb": pytest.approx(0.002)}
    assert profile.transfer(1000, "npu", "npu") == {"latency_ms": 0.0, "activation_mb": 0.0}


@pytest.mark.parametrize(("payload_bits", "sent_bits"), [(8, 8), (16, 16), (32, 32), (None, 32)])
def test_a_network_takes_half_a_round_trip_and_the_bits_of_its_payload(
    payload_bits: int | None, sent_bits: int
) -> None:
    units = {"phone": unit(roofline(1.0)), "server": unit(roofline(10.0), remote=True)}
    profile = device("x", units, {"air": wireless(20.0, 6.0, payload_bits)}, entry="phone")
    moved = profile.transfer(50_000, "phone", "server")
    assert moved["latency_ms"] == pytest.approx(3 + 50_000 * sent_bits / 20e6 * 1e3)
    # What is sent lies in memory at the precision of the profile, however narrow the payload.
    assert moved["activation_mb"] == pytest.approx(0.2)


def test_a_link_of_a_pair_comes_before_the_one_for_every_pair() -> None:
    units = {**UNITS, "gpu": unit(roofline(5.0))}
    links = {"any": bus(1.0, 1.0), "own": bus(1.0, 0.125, between=["npu", "gpu"])}
    profile = device("x", units, links, entry="cpu")
    assert profile.transfer(0, "gpu", "npu")["latency_ms"] == 0.125
    assert profile.transfer(0, "npu", "gpu")["latency_ms"] == 0.125
    assert profile.transfer(0, "cpu", "gpu")["latency_ms"] == 1.0


CONSTANT = {
    "model": "additive",
    "constant_ms": 1.0,
    "in_constant": [],
    "terms": [{"match": {"kind": "conv"}, "ms": 1.0}],
}
WRONG: list[tuple[dict[str, Any], str]] = [  # and the key below hardware.x that is wrong
    *((changed("units", "npu", "load", value=v), "units.npu.load") for v in (1.0, -0.1, float("nan"), "half")),
    *((changed("units", "npu", "weight", value=v), "units.npu.weight") for v in (0, 1.5)),
    (changed("units", "npu", "remote", value=1), "units.npu.remote"),
    (changed("units", "npu", "speed", value=1), "units.npu.speed"),
    (changed("units", "npu", "latency", value={"model": "oracle"}), "units.npu.latency.model"),
    (changed("units", "npu", "latency", value=CONSTANT), "units.npu.latency"),  # units run parts of a network
    (changed("units", value={}), "units"),
    *((changed("entry", value=v), "entry") for v in ("gpu", None)),
    (changed("units", "cpu", "remote", value=True), "entry"),
    (changed("links", value={}), "links"),
    (changed("links", "bus", "gb_per_s", value=0), "links.bus.gb_per_s"),
    (changed("links", "bus", "ms", value=-1), "links.bus.ms"),
    (changed("links", "bus", "mbit_per_s", value=1), "links.bus.mbit_per_s"),
    (changed("links", "bus", "kind", value="pigeon"), "links.bus.kind"),
    (changed("links", "bus", "between", value=["cpu"]), "links.bus.between[1]"),
    *((changed("links", "bus", "between", value=["cpu", v]), "links.bus.between") for v in ("cpu", "tpu")),
    (changed("links", "more", value=bus(1, 0)), "links"),  # two for every pair
    (changed("links", value={k: bus(1, 0, ["cpu", "npu"][::way]) for k, way in (("a", 1), ("b", -1))}), "links"),
    (changed("links", "bus", value=wireless(1, 1, 7)), "links.bus.payload_bits"),
    (changed("links", "bus", value=wireless(0, 1, 8)), "links.bus.mbit_per_s"),
    (changed("links", "bus", value=wireless(1, -1, 8)), "links.bus.round_trip_ms"),
    (changed("latency", value=roofline(1.0)), "latency"),  # beside units
    (changed("error_reason", value=None), "error_reason"),
    (changed("bound", value={"level": 0.9, "n": 20, "factor": 1.2}), "bound"),  # without an error
]


@pytest.mark.parametrize(("mapping", "key"), WRONG, ids=lambda part: part if isinstance(part, str) else "")
def test_a_wrong_field_is_refused_by_its_dotted_key(mapping: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        profile_from_dict("x", mapping)
    assert f"hardware.x.{key}" in caught.value.fields


def test_all_contradictions_are_listed_at_once() -> None:
    mapping = {**GOOD, "links": {}, "entry": "gpu", "error_reason": None}
    with pytest.raises(InvalidInputError) as caught:
        profile_from_dict("x", mapping)
    assert caught.value.fields == ("hardware.x.entry", "hardware.x.links", "hardware.x.error_reason")


def test_a_profile_without_latency_or_units_and_one_of_links_alone_are_refused() -> None:
    bare = {key: value for key, value in GOOD.items() if key not in ("units", "links", "entry")}
    with pytest.raises(InvalidInputError, match=r"hardware\.x\.latency: "):
        profile_from_dict("x", bare)
    with pytest.raises(InvalidInputError, match=r"hardware\.x\.units: "):
        profile_from_dict("x", {**bare, "latency": roofline(1.0), "entry": "cpu"})


def test_a_price_needs_the_name_of_a_unit_where_there_are_units_and_only_there() -> None:
    profile = profile_from_dict("x", GOOD)
    for wrong in (None, "gpu"):
        with pytest.raises(InvalidInputError, match="cpu, npu"):
            profile.price(CONV, unit=wrong)
    bare = {key: value for key, value in GOOD.items() if key not in ("units", "links", "entry")}
    with pytest.raises(InvalidInputError):
        profile_from_dict("x", {**bare, "latency": roofline(1.0)}).price(CONV, unit="cpu")


def test_an_operation_without_a_price_is_an_error_that_names_the_unit() -> None:
    latency = roofline(1.0)
    del latency["kinds"]["dense"]
    profile = profile_from_dict("x", changed("units", "npu", "latency", value=latency))
    with pytest.raises(InvalidInputError, match=r"dense.*hardware\.x\.units\.npu\.latency"):
        profile.price(CONV, unit="npu")


def test_provenance_says_why_there_is_no_error_and_how_units_are_shared() -> None:
    provenance = profile_from_dict("x", GOOD).provenance
    assert provenance["error"] is None and provenance["error_reason"] == "made up"
    assert provenance["units"] == {
        "cpu": {"load": 0.0, "weight": 1.0, "remote": False},
        "npu": {"load": 0.2, "weight": 0.5, "remote": False},
    }
    assert provenance["entry"] == "cpu" and provenance["links"]["bus"]["gb_per_s"] == 2.0


def test_the_shipped_phone_with_a_server_is_the_shipped_phone_and_a_server_of_ten_times_its_rates() -> None:
    split, phone = (
        load_profile(ROOT / "conf" / "hardware" / f"{n}.yaml") for n in ("split_phone_server", "flagship_phone")
    )
    own, server, alone = split.units["phone"].latency, split.units["server"].latency, phone.latency
    assert own == alone
    assert isinstance(server, Roofline) and isinstance(own, Roofline)
    for kind, rate in own.kinds.items():
        assert server.kinds[kind].overhead_ms == pytest.approx(rate.overhead_ms / 10)
        expected = None if rate.throughput_gops is None else pytest.approx(rate.throughput_gops * 10)
        assert server.kinds[kind].throughput_gops == expected
    assert own.weight_gb_per_s and own.activation_gb_per_s
    assert server.weight_gb_per_s == pytest.approx(own.weight_gb_per_s * 10)
    assert server.activation_gb_per_s == pytest.approx(own.activation_gb_per_s * 10)


def test_the_shipped_three_units_have_the_peaks_and_weights_that_their_file_says() -> None:
    profile = load_profile(ROOT / "conf" / "hardware" / "three_units.yaml")
    assert {name: each.weight for name, each in profile.units.items()} == {"gpu": 0.85, "npu": 0.92, "cpu": 0.40}
    # TFLOPS over two are 10^12 multiply-adds per second; dense convolutions are assumed to reach these shares of it.
    for name, tflops, share in (("gpu", 19.5, 0.5), ("npu", 26.0, 0.6), ("cpu", 3.2, 0.6)):
        latency = profile.units[name].latency
        assert isinstance(latency, Roofline)
        assert latency.kinds["dense"].throughput_gops == pytest.approx(tflops * 1e3 / 2 * share)
    assert profile.error is None and "nothing was measured" in (profile.error_reason or "")
