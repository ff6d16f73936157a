"""Where operations run: dynamic programming against brute force, a fast unit behind a slow bus, load, and links."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import ROOT, draw, yaml_space
from unit_profiles import bus, chain_of, device, roofline, unit, wireless, with_units

from hardware_models.placement.chain import Chain, network_chain, placed_costs, runs_of
from hardware_models.placement.placement import fastest_placement
from hardware_models.profile import HardwareProfile, load_profile
from search_spaces.architecture import SPACES
from search_spaces.operation import Operation

Units = tuple[str, ...]


def latency_by_hand(profile: HardwareProfile, chain: Chain, units: Units) -> float:
    """The sum of every operation's time on its unit and of every change of unit."""
    total = 0.0
    here: str = profile.entry or ""
    for operation, unit_name, moving in zip(chain.operations, units, chain.moving[:-1], strict=True):
        if unit_name != here:
            total += profile.transfer(moving, here, unit_name)["latency_ms"]
        total += profile.price(operation, unit=unit_name)["latency_ms"]
        here = unit_name
    back = 0.0 if here == profile.entry else profile.transfer(chain.moving[-1], here, profile.entry or "")["latency_ms"]
    return total + back


def memory_by_hand(profile: HardwareProfile, chain: Chain, units: Units) -> float:
    """Weights of the local operations, and the most activations of one of them or of one payload sent or received."""
    weights, peak = 0.0, 0.0
    for operation, name in zip(chain.operations, units, strict=True):
        if not profile.units[name].remote:
            weights += operation.params * 4e-6
            peak = max(peak, operation.live_elements * 4e-6)
    for (one, other), moving in zip(pairwise((profile.entry, *units, profile.entry)), chain.moving, strict=True):
        if one != other and not (profile.units[one].remote and profile.units[other].remote):
            peak = max(peak, moving * 4e-6)
    return weights + peak


def by_brute_force(profile: HardwareProfile, chain: Chain) -> list[tuple[float, Units]]:
    """Every placement with its latency, fastest first."""
    everywhere = product(profile.units, repeat=len(chain.operations))
    return sorted((latency_by_hand(profile, chain, units), units) for units in everywhere)


@st.composite
def operations(draw_one: Any, num: int) -> list[Operation]:
    """A chain of convolutions, each reading what the one before wrote."""
    channels = [draw_one(st.sampled_from((1, 3, 8, 64))) for _ in range(num + 1)]
    sizes = [draw_one(st.sampled_from((1, 4, 16))) for _ in range(num)]
    held = [draw_one(st.sampled_from((0, 0, 500))) for _ in range(num)]
    return [
        Operation("conv", (a, size, size), (b, size, size), kernel=k, held=h)
        for (a, b), size, h, k in zip(
            pairwise(channels), sizes, held, (draw_one(st.sampled_from((1, 3))) for _ in range(num)), strict=True
        )
    ]


@st.composite
def devices(draw_one: Any) -> HardwareProfile:
    """Two or three units of any speed, each pair with a link of its own."""
    names = ("a", "b", "c")[: draw_one(st.integers(2, 3))]
    rate, ms = st.floats(0.05, 50), st.floats(0, 0.5)
    units = {
        name: unit(
            roofline(draw_one(rate), overhead_ms=draw_one(ms)),
            load=draw_one(st.floats(0, 0.9)),
            weight=draw_one(st.floats(0.1, 1)),
            remote=name != "a" and draw_one(st.booleans()),
        )
        for name in names
    }
    links: dict[str, Any] = {}
    for one, other in [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]:
        wired = bus(draw_one(rate), draw_one(ms)), wireless(draw_one(st.floats(1, 1000)), draw_one(ms), 8)
        links[one + other] = {**draw_one(st.sampled_from(wired)), "between": [one, other]}
    return device("random", units, links, entry="a")


