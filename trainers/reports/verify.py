"""Everything a finished run says of itself that can be made again: hashed, rebuilt, recounted, and compared.

Each field of result.json is compared with what the other files give, or named in a check that says why it is not.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.analysis.loading import Run, load_run
from trainers.data.datasets import ImageData, load_data
from trainers.reports.check import UNFIT, Check, compared, gathered
from trainers.reports.course import search_checks, status_checks
from trainers.reports.figures import device_checks, figure_checks
from trainers.reports.ranking import ranking_checks
from trainers.reports.recount import Rebuilt, Told, rebuild
from trainers.reports.transfer import transfer_checks
from trainers.runs.config import SearchConfig, validate
from trainers.runs.files import read_json
from trainers.runs.plugins import require_plugins
from trainers.runs.state import architecture_file, weights_file
from trainers.search.plan import CHANNELS, data_config
from trainers.search.provenance import SCHEMA, file_hashes, versions
from trainers.search.result_writer import RUN_FILES, objective

FIELDS = (
    *("schema", "status", "command", "attempts", "space", "strategy", "seed", "data", "devices", "objective"),
    *("transfer", "search", "hashes", "files", "versions", "threads", "processors", "code", "earlier_code"),
)
PARTS_ROUNDED_TO = 0.011  # seconds: the sum of two figures, each rounded to a hundredth
NO_SUPERNET = Check(
    "accuracies",
    "not checked",
    "beyond what they agree in: they need the supernet's weights, which no run keeps",
    (
        *(f"devices.*.accuracy.{kind}" for kind in ("supernet", "inherited", "random")),
        *("devices.*.validation.accuracy", "devices.*.validation.loss"),
        *("devices.*.validation_accuracy", "devices.*.validation_loss", "lineage.json: supernet.id"),
    ),
)
DRAWN = Check("report.html", "not checked", "it is drawn from the other files; espalier-report draws it again")


def verify_run(folder: Path) -> list[Check]:
    """All checks of a finished run. Raises: InvalidInputError if it has no result, or its plug-ins are not here."""
    if not (folder / "status.json").is_file():
        raise InvalidInputError(f"no run in {folder}: it has no status.json; give the folder <runs>/<sweep>/<run>")
    try:
        run = load_run(folder)
    except InvalidInputError as error:
        return [Check("files of the run", "FAILED", str(error))]
    if run.result is None:
        todo = f"finish it first: {run.state.command}"
        if run.state.state == "infeasible":
            todo = "no network meets its budgets, so there is none to verify"
        raise InvalidInputError(f"{folder} is {run.state.state} and has no result to verify; {todo}")
    require_plugins(run.config, run.state.origin["code"].get("plugins", {}))
    try:
        config = validate(run.config)
    except InvalidInputError as error:
        return [*_plain_checks(run), Check("configuration", "FAILED", f"config.yaml: {error}")]
    data = _data(config)
    try:
        rebuilt = rebuild(run.path, config, run.result, data)
    except (EspalierError, OSError, *UNFIT) as error:
        fault = Check("networks", "FAILED", f"they cannot be rebuilt: {type(error).__name__}: {error}")
        return [*_plain_checks(run), *_configured_checks(run, config, data), fault]
    return checks_of(run, config, data=data, rebuilt=rebuilt)


def checks_of(run: Run, config: SearchConfig, *, data: ImageData | str, rebuilt: Rebuilt) -> list[Check]:
    """All checks of a run, of which the expensive part is done."""
    result = run.result or {}
    parts = {
        "devices": lambda: device_checks(config, result, rebuilt),
        "transfer": lambda: transfer_checks(result, rebuilt),
        "search": lambda: search_checks(run, config, rebuilt),
    }
    told = [Told(name, run.path, config, result, rebuilt) for name in config.hardware]
    return [
        *_plain_checks(run),
        *_configured_checks(run, config, data),
        *(check for name, part in parts.items() for check in gathered(name, part)),
        *(check for device in told for check in (*figure_checks(device), *ranking_checks(device))),
        NO_SUPERNET,
        DRAWN,
    ]


def _plain_checks(run: Run) -> list[Check]:
    """Checks that need neither the configuration nor the networks."""
    result = run.result or {}
    return [
        compared("fields", dict.fromkeys(result), dict.fromkeys(FIELDS), field=""),
        *gathered("files", lambda: _files(run.path, result)),
        *gathered("status", lambda: status_checks(run)),
        *gathered("versions", lambda: _versions(result)),
        *gathered("objective", lambda: _objective(result)),
    ]


def _configured_checks(run: Run, config: SearchConfig, data: ImageData | str) -> list[Check]:
    result = run.result or {}
    return [
        *gathered("configuration", lambda: _configuration(config, result)),
        *gathered("lineage", lambda: _lineage(run.path, config, result)),
        *gathered("data split", lambda: _split(config, data, result)),
    ]


def _files(folder: Path, result: Mapping[str, Any]) -> Iterator[Check]:
    recorded = result["files"]
    paths = [path(folder, name) for name in result["devices"] for path in (architecture_file, weights_file)]
    due = [*(path.relative_to(folder).as_posix() for path in paths), *RUN_FILES]
    for name in dict.fromkeys([*due, *recorded]):
        if name not in due or not (folder / name).resolve().is_relative_to(folder.resolve()):
            yield Check(f"file {name}", "FAILED", "result.json names a file outside the run, or none of its own")
        elif name not in recorded:
            yield Check(f"file {name}", "FAILED", f"files.{name} is missing: its hash")
        elif not (folder / name).is_file():
            yield Check(f"file {name}", "FAILED", "it is missing")
        else:
            found = file_hashes(folder, [name])[name]
            yield compared(f"file {name}", recorded[name], found, field=f"files.{name}")


def _lineage(folder: Path, config: SearchConfig, result: Mapping[str, Any]) -> Iterator[Check]:
    """Whether lineage.json is what the result and the files themselves give; weights that are gone, by their hash."""
    told = read_json(folder / "lineage.json")
    try:
        parent = told["supernet"]["id"]
    except (KeyError, TypeError) as error:
        yield Check("lineage", "FAILED", f"lineage.json is not whole: {type(error).__name__}: {error}")
        return
    architectures, models, measurements = {}, {}, {}
    for name, device in result["devices"].items():
        weights = f"weights/{name}.safetensors"
        there = (folder / weights).is_file()
        digest = (file_hashes(folder, [weights]) if there else result["files"])[weights]
        architectures[name] = {"id": device["id"], "parent": parent, "file": device["architecture"]}
        models[name] = {"id": digest, "parent": device["id"], "file": device["weights"]}
        if device["measured"] is not None:
            measurements[name] = {"parent": device["id"], "latency_ms": device["measured"]["latency_ms"]}
    found = {
        "schema": SCHEMA,
        "run": config.run_key,
        "supernet": {"id": parent, **result["hashes"]},
        "architectures": architectures,
        "models": models,
        "measurements": measurements,
    }
    yield compared("lineage", told, found, field="lineage.json")


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
    recorded = result["objective"]
    yield compared("objective", recorded, objective(result["devices"], seconds=recorded["seconds"]), field="objective")
    parts = result["search"]["train_seconds"] + result["search"]["derive_seconds"]
    rounded = recorded["seconds"] if abs(recorded["seconds"] - parts) < PARTS_ROUNDED_TO else parts
    yield compared("seconds", recorded["seconds"], rounded, field="objective.seconds")


def _configuration(config: SearchConfig, result: Mapping[str, Any]) -> Iterator[Check]:
    yield compared("configuration", result["hashes"]["config"], config.digest, field="hashes.config")
    names = {"space": config.space["name"], "strategy": config.strategy["name"], "seed": config.seed}
    yield compared("names", {name: result[name] for name in names}, names, field="")


def _data(config: SearchConfig) -> ImageData | str:
    """The data of a run, or why they cannot be read here."""
    try:
        return load_data(data_config(config.data), channels=CHANNELS)
    except (EspalierError, OSError) as error:
        return f"the data cannot be read here: {error}"


def _split(config: SearchConfig, data: ImageData | str, result: Mapping[str, Any]) -> Iterator[Check]:
    recorded, split_hash = result["data"], result["hashes"]["data_split"]
    found = {"name": config.data["name"], "split_hash": split_hash}
    if isinstance(data, str):
        yield Check("data split", "not checked", data, ("data.images", "data.origin"))
        found |= {key: recorded[key] for key in ("images", "origin")}
    else:
        sizes = {split: data.size(split) for split in ("weights", "architecture", "validation", "test")}
        found |= {"split_hash": data.splits.hash, "images": sizes, "origin": recorded["origin"]}
        if data.origin != recorded["origin"]:
            why = f"the same images were read from {recorded['origin']!r} then, from {data.origin!r} now"
            yield Check("origin of the data", "not checked", why, ("data.origin",))
    yield compared("data split", recorded, found, field="data")
    yield compared("hash of the split", split_hash, found["split_hash"], field="hashes.data_split")
