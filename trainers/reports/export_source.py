"""What a folder has to export: the networks of a finished search, by device, or that of a finished training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of
from trainers.analysis.run_files import read_config
from trainers.deploy.retrain import ARCHITECTURE
from trainers.deploy.retrain_result import RESULT, RetrainResult, is_retrained
from trainers.runs.files import read_as
from trainers.runs.plugins import require_plugins
from trainers.runs.result import DeviceResult, read_result
from trainers.runs.result_parts import Data
from trainers.runs.state import FINISHED, architecture_file, onnx_path, state_of, weights_file

NETWORK = "network"  # the name of that of a training, which is for no device


@dataclass(frozen=True)
class Source:
    """A network to export: its files, and what it was found for, or how it was trained.

    `onnx` is where its file of fp32 lies, if the run left one. `run` is the name of its run's folder.
    """

    name: str
    run: str
    space: str
    notation: str
    architecture: Path
    weights: Path
    onnx: Path | None
    device: DeviceResult | None = None
    training: RetrainResult | None = None


@dataclass(frozen=True)
class Finished:
    """A finished run: its networks, and the data that they were trained with, in both training splits if `joined`.

    `content` is the configuration of the data, `data` what was read of them.
    """

    content: Mapping[str, Any]
    data: Data
    joined: bool
    sources: list[Source]


def finished_run(folder: Path, devices: Sequence[str] | None) -> Finished:
    """The run of a search or a training in a folder, with the networks of `devices`, or all of them.

    Raises: InvalidInputError for a folder without a finished run, or a network that cannot be exported.
    """
    state = state_of(folder)
    if state.state not in FINISHED:
        raise InvalidInputError(f"run: {folder} is {state.state} and has no result; finish it: {state.command}")
    is_training = is_retrained(folder)
    config = _training_config(folder / "config.yaml") if is_training else read_config(folder / "config.yaml")
    require_plugins(config, state.code.get("plugins", {}))
    found = _training if is_training else _search
    return found(folder, config, devices)


def _training_config(path: Path) -> dict[str, Any]:
    """What a training writes of its data and plug-ins, beside its protocol. Raises: InvalidInputError if it is not."""
    try:
        content = yaml.safe_load(text_of(path))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInputError(f"run: cannot read {path}: {error}") from error
    types = {"data": dict, "joined": bool, "plugins": list}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in types.items()):
        raise InvalidInputError(f"run: {path} is not the configuration of a training")
    return content


def _search(folder: Path, config: Mapping[str, Any], devices: Sequence[str] | None) -> Finished:
    result, sources = read_result(folder / "result.json"), []
    for name in devices or result.devices:
        if name not in result.devices:
            raise InvalidInputError(f"devices: got {name}, allowed: {', '.join(result.devices)}")
        device = result.devices[name]
        if device.file is None and device.is_proxy:
            sizes = ["x".join(map(str, size or [])) for size in (device.trained_size, device.input_size)]
            raise InvalidInputError(
                f"devices: the network of {name} was trained with images of {sizes[0]}, it takes {sizes[1]}; "
                "search with trainer.deploy=true, which trains it at its own size"
            )
        is_fp32 = device.file is not None and device.file.precision == "fp32"
        sources.append(
            Source(
                name=name,
                run=folder.resolve().name,
                space=result.space,
                notation=device.notation,
                architecture=architecture_file(folder, name),
                weights=weights_file(folder, name),
                onnx=onnx_path(folder, name) if is_fp32 else None,
                device=device,
            )
        )
    return Finished(config["data"], result.data, False, sources)


def _training(folder: Path, config: Mapping[str, Any], devices: Sequence[str] | None) -> Finished:
    if devices is not None:
        raise InvalidInputError(
            f"devices: got {', '.join(devices)}, but a training has one network, for no device; leave it out"
        )
    result = read_as(folder / RESULT, RetrainResult)
    best = next((seed for seed in result.seeds if seed.seed == result.best_seed), None)
    if best is None:
        raise InvalidInputError(f"run: {folder / RESULT}: best_seed {result.best_seed} is none of its seeds")
    source = Source(
        name=NETWORK,
        run=folder.resolve().name,
        space=result.space,
        notation=result.notation,
        architecture=folder / ARCHITECTURE,
        weights=folder / best.weights,
        onnx=folder / result.file.path,
        training=result,
    )
    return Finished(config["data"], result.data, config["joined"], [source])