@settings(max_examples=60, deadline=None)
@given(profile=devices(), ops=st.integers(1, 6).flatmap(operations))
def test_the_fastest_placement_equals_brute_force(profile: HardwareProfile, ops: list[Operation]) -> None:
    chain = chain_of(ops)
    least, _ = by_brute_force(profile, chain)[0]
    found = fastest_placement(profile, chain)
    assert found is not None
    assert found.latency_ms == pytest.approx(least, rel=1e-9)
    assert latency_by_hand(profile, chain, found.units) == pytest.approx(least, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(profile=devices(), ops=st.integers(1, 6).flatmap(operations), share=st.floats(0, 1))
def test_the_fastest_placement_within_a_memory_limit_equals_brute_force(
    profile: HardwareProfile, ops: list[Operation], share: float
) -> None:
    chain = chain_of(ops)
    ways = [(latency, memory_by_hand(profile, chain, units)) for latency, units in by_brute_force(profile, chain)]
    memories = sorted({memory for _, memory in ways})
    limit = memories[int(share * (len(memories) - 1))]
    found = fastest_placement(profile, chain, memory_mb=limit * (1 + 1e-9))
    fitting = [latency for latency, memory in ways if memory <= limit * (1 + 1e-9)]
    assert found is not None
    assert found.latency_ms == pytest.approx(min(fitting), rel=1e-9)
    assert memory_by_hand(profile, chain, found.units) <= limit * (1 + 1e-8)
    assert fastest_placement(profile, chain, memory_mb=memories[0] * 0.99) is None
    known = fastest_placement(profile, chain, memory_mb=limit * (1 + 1e-9), at_most_ms=found.latency_ms)
    assert known is not None and known.latency_ms == found.latency_ms


@settings(max_examples=30, deadline=None)
@given(profile=devices(), ops=st.integers(1, 6).flatmap(operations), seed=st.integers(0, 99))
def test_costs_of_a_placement_are_those_by_hand(profile: HardwareProfile, ops: list[Operation], seed: int) -> None:
    chain = chain_of(ops)
    units = tuple(np.random.default_rng(seed).choice(list(profile.units), size=len(ops)).tolist())
    costs = placed_costs(profile, chain, units)
    assert costs["latency_ms"] == pytest.approx(latency_by_hand(profile, chain, units), rel=1e-9)
    assert costs["peak_memory_mb"] == pytest.approx(memory_by_hand(profile, chain, units), rel=1e-9, abs=1e-12)
    assert costs["gflops"] == pytest.approx(sum(op.macs for op in ops) / 1e9)
    assert costs["params_m"] == pytest.approx(sum(op.params for op in ops) / 1e6)


# Large tensors at both ends and the work in between, where tensors are small: the middle is worth its way over a bus.
MIXED = [
    Operation("conv", (3, 128, 128), (8, 32, 32), kernel=3, stride=4),
    Operation("conv", (8, 32, 32), (32, 16, 16), kernel=3, stride=2),
    Operation("conv", (32, 16, 16), (64, 8, 8), kernel=3, stride=2),
    Operation("conv", (64, 8, 8), (256, 8, 8), kernel=3),
    Operation("conv", (256, 8, 8), (256, 8, 8), kernel=3),
    Operation("conv", (256, 8, 8), (8, 8, 8), kernel=3),
    Operation("conv", (8, 8, 8), (128, 8, 8)),
    Operation("conv", (128, 8, 8), (256, 8, 8)),
]


def npu_behind_a_bus(ms: float, gb_per_s: float) -> HardwareProfile:
    units = {"cpu": unit(roofline(20.0)), "npu": unit(roofline(200.0))}
    return device("chip", units, {"bus": bus(gb_per_s, ms)}, entry="cpu")


def test_a_npu_ten_times_faster_gets_the_part_that_is_worth_its_transfers() -> None:
    chain = chain_of(MIXED)
    parts = []
    for gb_per_s in (0.001, 0.03, 0.3, 3.0, 1000.0):
        profile = npu_behind_a_bus(0.01, gb_per_s)
        least, best = by_brute_force(profile, chain)[0]
        found = fastest_placement(profile, chain)
        assert found is not None
        assert found.latency_ms == pytest.approx(least, rel=1e-12)
        assert found.units == best
        on_npu = [k for k, where in enumerate(found.units) if where == "npu"]
        parts.append((on_npu[0], on_npu[-1]) if on_npu else None)
    # Nothing, then more and more of the middle, then all.
    assert parts == [None, (3, 5), (1, 5), (1, 7), (0, 7)]


def npu_share(profile: HardwareProfile, chains: Sequence[Chain], name: str) -> tuple[float, float]:
    """Time that the unit would take alone for what is placed on it, and the latency of all, ms over all networks."""
    raw = total = 0.0
    for chain in chains:
        placement = fastest_placement(profile, chain)
        assert placement is not None
        on_it = [op for op, where in zip(chain.operations, placement.units, strict=True) if where == name]
        raw += sum(profile.price(op, unit=name)["latency_ms"] for op in on_it) / profile.units[name].slowdown
        total += placement.latency_ms
    return raw, total


@pytest.mark.parametrize("name", ["npu", "gpu", "cpu"])
def test_work_leaves_a_unit_of_three_as_its_load_rises(name: str) -> None:
    space = yaml_space("mobile")
    chains = [network_chain(space, space.choices(row))[0] for row in draw(space, 8, np.random.default_rng(0))]
    loads = np.linspace(0, 0.96, 13)
    shares = [npu_share(with_units("three_units", **{name: {"load": float(load)}}), chains, name) for load in loads]
    raw, latency = [r for r, _ in shares], [t for _, t in shares]
    # With the price of a unit's time, the time bought falls and what is paid in all rises: this must be, network by
    # network, whatever the prices are.
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(raw))
    assert all(after >= before * (1 - 1e-9) for before, after in pairwise(latency))
    if name == "npu":  # the unit of choice while it is free
        assert raw[-1] < 0.05 * raw[0]
        assert latency[-1] > 1.1 * latency[0]


