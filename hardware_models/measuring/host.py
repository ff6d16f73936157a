"""The `host` profile: the machine at hand, measured with onnxruntime when a search starts and kept for the next one."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from hardware_models.calibration.fitting import (
    Array,
    conformal_factor,
    error_figures,
    fit_nonnegative,
    fit_with_prior,
    roofline_columns,
    roofline_features,
    roofline_model,
)
from hardware_models.latency_models.roofline import PRICE_KINDS, PriceKind, price_kind
from hardware_models.measuring.graph import Graph
from hardware_models.measuring.measure import (
    RUNTIME,
    counted,
    machine_description,
    time_in_turns,
    time_operation,
    versions,
)
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation, Shape

RESOLUTIONS = (128, 160, 192, 224)
# From MobileNetV3's widths to EfficientNet-B4's: wide convolutions run closer to the peak than narrow ones.
STAGE_CHANNELS = ((16, 24, 40, 72), (24, 40, 64, 112), (40, 80, 112, 224), (80, 112, 192, 272), (112, 160, 224, 448))
STAGE_STRIDES = (2, 2, 2, 1, 2)
METHOD = 2  # counted up when what is measured or fitted changes, so that no profile of an earlier way is read
BOUND_LEVEL = 0.9  # needs at least 9 held-out networks
PRIOR_STRENGTH = 0.003  # weak: the fitted networks are drawn here, and drawn to tell the kinds apart


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: operations of each kind, networks to fit and networks held out, and runs of each."""

    operations_per_kind: int = 15
    fit_networks: int = 42
    held_out_networks: int = 18
    repeats: int = 30


def resolve_host(name: str, mapping: Mapping[str, Any], cache_dir: Path) -> Mapping[str, Any]:
    """The profile as plain values, `latency: {model: host}` replaced by what was measured here; others as they are.

    Fields given beside it (title, budgets) win over measured ones.
    Raises: InvalidInputError if it asks for what cannot be measured here, or if nothing can be kept in `cache_dir`.
    """
    latency = mapping.get("latency") if isinstance(mapping, Mapping) else None
    if not isinstance(latency, Mapping) or latency.get("model") != "host":
        return mapping
    threads = mapping.get("threads")
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise InvalidInputError(f"hardware.{name}.threads: got {threads!r}; allowed: a whole number of at least 1")
    for key, allowed in (("runtime", RUNTIME), ("precision", "fp32")):
        if mapping.get(key, allowed) != allowed:
            raise InvalidInputError(
                f"hardware.{name}.{key}: got {mapping[key]!r}; this machine is measured with {allowed} only; "
                "for another one give a fitted `latency`"
            )
    if len(latency) > 1:
        raise InvalidInputError(f"hardware.{name}.latency: got {dict(latency)}; a host's has no field but `model`")
    given = {key: value for key, value in mapping.items() if key != "latency"}
    return {**measure_host_profile(threads=threads, cache_dir=cache_dir), **given}


