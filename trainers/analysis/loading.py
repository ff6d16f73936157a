"""Runs and sweeps as data frames."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
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

ACCURACIES = ("validation", "supernet", "inherited", "finetuned", "deployed", "random")
FIGURES = ("budget", "held", "predicted", "upper", "recounted", "measured", "utilisation")
DEVICE_COLUMNS = (
    *("device", "id", "notation", "met", "binding"),
    *(f"{figure}_{metric}" for figure in FIGURES for metric in METRICS),
    *(f"{figure}_{kind}" for figure in ("accuracy", "accuracy_balanced") for kind in ACCURACIES),
)
CANDIDATE_COLUMNS = tuple(CandidateRow.model_fields)
METRICS_COLUMNS = (EPOCH, STEP, STEP_SECONDS, VALIDATION_ACCURACY)  # of metrics.csv, as far as every run has them
PRUNE_COLUMNS = ("step", "device", "decision", "choice", "reason")  # of the pruning log, as far as it is read here
RUN_COLUMNS = ("run", "search", "strategy", "seed", "space", "state")
KNOWN = {"strategy.name", "space.name", *RUN_COLUMNS, *DEVICE_COLUMNS}  # keys that other columns hold


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

    @cached_property
    def settings(self) -> str:
        """A hash of what the result depends on, the seed aside: runs that share it are one search; empty without."""
        return settings_hash(self.config) if self.config else ""


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

    @cached_property
    def labels(self) -> dict[str, str]:
        """Words for each search, by the settings of its runs."""
        return search_labels([run.config for run in self.runs])

    @cached_property
    def searches(self) -> dict[str, list[Run]]:
        """The runs that have a configuration, those of one search together, by its label."""
        labels = self.labels
        found: dict[str, list[Run]] = {label: [] for label in labels.values()}
        for run in self.runs:
            if run.config:
                found[labels[run.settings]].append(run)
        return found


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
    runs = [load_run(run) for run in _run_folders(folder)]
    if not runs:
        raise InvalidInputError(f"no runs in {folder}; give the folder <runs>/<sweep>, which holds a folder per run")
    return _sweep_of(folder, runs)


def load_readable(folder: Path) -> Sweep:
    """`load_sweep`, but runs with a malformed file are left out, with the reason, and there may be none at all.

    Raises: InvalidInputError if the folder is a run's.
    """
    runs: list[Run] = []
    unreadable = {}
    for found in _run_folders(folder):
        try:
            run = load_run(found)
            _check_networks(run)
            runs.append(run)
        except InvalidInputError as error:
            unreadable[found.name] = str(error)
    return replace(_sweep_of(folder, runs), unreadable=unreadable)


def _check_networks(run: Run) -> None:
    """Raises: InvalidInputError if the networks of a run are not of its devices, or not those of its result."""
    devices, searched = sorted(run.device_results), sorted(run.config.get("hardware", {}))
    if devices and devices != searched:
        raise InvalidInputError(f"{run.path}: result.json has devices {devices}, config.yaml has {searched}")
    for name, device in run.device_results.items():
        path = architecture_file(run.path, name)
        if read_architecture(path).id != device.id:
            raise InvalidInputError(f"{path}: field 'id' is not that of result.json")


def _run_folders(folder: Path) -> list[Path]:
    """Those in a sweep folder, by name. Raises: InvalidInputError if the folder is a run's."""
    if os.path.isfile(folder / "status.json"):
        raise InvalidInputError(f"{folder} is a run and no sweep; load it with load_run, or give {folder.parent}")
    return sorted(file.parent for file in folder.glob("*/status.json"))


def _sweep_of(path: Path, runs: Sequence[Run]) -> Sweep:
    configs = [run.config for run in runs]
    settings = {key: values for key, values in differing(configs).items() if key not in KNOWN}
    sweep = Sweep(path, tuple(runs), pd.DataFrame())
    rows = [
        {**_labels(run, sweep.labels), **{key: values[number] for key, values in settings.items()}, **device}
        for number, run in enumerate(runs)
        for device in run.devices.to_dict("records") or [{}]
    ]
    return replace(sweep, table=pd.DataFrame(rows, columns=[*RUN_COLUMNS, *settings, *DEVICE_COLUMNS]))


def _labels(run: Run, searches: Mapping[str, str]) -> dict[str, Any]:
    """What tells a run from others; without a name where it has no configuration yet."""
    names = {key: run.config[key]["name"] if run.config else None for key in ("strategy", "space")}
    search = searches.get(run.settings)
    return {"run": run.path.name, "search": search, **names, "seed": run.config.get("seed"), "state": run.state.state}


def _devices(result: Result | None, config: Mapping[str, Any]) -> pd.DataFrame:
    if result is None:
        found = [{"device": name, "budget": part["budgets"]} for name, part in config.get("hardware", {}).items()]
    else:
        found = []
        for name, device in result.model_dump()["devices"].items():
            accuracy = {**device["accuracy"], "validation": device["validation"]["accuracy"]}
            accuracy["balanced"]["validation"] = device["validation"]["balanced_accuracy"]
            found.append({**device, "device": name, "budget": device["budgets"], "accuracy": accuracy})
    return pd.json_normalize(found, sep="_").reindex(columns=list(DEVICE_COLUMNS))


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
