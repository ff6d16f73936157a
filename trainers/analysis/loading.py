"""Runs and sweeps as data frames."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hardware_models.metrics import METRICS
from search_spaces.architecture import read_architecture
from search_spaces.errors import InvalidInputError
from trainers.analysis.labels import differing, search_labels, settings_hash
from trainers.analysis.run_files import Alphas, read_alphas, read_config, read_table
from trainers.runs.metric_names import EPOCH, STEP, STEP_SECONDS, VALIDATION_ACCURACY
from trainers.runs.result import CandidateRow, DeviceResult, Result, read_result
from trainers.runs.state import FINISHED, RunState, architecture_file, state_of

ACCURACIES = ("validation", "supernet", "inherited", "finetuned", "random")
FIGURES = ("budget", "predicted", "upper", "recounted", "measured", "utilisation")
DEVICE_COLUMNS = (
    *("device", "id", "met", "binding"),
    *(f"{figure}_{metric}" for figure in FIGURES for metric in METRICS),
    *(f"accuracy_{kind}" for kind in ACCURACIES),
)
CANDIDATE_COLUMNS = tuple(CandidateRow.model_fields)
METRICS_COLUMNS = (EPOCH, STEP, STEP_SECONDS, VALIDATION_ACCURACY)  # of metrics.csv, as far as every run has them
PRUNE_COLUMNS = ("step", "device", "decision", "choice", "reason")  # of the pruning log, as far as it is read here
RUN_COLUMNS = ("run", "search", "strategy", "seed", "space", "state")
KNOWN = ("strategy.name", "space.name", "seed")  # keys that other columns hold


@dataclass(frozen=True)
class Run:
    """One run folder. What a run has not left yet is an empty frame, or None.

    `metrics` has a row per epoch, `prunes` one per choice that went, `devices` one per device: budgets, and for each
    metric the figures predicted, at their upper bound, recounted and measured, which never mix. Accuracies are shares.
    """

    path: Path
    state: RunState
    result: Result | None
    config: dict[str, Any]
    metrics: pd.DataFrame
    prunes: pd.DataFrame
    devices: pd.DataFrame
    alphas: Alphas | None

    @property
    def device_results(self) -> Mapping[str, DeviceResult]:
        """The devices of the result, by name; none without a result."""
        return self.result.devices if self.result else {}


@dataclass(frozen=True)
class Sweep:
    """The runs of one sweep folder, by name. `table` has a row per run and device, also of runs without a result.

    Besides the figures it has a column for each configuration key, dotted, whose values differ between the runs, such
    as `optimizer.lr`: of keys that results depend on, so not of paths or tags. A list is text, as on a command line; a
    run that lacks the key has none. `search` says in words what differs but for the seed: runs that share it are seeds
    of one search.
    `unreadable` has the reason, by name, for each run that `load_readable` left out because a file of it is malformed;
    `load_sweep` leaves none out.
    """

    path: Path
    runs: tuple[Run, ...]
    table: pd.DataFrame
    unreadable: Mapping[str, str] = field(default_factory=dict)


def load_run(path: Path | str) -> Run:
    """The run in a folder. Raises: InvalidInputError, naming file and field, for what is there and malformed."""
    folder = Path(os.path.expanduser(path))
    if not os.path.isfile(folder / "status.json"):
        raise InvalidInputError(f"no run in {folder}: it has no status.json; give the folder <runs>/<sweep>/<run>")
    state = state_of(folder)
    config = read_config(folder / "config.yaml")
    result = read_result(folder / "result.json") if state.state in FINISHED else None
    return Run(
        path=folder,
        state=state,
        result=result,
        config=config,
        metrics=read_table(folder / "metrics.csv", required=METRICS_COLUMNS),
        prunes=read_table(folder / "prune.csv", required=PRUNE_COLUMNS),
        devices=_devices(result, config),
        alphas=read_alphas(folder / "alphas.npz"),
    )


def load_sweep(path: Path | str) -> Sweep:
    """Every run of a sweep folder. Raises: InvalidInputError if it has none, or one that `load_run` refuses."""
    folder = Path(os.path.expanduser(path))
    found = run_folders(folder)
    if not found:
        raise InvalidInputError(f"no runs in {folder}; give the folder <runs>/<sweep>, which holds a folder per run")
    return sweep_of(folder, [load_run(run) for run in found])


def load_readable(path: Path | str) -> Sweep:
    """`load_sweep`, but runs with a malformed file are left out, with the reason, and there may be none at all.

    Raises: InvalidInputError if the folder is a run's.
    """
    folder = Path(os.path.expanduser(path))
    runs: list[Run] = []
    unreadable = {}
    for found in run_folders(folder):
        try:
            run = load_run(found)
            check_networks(run)
            runs.append(run)
        except InvalidInputError as error:
            unreadable[found.name] = str(error)
    return sweep_of(folder, runs, unreadable=unreadable)


def check_networks(run: Run) -> None:
    """Raises: InvalidInputError if the networks of a run are not of its devices, or not those of its result."""
    devices, searched = sorted(run.device_results), sorted(run.config.get("hardware", {}))
    if devices and devices != searched:
        raise InvalidInputError(f"{run.path}: result.json has devices {devices}, config.yaml has {searched}")
    for name, device in run.device_results.items():
        path = architecture_file(run.path, name)
        if read_architecture(path).id != device.id:
            raise InvalidInputError(f"{path}: field 'id' is not that of result.json")


def run_folders(folder: Path) -> list[Path]:
    """Those in a sweep folder, by name. Raises: InvalidInputError if the folder is a run's."""
    if os.path.isfile(folder / "status.json"):
        raise InvalidInputError(f"{folder} is a run and no sweep; load it with load_run, or give {folder.parent}")
    return sorted(file.parent for file in folder.glob("*/status.json"))


