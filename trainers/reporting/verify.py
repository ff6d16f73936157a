"""Everything a finished run says of itself that can be made again: hashed, rebuilt, recounted, and compared."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.analysis.loading import Run, load_run
from trainers.config import SearchConfig, validate
from trainers.data import ImageData, load_data
from trainers.prepare import CHANNELS, data_config
from trainers.provenance import file_hashes, versions
from trainers.reporting.check import OLDER, UNFIT, Check, compared
from trainers.reporting.recount import recounted_devices
from trainers.result import objective

PARTS_ROUNDED_TO = 0.011  # seconds: the sum of two figures, each rounded to a hundredth


def verify_run(folder: Path) -> list[Check]:
    """All checks of a finished run. Raises: InvalidInputError if the folder holds no run, or one without a result."""
    if not (folder / "status.json").is_file():
        raise InvalidInputError(f"no run in {folder}: it has no status.json; give the folder <runs>/<sweep>/<run>")
    try:
        run = load_run(folder)
    except InvalidInputError as error:
        return [Check("files of the run", "FAILED", str(error))]
    result = run.result
    if result is None:
        todo = f"finish it first: {run.state.command}"
        if run.state.state == "infeasible":
            todo = "no network meets its budgets, so there is none to verify"
        raise InvalidInputError(f"{folder} is {run.state.state} and has no result to verify; {todo}")
    checks = [
        *_checks("files", lambda: _files(run.path, result)),
        *_checks("lineage", lambda: _lineage(run.path, result)),
        *_checks("status", lambda: _status(run, result)),
        *_checks("versions", lambda: _versions(result)),
        *_checks("objective", lambda: _objective(result)),
    ]
    try:
        config = validate(run.config)
    except InvalidInputError as error:
        return [*checks, Check("configuration", "FAILED", f"config.yaml: {error}")]
    data = _data(config)
    return [
        *checks,
        *_checks("configuration", lambda: _configuration(config, result)),
        *_checks("data split", lambda: _split(data, result)),
        *_checks("networks", lambda: recounted_devices(run.path, config, result, data)),
        Check(
            "accuracies",
            "not checked",
            "of supernet, candidates and random networks: they need the supernet's weights, which no run keeps",
        ),
    ]


def _checks(what: str, compare: Callable[[], Iterator[Check]]) -> list[Check]:
    """The checks of a part; a part that cannot be read at all has failed."""
    found: list[Check] = []
    try:
        found.extend(compare())
    except EspalierError as error:
        found.append(Check(what, "FAILED", str(error)))
    except UNFIT as error:
        found.append(Check(what, "FAILED", f"result.json is not whole: {type(error).__name__} {error}"))
    return found


def _files(folder: Path, result: Mapping[str, Any]) -> Iterator[Check]:
    recorded = result.get("files")
    if recorded is None:
        yield Check("files", "not checked", OLDER)
        return
    for name, digest in recorded.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            yield Check(f"file {name}", "FAILED", "result.json names a file outside the run")
        elif not path.is_file():
            yield Check(f"file {name}", "FAILED", "it is missing")
        else:
            found = file_hashes(folder, [name])[name]
            yield compared(f"file {name}", digest, found, field=f"files.{name}")


def _lineage(folder: Path, result: Mapping[str, Any]) -> Iterator[Check]:
    if "files" not in result:
        yield Check("lineage", "not checked", OLDER)
        return
    try:
        content = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
        kept = content["architectures"]
        told = {name: {"id": kept[name]["id"], "weights_sha256": kept[name]["weights_sha256"]} for name in kept}
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Check("lineage", "FAILED", f"lineage.json cannot be read: {type(error).__name__}: {error}")
        return
    found = {
        name: {"id": device["id"], "weights_sha256": result["files"].get(f"weights/{name}.safetensors")}
        for name, device in result["devices"].items()
    }
    yield compared("lineage", told, found, field="lineage.json: architectures")


def _status(run: Run, result: Mapping[str, Any]) -> Iterator[Check]:
    yield compared("status", result["status"], run.state.state, field="status")
    met = all(device["met"] for device in result["devices"].values())
    yield compared("verdict", result["status"], "done" if met else "unmet", field="status")


def _versions(result: Mapping[str, Any]) -> Iterator[Check]:
    now = versions()
    other = {
        name: f"{then} then, {now.get(name)} now" for name, then in result["versions"].items() if then != now.get(name)
    }
    if other:
        told = "; ".join(f"{name} {words}" for name, words in other.items())
        yield Check("versions", "not checked", f"{told}; figures may differ in their last digits")
    else:
        yield Check("versions", "ok")


def _objective(result: Mapping[str, Any]) -> Iterator[Check]:
    recorded = result.get("objective")
    if recorded is None:
        yield Check("objective", "not checked", OLDER)
        return
    yield compared("objective", recorded, objective(result["devices"], seconds=recorded["seconds"]), field="objective")
    parts = result["search"]["train_seconds"] + result["search"]["derive_seconds"]
    rounded = recorded["seconds"] if abs(recorded["seconds"] - parts) < PARTS_ROUNDED_TO else parts
    yield compared("seconds", recorded["seconds"], rounded, field="objective.seconds")


def _configuration(config: SearchConfig, result: Mapping[str, Any]) -> Iterator[Check]:
    recorded = result.get("hashes")
    if recorded is None:
        yield Check("configuration", "not checked", OLDER)
    else:
        yield compared("configuration", recorded["config"], config.digest, field="hashes.config")
    names = {"space": config.space["name"], "strategy": config.strategy["name"], "seed": config.seed}
    yield compared("names", {name: result[name] for name in names}, names, field="")


def _data(config: SearchConfig) -> ImageData | str:
    """The data of a run, or why they cannot be read here."""
    try:
        return load_data(data_config(config.data), channels=CHANNELS)
    except (EspalierError, OSError) as error:
        return f"the data cannot be read here: {error}"


def _split(data: ImageData | str, result: Mapping[str, Any]) -> Iterator[Check]:
    recorded = {"split_hash": result["data"]["split_hash"], "images": result["data"]["images"]}
    if "hashes" in result:
        yield compared("data split", recorded["split_hash"], result["hashes"]["data_split"], field="hashes.data_split")
    if isinstance(data, str):
        yield Check("data split", "not checked", data)
        return
    sizes = {split: data.size(split) for split in ("weights", "architecture", "validation", "test")}
    yield compared("data split", recorded, {"split_hash": data.splits.hash, "images": sizes}, field="data")
