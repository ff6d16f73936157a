"""Where a result comes from, by content: hashes of what went in and of what came out, and lineage."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from search_spaces.regular_files import check_regular
from trainers.runs.plugins import code_of
from trainers.runs.state import architecture_file, weights_file
from trainers.search.derive import Derived
from trainers.search.plan import Plan

SCHEMA = 1
PACKAGES = ("espalier", "torch", "pytorch-lightning", "fvcore", "scipy", "numpy", "onnxruntime")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def hashes(plan: Plan) -> dict[str, str]:
    """sha256 of what a result depends on: the configuration, the prices made of it, which images are in which split."""
    return {"config": plan.config.digest, "cost_table": plan.table.digest, "data_split": plan.data.splits.hash}


def origin(plan: Plan) -> dict[str, Any]:
    """What an attempt at a search starts from: its hashes, the code that runs, and versions."""
    return {"hashes": hashes(plan), "code": vars(code_of(plan.config.model_dump(mode="json"))), "versions": versions()}


def file_hashes(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """sha256 of each of `files`, by its path below `folder`. Raises: OSError; ValueError for a pipe or a device."""
    return {file: _sha256(folder / file) for file in files}


def _sha256(path: Path) -> str:
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lineage(
    plan: Plan, supernet: torch.nn.Module, derived: Sequence[Derived], files: Mapping[str, str]
) -> dict[str, Any]:
    """The supernet, by its inputs and the content of its weights; the networks that came of it; their measurements.

    A model is a network as fine-tuned, by the hash of its weights. A measurement comes before that, of a network with
    inherited weights, so its parent is the architecture.
    """
    parent = weights_digest(supernet)
    measured = {network.device: network.verdict.certificate.measured for network in derived}
    return {
        "schema": SCHEMA,
        "run": plan.config.run_key,
        "supernet": {"id": parent, **hashes(plan)},
        "architectures": {
            network.device: {
                "id": network.architecture.id,
                "parent": parent,
                "file": architecture_file(Path(), network.device).as_posix(),
            }
            for network in derived
        },
        "models": {
            network.device: {
                "id": files[weights_file(Path(), network.device).as_posix()],
                "parent": network.architecture.id,
                "file": weights_file(Path(), network.device).as_posix(),
            }
            for network in derived
        },
        "measurements": {
            network.device: {"parent": network.architecture.id, "latency_ms": measurement.p50_ms}
            for network in derived
            if (measurement := measured[network.device]) is not None
        },
    }


def weights_digest(module: torch.nn.Module) -> str:
    """sha256 of the names and values of all weights and statistics of a module."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
