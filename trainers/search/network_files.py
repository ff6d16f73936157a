"""The files of derived networks: architectures, weights, and what devices run."""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
from torch import nn

from search_spaces.architecture import Architecture
from trainers.runs.files import write_bytes, write_text
from trainers.runs.state import architecture_file, best_file, best_weights_file, onnx_path, weights_file
from trainers.runs.versions import versions
from trainers.search.derive import Derived
from trainers.search.plan import Plan
from trainers.search.provenance import hashes


def write_networks(plan: Plan, derived: Sequence[Derived], folder: Path) -> list[str]:
    """Writes the networks of all devices into a run folder, and returns the paths of the files below it."""
    origin = {**hashes(plan).model_dump(), "run": plan.config.run_key, "versions": versions()}
    paths: list[Path] = []
    for found in derived:
        device, finished = found.device, found.finished
        networks = [
            (found.architecture, finished.network, architecture_file(folder, device), weights_file(folder, device)),
            *(
                (best.architecture, best.network, best_file(folder, device, k), best_weights_file(folder, device, k))
                for k, best in enumerate(found.best, 1)
            ),
        ]
        for architecture, network, path, weights in networks:
            write_text(path, architecture.to_json(origin={**origin, "device": device}))
            paths.append(path)
            if network is not None:
                _write_weights(weights, network, architecture)
                paths.append(weights)
        if finished.file is not None:
            paths.append(onnx_path(folder, device))
            write_bytes(paths[-1], finished.file)
    return [path.relative_to(folder).as_posix() for path in paths]


def _write_weights(path: Path, network: nn.Module, architecture: Architecture) -> None:
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    write_bytes(path, safetensors.torch.save(weights, {"architecture": architecture.id}))