def measure_host_profile(
    *, threads: int, cache_dir: Path, effort: Effort = Effort(), progress: Callable[[str], None] = print
) -> dict[str, Any]:
    """The profile of this machine as plain values without budgets: from the cache, or measured now and cached there.

    The cache knows the machine, the versions, the threads and the effort; delete its file to measure again.
    """
    path = Path(cache_dir) / f"host-{_fingerprint(threads, effort)}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("ab")
    except OSError as error:
        raise InvalidInputError(
            f"paths.cache: cannot write into {cache_dir}: {error.strerror}; name a folder where you can"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # jobs of a sweep would else measure each other
        return _read_or_measured(path, threads, effort, progress)


def _read_or_measured(path: Path, threads: int, effort: Effort, progress: Callable[[str], None]) -> dict[str, Any]:
    if path.is_file():
        progress(f"host profile: read from {path}")
        return _read(path)
    profile = _measure(threads, effort, progress)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(yaml.safe_dump(profile, sort_keys=False, allow_unicode=True), encoding="utf-8")
    unfinished.replace(path)
    progress(f"host profile: written to {path}")
    return profile


def _read(path: Path) -> dict[str, Any]:
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidInputError(
            f"cannot read the measured host profile {path}: {error}; delete it to measure again"
        ) from error
    return dict(profile)


def _fingerprint(threads: int, effort: Effort) -> str:
    text = f"{METHOD} {machine_description()} {versions()} {threads} {effort}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _measure(threads: int, effort: Effort, progress: Callable[[str], None]) -> dict[str, Any]:
    random = Random(0)
    operations = sample_operations(random, effort.operations_per_kind)
    progress(f"host profile: timing {len(operations)} operations with {RUNTIME}, {counted(threads, 'thread')}")
    alone_ms = [time_operation(op, threads=threads, repeats=effort.repeats).min_ms for op in operations]

    networks = [random_network(random, i) for i in range(effort.fit_networks + effort.held_out_networks)]
    progress(f"host profile: timing {len(networks)} networks")
    models = [network.graph.model() for network in networks]
    timed = time_in_turns(models, threads=threads, repeats=effort.repeats)
    measured_N, slow_N = np.array([m.p50_ms for m in timed]), np.array([m.p90_ms for m in timed])

    kinds = [kind for kind in PRICE_KINDS if any(price_kind(op) == kind for op in operations)]
    columns = roofline_columns(kinds, overhead_per_kind=True)
    prior_P = fit_nonnegative(_features([[op] for op in operations], columns), np.array(alone_ms))
    features_NP, fitted = _features([network.operations for network in networks], columns), slice(effort.fit_networks)
    coefficients_P = _fit(features_NP[fitted], measured_N[fitted], prior_P)

    predicted, held_out = (features_NP @ coefficients_P)[effort.fit_networks :], measured_N[effort.fit_networks :]
    error = error_figures(predicted, held_out)
    # Of slow runs: the speed of a machine drifts between the measuring of its profile and of a network, by as much.
    factor = conformal_factor(predicted, slow_N[effort.fit_networks :], level=BOUND_LEVEL)
    progress(
        f"host profile: mean error {error['mape']:.1%} on {error['n']} held-out networks, bound factor {factor:.2f}"
    )
    return {
        "title": f"This machine: {machine_description()}",
        "runtime": RUNTIME,
        "threads": threads,
        "precision": "fp32",
        "budgets": {},
        "latency": roofline_model(columns, coefficients_P).model_dump(mode="json"),
        "error": {"method": "random networks of mobile blocks and of cells, none of them used in the fit", **error},
        "bound": {"level": BOUND_LEVEL, "n": error["n"], "factor": factor},
        **_origin(len(operations), effort),
    }


def _fit(features_NP: Array, measured_N: Array, prior_P: Array) -> Array:
    """Coefficients (P,) of whole networks, which tell what fusion and caches leave of operations measured alone."""
    used_P = features_NP.any(axis=0)
    amount_P = features_NP[:, used_P].mean(axis=0)
    # A number must be positive to have a logarithm: at least a thousandth of the largest share in a typical network.
    floor_P = 1e-3 * (prior_P[used_P] * amount_P).max() / amount_P
    prior_U = np.maximum(prior_P[used_P], floor_P)
    coefficients_P = np.zeros(len(prior_P))
    coefficients_P[used_P] = fit_with_prior(features_NP[:, used_P], measured_N, prior_U, strength=PRIOR_STRENGTH)
    return coefficients_P


def _features(networks: Sequence[Sequence[Operation]], columns: Sequence[str]) -> Array:
    return np.stack([roofline_features(operations, columns) for operations in networks])


def _origin(num_operations: int, effort: Effort) -> dict[str, Any]:
    software = ", ".join(f"{name} {version}" for name, version in versions().items())
    num_networks = effort.fit_networks + effort.held_out_networks
    return {
        "source": f"measured on {date.today().isoformat()} on {machine_description()}; {software}",
        "measured": [
            f"Median time of {num_networks} whole networks, taken in turns, {effort.repeats} runs each.",
            f"Least kernel time of {num_operations} single operations inside small graphs, {effort.repeats} runs each.",
        ],
        "inferred": [
            f"Throughputs, bandwidths, overheads are fitted to {effort.fit_networks} of the networks (robust).",
            "They are drawn weakly to the single operations: measured alone, nothing is fused or still in cache.",
            "The bound covers the 90th percentile of a held-out network's runs, because a machine's speed drifts.",
            "The networks have random weights; latency does not depend on their values.",
        ],
    }


@dataclass(frozen=True, slots=True)
class Network:
    """A network to time, and its operations to price."""

    graph: Graph = field(default_factory=Graph)
    operations: list[Operation] = field(default_factory=list)

    def add(self, operation: Operation, *inputs: str, activation: str = "") -> str:
        self.operations.append(operation)
        return self.graph.add(operation, *inputs, activation=activation)


def sample_operations(random: Random, per_kind: int) -> list[Operation]:
    """Distinct operations of random networks, up to `per_kind` of each kind that a roofline tells apart."""
    drawn = (op for i in range(24) for op in random_network(random, i).operations)
    by_kind: dict[PriceKind, list[Operation]] = {}
    for operation in dict.fromkeys(drawn):
        by_kind.setdefault(price_kind(operation), []).append(operation)
    return [op for operations in by_kind.values() for op in random.sample(operations, min(per_kind, len(operations)))]


def random_network(random: Random, index: int) -> Network:
    """A random network: two of three are of mobile blocks, the third of NAS-Bench-201's operations."""
    return _cell_network(random) if index % 3 == 2 else _mobile_network(random)


def _mobile_network(random: Random) -> Network:
    network, resolution = Network(), random.choice(RESOLUTIONS)
    shape: Shape = (24, resolution // 2, resolution // 2)
    stem = Operation("conv", (3, resolution, resolution), shape, kernel=3, stride=2)
    x = network.add(stem, network.graph.input(1, *stem.in_shape), activation="Relu")
    for stage, (channels, stride) in enumerate(zip(STAGE_CHANNELS, STAGE_STRIDES, strict=True)):
        width, activation = random.choice(channels), "HardSwish" if stage >= 2 else "Relu"
        for block in range(random.choice((1, 2, 3, 4))):
            x, shape = _mobile_block(network, random, x, shape, width, 1 if block else stride, activation)
    head = (960, *shape[1:])
    x = network.add(Operation("conv", shape, head), x, activation="HardSwish")
    x = network.add(Operation("global_pool", head, (960, 1, 1)), x)
    x = network.add(Operation("linear", (960, 1, 1), (1280, 1, 1)), x, activation="HardSwish")
    network.add(Operation("linear", (1280, 1, 1), (random.choice((10, 100, 1000)), 1, 1)), x)
    return network


def _mobile_block(
    network: Network, random: Random, x: str, shape: Shape, width: int, stride: int, activation: str
) -> tuple[str, Shape]:
    hidden, side = shape[0] * random.choice((3, 4, 6)), -(-shape[1] // stride)
    wide, small, out = (hidden, *shape[1:]), (hidden, side, side), (width, side, side)
    y = network.add(Operation("conv", shape, wide), x, activation=activation)
    kernel = random.choice((3, 5, 7))
    y = network.add(Operation("conv", wide, small, kernel, stride, groups=hidden), y, activation=activation)
    if random.random() < 0.5:
        one, narrow = (hidden, 1, 1), (max(8, shape[0] // 4 // 8 * 8), 1, 1)
        gate = network.add(Operation("global_pool", small, one), y)
        gate = network.add(Operation("conv", one, narrow), gate, activation="Relu")
        gate = network.add(Operation("conv", narrow, one), gate, activation="HardSigmoid")
        y = network.add(Operation("scale", small, small), y, gate)
    y = network.add(Operation("conv", small, out), y)
    return (network.add(Operation("add", out, out), x, y) if shape == out else y), out


def _cell_network(random: Random) -> Network:
    network, side, num_cells = Network(), 32, random.choice((1, 3, 5))
    shape: Shape = (16, side, side)
    x = network.add(Operation("conv", (3, side, side), shape, kernel=3), network.graph.input(1, 3, side, side))
    for stage in range(3):
        if stage:
            wide: Shape = (2 * shape[0], shape[1] // 2, shape[2] // 2)
            x, shape = network.add(Operation("conv", shape, wide, kernel=3, stride=2), x, activation="Relu"), wide
        # One draw for all cells: a network repeats its cell.
        edges = [random.choice(("conv1", "conv3", "avg_pool")) for _ in range(random.choice((2, 3, 4)))]
        for _ in range(num_cells):
            for edge in edges:
                x = network.add(Operation("add", shape, shape), x, _edge(network, edge, shape, x))
    x = network.add(Operation("global_pool", shape, (shape[0], 1, 1)), x)
    network.add(Operation("linear", (shape[0], 1, 1), (10, 1, 1)), x)
    return network


def _edge(network: Network, edge: str, shape: Shape, x: str) -> str:
    if edge == "avg_pool":
        return network.add(Operation("avg_pool", shape, shape, kernel=3), x)
    kernel = 3 if edge == "conv3" else 1
    return network.add(Operation("conv", shape, shape, kernel=kernel), network.graph.activate(x, "Relu"))