def split_points(profile: HardwareProfile, chain: Chain) -> tuple[float, int, int]:
    """The best way to send one stretch of operations to the server: latency, its first operation, the one after it."""
    num = len(chain.operations)
    here, there = (
        np.cumsum([0.0, *(profile.price(op, unit=u)["latency_ms"] for op in chain.operations)]) for u in profile.units
    )
    moved = [profile.transfer(elements, "phone", "server")["latency_ms"] for elements in chain.moving]
    ways = [(first, end) for first in range(num) for end in range(first + 1, num + 1)]
    split = [(here[a] + moved[a] + there[b] - there[a] + moved[b] + here[-1] - here[b], a, b) for a, b in ways]
    return min([(here[-1], 0, 0), *split])


LINKS_MBIT = (1, 3, 10, 20, 50, 100, 200, 500, 1000)


def splits_of(payload_bits: int | None) -> list[tuple[int, int]]:
    """First and end of what runs on the server for each link, each checked against the best of all split points."""
    space = yaml_space("mobile")
    chain, _ = network_chain(space, space.choices([0] * len(space.decisions)))
    found = []
    for mbit_per_s in LINKS_MBIT:
        profile = split_device(float(mbit_per_s), payload_bits)
        least, first, end = split_points(profile, chain)
        placement = fastest_placement(profile, chain)
        assert placement is not None
        assert placement.latency_ms == pytest.approx(least, rel=1e-9)
        assert [k for k, where in enumerate(placement.units) if where == "server"] == list(range(first, end))
        found.append((first, end))
    return found


def split_device(mbit_per_s: float, payload_bits: int | None) -> HardwareProfile:
    """The shipped split device with the slowest shipped phone in place of its own."""
    slow = load_profile(ROOT / "conf" / "hardware" / "iot_terminal.yaml").latency
    assert slow is not None
    link = {"mbit_per_s": mbit_per_s, "payload_bits": payload_bits}
    return with_units("split_phone_server", phone={"latency": slow.model_dump(mode="json")}, wireless=link)


