"""What a tracker is sent of a finished run, read from its folder alone: tables, pictures, artifacts, last figures."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware_models.profile import METRICS
from search_spaces.architecture import read_architecture
from search_spaces.errors import InvalidInputError
from trainers.loggers.alerts import epoch_alerts
from trainers.loggers.identity import follower, is_published
from trainers.loggers.logger import (
    Cell,
    LocalTracker,
    Report,
    RunRecord,
    SteadyTracker,
    Tracker,
    make_tracker,
)
from trainers.runs import metric_names
from trainers.runs.state import architecture_file, result_of, weights_file
from trainers.search.provenance import file_hashes

RECORDS = ("config.yaml", "metrics.csv", "alphas.npz", "prune.csv")  # of the supernet and how it was trained
RESULTS = ("result.json", "lineage.json", "report.html")
FIGURES = ("budget", "held", "predicted", "upper", "recounted", "measured", "utilisation")
ACCURACIES = ("supernet", "inherited", "finetuned", "random")
WORDS = ("device", "decision", "choice", "reason")  # columns of prune.csv that are not numbers


def publish_result(tracker: Tracker, folder: Path) -> None:
    """Sends all of the result in `folder`, and what epochs the tracker has not heard of.

    Raises: InvalidInputError, OSError or ValueError where it is not whole, or not all its own.
    """
    result = _own_result(folder)
    for row in epochs(folder / "metrics.csv"):
        tracker.metrics(int(row[metric_names.STEP]), row)
    # One step after the rows of the epochs, the last of which a tracker knows already.
    tracker.metrics(result["search"]["steps"] + 1, last_figures(result))
    columns, rows = prune_events(folder / "prune.csv")
    tracker.table(metric_names.PRUNE_EVENTS, columns=columns, rows=rows)
    columns, rows = architectures(result)
    tracker.table(metric_names.ARCHITECTURES, columns=columns, rows=rows)
    _pictures(tracker, folder, result)
    _artifacts(tracker, folder, result)
    if isinstance(tracker, SteadyTracker):
        tracker.is_complete = True


def publish_if_missing(content: Mapping[str, Any], record: RunRecord, report: Report, *, exit_code: int) -> None:
    """Tells the tracker of the section `logger` of a finished run, alerts and result, unless it has been told.

    It has not if the run was killed at its very end, if it was followed otherwise, or if a W&B sweep asks for it once
    more. The folder must be held. Raises: InvalidInputError as `make_tracker` does; as `publish_result`.
    """
    if content["name"] == "local" or is_published(record.folder, follower(content["name"])):
        return
    _own_result(record.folder)
    tracker = make_tracker(content, record, report)
    if isinstance(tracker, LocalTracker):
        return
    try:
        rows = epochs(record.folder / "metrics.csv")
        for previous, row in zip([None, *rows], rows, strict=False):
            for title, text in epoch_alerts(previous, row):
                tracker.alert(title, text)
        publish_result(tracker, record.folder)
    finally:
        tracker.finish(exit_code)


def _own_result(folder: Path) -> dict[str, Any]:
    """The result in `folder`. Raises: InvalidInputError for a file that is to be sent and is not the run's own.

    A folder from elsewhere may hold links to what its user would show to nobody.
    """
    result = result_of(folder)
    recorded = result["files"]
    networks = [file(Path(), name) for name in result["devices"] for file in (architecture_file, weights_file)]
    for name in (*RECORDS, *RESULTS, *(path.as_posix() for path in networks)):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InvalidInputError(f"{path} is a link out of its run; put the file itself there")
        if name in recorded and file_hashes(folder, [name])[name] != recorded[name]:
            raise InvalidInputError(f"{path} is not what its hash in result.json says; put back what it was")
    return result


def epochs(path: Path) -> list[dict[str, float]]:
    """The rows of `metrics.csv`, each without what it leaves open."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def last_figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The objective, what each device met, and the gaps between kinds of accuracy, under their contract's names."""
    devices, search = result["devices"], result["search"]
    figures = {metric_names.result(name): float(value) for name, value in result["objective"].items()}
    figures |= {metric_names.met(name): float(device["met"]) for name, device in devices.items()}
    for name, device in devices.items():
        accuracy = device["accuracy"]
        figures |= {metric_names.result(f"{name}/accuracy_{kind}"): accuracy[kind] for kind in ACCURACIES}
    for kind, gap in (("supernet", metric_names.GAP_SUPERNET), ("inherited", metric_names.GAP_INHERITED)):
        lost = [device["accuracy"]["finetuned"] - device["accuracy"][kind] for device in devices.values()]
        figures[gap] = sum(lost) / len(lost)
    figures[metric_names.DEVICE_HOURS] = (search["train_seconds"] + search["derive_seconds"]) / 3600
    return figures


def prune_events(path: Path) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of pruning log; what it leaves open is none."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    return header, [[_cell(column, text) for column, text in zip(header, line, strict=True)] for line in lines]


def _cell(column: str, text: str) -> Cell:
    if column in WORDS:
        return text
    return float(text) if text else None


def architectures(result: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]]]:
    """Columns and one row per device: its network and each of its figures; none where there is none."""
    columns = ["device", "id", "notation", "met", "binding"]
    columns += [f"accuracy_{kind}" for kind in ACCURACIES]
    columns += [f"{figure}_{metric}" for metric in METRICS for figure in FIGURES]
    return columns, [
        [_architecture_row(name, device)[c] for c in columns] for name, device in result["devices"].items()
    ]


def _architecture_row(name: str, device: Mapping[str, Any]) -> dict[str, Cell]:
    row: dict[str, Cell] = {"device": name, **{key: device[key] for key in ("id", "notation", "met", "binding")}}
    row |= {f"accuracy_{kind}": device["accuracy"][kind] for kind in ACCURACIES}
    for figure in FIGURES:
        found = device["budgets" if figure == "budget" else figure] or {}
        row |= {f"{figure}_{metric}": found.get(metric) for metric in METRICS}
    return row


def _pictures(tracker: Tracker, folder: Path, result: Mapping[str, Any]) -> None:
    from search_spaces.architecture import architecture_svg
    from trainers.reports.plots import alpha_heat_map  # matplotlib takes a second

    tracker.picture(metric_names.ALPHA_HEAT_MAP, alpha_heat_map(folder / "alphas.npz"))
    for name in result["devices"]:
        architecture = read_architecture(architecture_file(folder, name))
        tracker.picture(metric_names.architecture_picture(name), architecture_svg(architecture))


def _artifacts(tracker: Tracker, folder: Path, result: Mapping[str, Any]) -> None:
    """Supernet -> architecture -> model, and measurement; lineage.json, which goes along, is the record of it."""
    run = folder.name
    supernet = f"supernet-{run}"
    tracker.artifact(supernet, kind="supernet", files=_there(folder, RECORDS), parents=[])
    models = []
    for name, device in result["devices"].items():
        network, model = f"architecture-{run}-{name}", f"model-{run}-{name}"
        tracker.artifact(network, kind="architecture", files=[architecture_file(folder, name)], parents=[supernet])
        tracker.artifact(model, kind="model", files=[weights_file(folder, name)], parents=[network])
        if device["measured"] is not None:
            files = [folder / "result.json"]
            tracker.artifact(f"measurement-{run}-{name}", kind="measurement", files=files, parents=[network])
        models.append(model)
    tracker.artifact(f"result-{run}", kind="result", files=_there(folder, RESULTS), parents=models)


def _there(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]
