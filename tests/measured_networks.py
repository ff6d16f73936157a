"""Files of measurements whose true prices are known, for tests of calibration."""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from spaces import draw, yaml_space

from hardware_models.profile import HardwareProfile, profile_from_dict
from search_spaces.operation import Operation
from trainers.devices.measurement import write_layers

KINDS = ("pointwise", "dense", "winograd", "depthwise", "grouped", "linear")
RATES = {"pointwise": 20.0, "dense": 12.0, "winograd": 30.0, "depthwise": 8.0, "grouped": 6.0, "linear": 10.0}


def true_device(*, overhead_ms: float = 0.05, speed: float = 1.0) -> HardwareProfile:
    """A phone made up for tests, `speed` times as slow; its proportions are not those of the shipped population."""
    kinds = {kind: {"throughput_gops": RATES[kind] / speed, "overhead_ms": overhead_ms * speed} for kind in KINDS}
    beside = {kind: {"throughput_gops": None, "overhead_ms": 0.0} for kind in ("pool", "elementwise")}
    rates = {"weight_gb_per_s": 8.0 / speed, "activation_gb_per_s": 5.0 / speed}
    content = {
        **{"title": "made up", "runtime": "none", "threads": 1, "precision": "fp32", "budgets": {"gflops": 1.0}},
        **{"error": None, "error_reason": "made up", "source": "a test", "measured": [], "inferred": []},
        "latency": {"model": "roofline", **rates, "kinds": {**kinds, **beside}},
    }
    return profile_from_dict("true_device", content)


@cache
def mobile_networks(num: int, seed: int = 0) -> dict[str, tuple[Operation, ...]]:
    """Random networks of the shipped mobile space by name."""
    space = yaml_space("mobile")
    drawn = draw(space, num, np.random.default_rng(seed))
    return {f"net{i}": tuple(space.operations(space.choices(row))) for i, row in enumerate(drawn)}


def true_times(networks: Mapping[str, Sequence[Operation]], device: HardwareProfile) -> dict[str, float]:
    return {name: sum(device.price(op)["latency_ms"] for op in ops) for name, ops in networks.items()}


def write_networks(
    path: Path,
    networks: Mapping[str, Sequence[Operation]],
    times: Mapping[str, float | str],
    *,
    part: Mapping[str, str] | None = None,
) -> Path:
    """A file of measured networks with its layers beside it, and how each came to be measured."""
    rows: list[tuple[object, ...]] = [("network", "latency_ms"), *times.items()]
    if part is not None:
        rows = [(*row, mark) for row, mark in zip(rows, ["part", *(part[name] for name in times)], strict=True)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    write_layers(path, networks)
    return path


def write_bench() -> Path:
    """Twelve networks of a device whose prices are known, in bench.csv."""
    networks = mobile_networks(12)
    return write_networks(Path("bench.csv"), networks, true_times(networks, true_device()))


def write_operations(path: Path, times: Mapping[Operation, float | str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [(operation.notation, ms) for operation, ms in times.items()]
        csv.writer(file).writerows([("operation", "latency_ms"), *rows])
    return path