@pytest.mark.parametrize("payload_bits", [None, 16, 8])
def test_the_split_point_follows_the_link_as_brute_force_says(payload_bits: int | None) -> None:
    splits = splits_of(payload_bits)
    num_on_server = [end - first for first, end in splits]
    assert num_on_server == sorted(num_on_server)
    # All on the phone, then a tail of the network on the server, then all of it.
    assert num_on_server[0] == 0
    assert any(first > 0 for first, _ in splits)
    assert splits[-1][0] == 0 and num_on_server[-1] > 0


def test_a_narrower_payload_offloads_at_a_slower_link() -> None:
    wide, narrow = splits_of(None), splits_of(8)
    assert wide != narrow
    assert all(b - a <= d - c for (a, b), (c, d) in zip(wide, narrow, strict=True))
    # A payload a quarter as wide on a link of x Mbit/s is one of full width on a link of 4 x.
    space = yaml_space("mobile")
    chain, _ = network_chain(space, space.choices([0] * len(space.decisions)))
    for mbit_per_s in (5.0, 12.5, 50.0):
        eight, full = split_device(mbit_per_s, 8), split_device(4 * mbit_per_s, None)
        placements = [fastest_placement(profile, chain) for profile in (eight, full)]
        assert len({placement.units for placement in placements if placement is not None}) == 1


def test_a_residual_input_moves_along_with_the_tensor_that_is_read() -> None:
    # Between its two convolutions 4x4x4 = 64 elements are read and the 64 of the shortcut held.
    shape = (4, 4, 4)
    ops = [
        Operation("conv", shape, shape),
        Operation("conv", shape, shape, held=64),
        Operation("add", shape, shape),
    ]
    chain = chain_of(ops)
    assert chain.moving == (64, 128, 128, 64)
    profile = npu_behind_a_bus(0.0, 1.0)
    moved_ms = placed_costs(profile, chain, ("cpu", "npu", "npu"))["latency_ms"]
    stayed = sum(profile.price(op, unit=u)["latency_ms"] for op, u in zip(ops, ("cpu", "npu", "npu"), strict=True))
    assert moved_ms - stayed == pytest.approx((128 + 64) * 4 / 1e6)


@pytest.mark.parametrize("name", SPACES)
def test_the_chain_of_a_network_has_its_operations_and_one_tensor_between_segments(name: str) -> None:
    space = yaml_space(name)
    for row in draw(space, 5, np.random.default_rng(1)):
        choices = space.choices(row)
        chain, segments = network_chain(space, choices)
        order = [segment.name for segment in space.segments]
        assert sorted(chain.operations, key=str) == sorted(space.operations(choices), key=str)
        assert list(segments) == sorted(segments, key=order.index)
        assert chain.moving[0] == np.prod(space.input_shape(choices))
        assert chain.moving[-1] == space.num_classes
        for segment in space.segments:
            if segment.name in segments:
                first = segments.index(segment.name)
                assert chain.moving[first] == np.prod(segment.input_shape(choices))
                # What enters is what the operation before it wrote, and the first one reads nothing else.
                assert chain.operations[first].in_elements == chain.moving[first]
                if first:
                    assert chain.operations[first - 1].out_elements == chain.moving[first]


def test_a_placement_is_listed_as_stays_in_order() -> None:
    chain = chain_of(MIXED[:3])
    assert runs_of(chain, ("cpu", "npu", "npu")) == [
        {"unit": "cpu", "operations": ["conv 3x128x128 -> 8x32x32 k3 s4"]},
        {"unit": "npu", "operations": ["conv 8x32x32 -> 32x16x16 k3 s2", "conv 32x16x16 -> 64x8x8 k3 s2"]},
    ]
