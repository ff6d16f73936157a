"""Where networks run on devices of several units: against brute force, as load rises, as a link widens; and how fast.

    python tests/benchmarks/placement.py [--chains 200] [--networks 500]

1. Random chains of up to eight operations on random devices of two or three units: dynamic programming and brute force.
2. A chip whose NPU is ten times faster than its CPU, behind a bus: the part it gets, by the bus.
3. The three units of conf/hardware/three_units.yaml: the share of the work that each gets, by load.
4. Split inference: the operations that a server runs, by the link and the payload, beside the best of all split points.
5. Networks placed per second.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from selection import mobile_space

from hardware_models.placement.chain import Chain, network_chain, placed_costs
from hardware_models.placement.placement import fastest_placement
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from search_spaces.operation import Operation
from search_spaces.space import SearchSpace

CONF = Path(__file__).resolve().parents[2] / "conf"
ILLUSTRATION: dict[str, Any] = {
    "title": "made up",
    "runtime": "none",
    "threads": None,
    "precision": "fp32",
    "budgets": {"latency_ms": 10.0},
    "error": None,
    "error_reason": "made up",
    "source": "this benchmark",
    "measured": [],
    "inferred": [],
}


def chain_of(operations: Sequence[Operation]) -> Chain:
    """A chain by what its operations declare: each takes over what it reads and what it holds for later ones."""
    moving = [operation.in_elements + operation.held for operation in operations]
    return Chain(tuple(operations), (*moving, operations[-1].out_elements))


# Large tensors at both ends and the work in between, where tensors are small.
BULGE = chain_of(
    [
        Operation("conv", (3, 128, 128), (8, 32, 32), kernel=3, stride=4),
        Operation("conv", (8, 32, 32), (32, 16, 16), kernel=3, stride=2),
        Operation("conv", (32, 16, 16), (64, 8, 8), kernel=3, stride=2),
        Operation("conv", (64, 8, 8), (256, 8, 8), kernel=3),
        Operation("conv", (256, 8, 8), (256, 8, 8), kernel=3),
        Operation("conv", (256, 8, 8), (8, 8, 8), kernel=3),
        Operation("conv", (8, 8, 8), (128, 8, 8)),
        Operation("conv", (128, 8, 8), (256, 8, 8)),
    ]
)
BUSES_GB_PER_S = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)
LOADS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LINKS_MBIT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def dense(gops: float, *, overhead_ms: float = 0.0) -> dict[str, Any]:
    """A latency model of one throughput."""
    rate = {"throughput_gops": gops, "overhead_ms": overhead_ms}
    kinds = {"pointwise": rate, "dense": rate}
    return {"model": "roofline", "weight_gb_per_s": None, "activation_gb_per_s": None, "kinds": kinds}


def by_brute_force(profile: HardwareProfile, chain: Chain) -> float:
    """The least latency of all placements."""
    everywhere = product(profile.units, repeat=len(chain.operations))
    return min(placed_costs(profile, chain, units)["latency_ms"] for units in everywhere)


def random_device(generator: np.random.Generator) -> HardwareProfile:
    names = ("a", "b", "c")[: generator.integers(2, 4)]
    units = {
        name: {
            "latency": dense(float(10 ** generator.uniform(-1, 1.5)), overhead_ms=float(generator.uniform(0, 0.05))),
            "load": float(generator.uniform(0, 0.9)),
            "weight": float(generator.uniform(0.1, 1)),
        }
        for name in names
    }
    links = {
        one + other: {
            "kind": "bus",
            "between": [one, other],
            "gb_per_s": float(10 ** generator.uniform(-1, 1.5)),
            "ms": float(generator.uniform(0, 0.05)),
        }
        for k, one in enumerate(names)
        for other in names[k + 1 :]
    }
    return profile_from_dict("random", {**ILLUSTRATION, "units": units, "links": links, "entry": "a"})


def random_chain(generator: np.random.Generator) -> Chain:
    channels = generator.choice((1, 3, 8, 32, 64), size=generator.integers(2, 10))
    operations = []
    for a, b in pairwise(channels.tolist()):
        size, kernel = int(generator.choice((1, 4, 16))), int(generator.choice((1, 3)))
        held = int(generator.choice((0, 0, 500)))
        operations.append(Operation("conv", (a, size, size), (b, size, size), kernel=kernel, held=held))
    return chain_of(operations)


def compare_with_brute_force(num_chains: int) -> None:
    generator, worst, mixed = np.random.default_rng(0), 0.0, 0
    for _ in range(num_chains):
        profile, chain = random_device(generator), random_chain(generator)
        found = fastest_placement(profile, chain)
        worst = max(worst, abs(found.latency_ms / by_brute_force(profile, chain) - 1))
        mixed += len(set(found.units)) > 1
    print(f"\n1. {num_chains} random chains: largest relative difference to brute force {worst:.1e};")
    print(f"   the best placement of {mixed} of them uses more than one unit")


def show_bus() -> None:
    print("\n2. CPU 20, NPU 200 * 10^9 multiply-adds per second, 0.01 ms and a bus between (n: on the NPU)")
    print("   GB/s      placement  ms       brute force  CPU alone  NPU alone")
    for gb_per_s in BUSES_GB_PER_S:
        units = {n: {"latency": dense(gops), "load": 0.0, "weight": 1.0} for n, gops in (("cpu", 20.0), ("npu", 200.0))}
        link = {"bus": {"kind": "bus", "gb_per_s": gb_per_s, "ms": 0.01}}
        profile = profile_from_dict("chip", {**ILLUSTRATION, "units": units, "links": link, "entry": "cpu"})
        found = fastest_placement(profile, BULGE)
        shown = "".join("n" if where == "npu" else "." for where in found.units)
        alone = [placed_costs(profile, BULGE, [u] * len(BULGE.operations))["latency_ms"] for u in ("cpu", "npu")]
        brute = by_brute_force(profile, BULGE)
        print(f"   {gb_per_s:<8g}  {shown}   {found.latency_ms:7.4f}  {brute:9.4f}  {alone[0]:9.4f}  {alone[1]:9.4f}")


def changed(profile: HardwareProfile, *keys: str, value: Any) -> HardwareProfile:
    """The profile with one value replaced, named by its keys."""
    content = profile.model_dump(mode="json", exclude={"name"})
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return profile_from_dict(profile.name, content)


def random_networks(space: SearchSpace, size: int) -> list[Chain]:
    generator = np.random.default_rng(0)
    rows = np.stack([generator.integers(len(d.choices), size=size) for d in space.decisions], axis=1)
    return [network_chain(space, space.choices(row))[0] for row in rows]


def work_by_unit(profile: HardwareProfile, chains: list[Chain]) -> tuple[Mapping[str, float], float]:
    """Share of all multiply-adds by unit, and the mean latency in ms."""
    macs = dict.fromkeys(profile.units, 0)
    placements = [fastest_placement(profile, chain) for chain in chains]
    for chain, placement in zip(chains, placements, strict=True):
        for operation, where in zip(chain.operations, placement.units, strict=True):
            macs[where] += operation.macs
    total = sum(macs.values())
    return {unit: count / total for unit, count in macs.items()}, float(np.mean([p.latency_ms for p in placements]))


def show_load(chains: list[Chain]) -> None:
    idle = load_profile(CONF / "hardware" / "three_units.yaml")
    print(f"\n3. {idle.title}: {len(chains)} random mobile networks")
    print("   share of multiply-adds on GPU, NPU, CPU, and mean ms")
    print("   load   of the NPU                       of NPU and GPU")
    for load in LOADS:
        cells = []
        for loaded in (("npu",), ("npu", "gpu")):
            profile = idle
            for unit in loaded:
                profile = changed(profile, "units", unit, "load", value=load)
            shares, mean_ms = work_by_unit(profile, chains)
            listed = " ".join(f"{shares[unit]:6.1%}" for unit in ("gpu", "npu", "cpu"))
            cells.append(f"{listed} {mean_ms:8.3f}")
        print(f"   {load:4.2f}   {cells[0]}    {cells[1]}")


def best_split(profile: HardwareProfile, chain: Chain) -> tuple[float, int, int]:
    """Latency, first operation and end of the best stretch for the server, of all stretches."""
    num = len(chain.operations)
    ways = [(0, 0), *((first, end) for first in range(num) for end in range(first + 1, num + 1))]
    return min(
        (placed_costs(profile, chain, ["phone"] * a + ["server"] * (b - a) + ["phone"] * (num - b))["latency_ms"], a, b)
        for a, b in ways
    )


def show_split(space: SearchSpace) -> None:
    chain, _ = network_chain(space, space.choices([0] * len(space.decisions)))
    slow = load_profile(CONF / "hardware" / "iot_terminal.yaml").latency
    assert slow is not None
    split = load_profile(CONF / "hardware" / "split_phone_server.yaml")
    split = changed(split, "units", "phone", "latency", value=slow.model_dump(mode="json"))
    print(f"\n4. The smallest mobile network, {len(chain.operations)} operations: iot_terminal with the server of")
    print("   split_phone_server; what the server runs [first, end), ms; and the best of all split points")
    print("   Mbit/s   32-bit payload                     8-bit payload")
    for mbit_per_s in LINKS_MBIT:
        cells = []
        for payload_bits in (32, 8):
            profile = changed(split, "links", "wireless", "mbit_per_s", value=float(mbit_per_s))
            profile = changed(profile, "links", "wireless", "payload_bits", value=payload_bits)
            found = fastest_placement(profile, chain)
            on_server = [k for k, where in enumerate(found.units) if where == "server"]
            stretch = f"[{on_server[0]}, {on_server[-1] + 1})" if on_server else "none"
            least, first, end = best_split(profile, chain)
            agrees = "=" if abs(least / found.latency_ms - 1) < 1e-9 else "DIFFERS FROM"
            cells.append(f"{stretch:9} {found.latency_ms:7.2f} {agrees} [{first}, {end}) {least:.2f}")
        print(f"   {mbit_per_s:<7}  {cells[0]:35}{cells[1]}")


def show_speed(chains: list[Chain]) -> None:
    print(
        f"\n5. {len(chains)} random mobile networks, {np.mean([len(c.operations) for c in chains]):.0f} operations each"
    )
    for name in ("split_phone_server", "three_units"):
        profile = load_profile(CONF / "hardware" / f"{name}.yaml")
        wall, processor = time.perf_counter(), time.process_time()
        for chain in chains:
            fastest_placement(profile, chain)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        rate = len(chains) / processor
        print(f"   {name:20} {wall:.3f} s wall, {processor:.3f} s processor: {rate:,.0f} networks a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=200, help="random chains checked against brute force")
    parser.add_argument("--networks", type=int, default=500, help="random mobile networks")
    arguments = parser.parse_args()
    compare_with_brute_force(arguments.chains)
    show_bus()
    space = mobile_space(num_classes=1000)
    chains = random_networks(space, arguments.networks)
    show_load(chains[:100])
    show_split(space)
    show_speed(chains)


if __name__ == "__main__":
    main()
