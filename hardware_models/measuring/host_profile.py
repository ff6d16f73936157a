"""The `host` profile: this machine, measured with onnxruntime when a search starts and kept for the next one."""

import fcntl
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

from hardware_models.calibration.fitting import Array, conformal_factor, error_figures, fit_nonnegative
from hardware_models.calibration.roofline_design import (
    RooflineDesign,
    roofline_amounts,
    roofline_columns,
    roofline_design,
)
from hardware_models.domain import domain_of
from hardware_models.latency_models.roofline import PRICE_KINDS, price_kind
from hardware_models.measuring.measure import (
    RUNTIME,
    counted,
    machine_description,
    time_in_turns,
    time_operation,
    versions,
)
from hardware_models.measuring.random_networks import random_network, sample_operations
from search_spaces.errors import InvalidInputError

METHOD = 3  # counted up when what is measured or fitted changes, so that no profile of an earlier way is read
BOUND_LEVEL = 0.9  # needs at least 9 held-out networks
PRIOR_STRENGTH = 0.003  # weak: the fitted networks are drawn here, and drawn so that the kinds differ


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: operations of each kind, networks to fit and networks held out, and runs of each."""

    operations_per_kind: int = 15
    fit_networks: int = 42
    held_out_networks: int = 18
    repeats: int = 30


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
        fcntl.flock(lock, fcntl.LOCK_EX)  # jobs of a sweep would disturb each other
        if path.is_file():
            progress(f"host profile: read from {path}")
            return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
        profile = _measure(threads, effort, progress)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(yaml.safe_dump(profile, sort_keys=False, allow_unicode=True), encoding="utf-8")
        unfinished.replace(path)
        progress(f"host profile: written to {path}")
        return profile


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
    columns, fitted = roofline_columns(kinds, overhead_per_kind=True), slice(effort.fit_networks)
    alone_NF, amounts_NF = (
        roofline_amounts([[op] for op in operations]),
        roofline_amounts([n.operations for n in networks]),
    )
    alone = roofline_design(columns, np.ones(len(columns)))
    design = _drawn_to(columns, fit_nonnegative(alone.features(alone_NF), np.array(alone_ms)), amounts_NF[fitted])
    coefficients_P = design.fit(amounts_NF[fitted], measured_N[fitted], strength=PRIOR_STRENGTH)

    sums_N = design.features(amounts_NF) @ coefficients_P
    predicted, held_out = sums_N[effort.fit_networks :], measured_N[effort.fit_networks :]
    error = error_figures(predicted, held_out)
    # Of slow runs: the speed of a machine drifts between the measuring of its profile and of a network, by as much.
    factor = conformal_factor(predicted, slow_N[effort.fit_networks :], level=BOUND_LEVEL)
    progress(
        f"host profile: mean error {error['mape']:.1%} on {error['n']} held-out networks, bound factor {factor:.2f}"
    )
    return {
        "title": f"This machine: {machine_description()}",
        "runtime": RUNTIME,
        "runtime_version": _software(),
        "threads": threads,
        "precision": "fp32",
        "budgets": {},
        "latency": design.model(coefficients_P, kinds).model_dump(mode="json"),
        "error": {"method": "random networks of mobile blocks and of cells, none of them used in the fit", **error},
        "bound": {"level": BOUND_LEVEL, "n": error["n"], "factor": factor},
        "domain": domain_of(network.operations for network in networks).model_dump(mode="json"),
        **_origin(len(operations), effort),
    }


def _drawn_to(columns: Sequence[str], alone_P: Array, amounts_NF: Array) -> RooflineDesign:
    """The fit of whole networks, which show what fusion and caches leave of operations measured alone."""
    amount_P = roofline_design(columns, alone_P).features(amounts_NF).mean(axis=0)
    used = [i for i, amount in enumerate(amount_P) if amount]
    # A number must be positive to have a logarithm: at least a thousandth of the largest share in a typical network.
    floor_P = 1e-3 * (alone_P * amount_P).max() / amount_P[used]
    return roofline_design([columns[i] for i in used], np.maximum(alone_P[used], floor_P))


def _software() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items())


def _origin(num_operations: int, effort: Effort) -> dict[str, Any]:
    num_networks = effort.fit_networks + effort.held_out_networks
    return {
        "source": f"measured on {date.today().isoformat()} on {machine_description()}",
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