def sweep_of(path: Path, runs: Sequence[Run], *, unreadable: Mapping[str, str] | None = None) -> Sweep:
    configs = [run.config for run in runs]
    searches = search_labels(configs)
    known = {*KNOWN, *RUN_COLUMNS, *DEVICE_COLUMNS}
    settings = {key: values for key, values in differing(configs).items() if key not in known}
    rows = []
    for number, run in enumerate(runs):
        own = {**_labels(run, searches), **{key: values[number] for key, values in settings.items()}}
        rows += [{**own, **device} for device in run.devices.to_dict("records") or [{}]]
    table = pd.DataFrame(rows, columns=[*RUN_COLUMNS, *settings, *DEVICE_COLUMNS])
    return Sweep(path, tuple(runs), table, unreadable or {})


def candidates(run: Run) -> pd.DataFrame:
    """The networks that were validated for each device: a row each, best first, the same number drawn at random.

    `searched` tells the two apart; `utilisation` is the share of the binding budget, accuracies are shares of the
    validation split, with inherited weights. No rows without a result.
    """
    rows = [
        {"device": name, "searched": searched, **dict(candidate)}
        for name, device in run.device_results.items()
        for searched, candidates in ((True, device.candidates), (False, device.random_candidates))
        for candidate in candidates
    ]
    return pd.DataFrame(rows, columns=["device", "searched", *CANDIDATE_COLUMNS])


def _labels(run: Run, searches: Mapping[str, str]) -> dict[str, Any]:
    """What tells a run from others; without a name where it has no configuration yet."""
    names = {key: run.config[key]["name"] if run.config else None for key in ("strategy", "space")}
    search = searches[settings_hash(run.config)] if run.config else None
    return {"run": run.path.name, "search": search, **names, "seed": run.config.get("seed"), "state": run.state.state}


def _devices(result: Result | None, config: Mapping[str, Any]) -> pd.DataFrame:
    if result is not None:
        rows = [{"device": name, **_figures(device)} for name, device in result.devices.items()]
    else:
        hardware = config.get("hardware", {})
        rows = [{"device": name, **_prefixed("budget", profile["budgets"])} for name, profile in hardware.items()]
    return pd.DataFrame(rows, columns=list(DEVICE_COLUMNS))


def _figures(device: DeviceResult) -> dict[str, Any]:
    return {
        "id": device.id,
        "met": device.met,
        "binding": device.binding,
        **_prefixed("budget", device.budgets),
        **_prefixed("predicted", device.predicted),
        **_prefixed("upper", device.upper),
        **_prefixed("recounted", device.recounted),
        **_prefixed("measured", {"latency_ms": device.measured.latency_ms} if device.measured else {}),
        **_prefixed("utilisation", device.utilisation),
        **_prefixed("accuracy", {**dict(device.accuracy), "validation": device.validation.accuracy}),
    }


def _prefixed(prefix: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{key}": value for key, value in figures.items()}
