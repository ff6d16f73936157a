"""What a logger is sent of a finished run, read from its folder alone: tables, pictures, artifacts, last figures."""

import csv
from pathlib import Path

from hardware_models.profile import METRICS
from search_spaces.architecture import read_architecture
from search_spaces.errors import InvalidInputError
from trainers.loggers.base import Cell, RunLogger
from trainers.runs import metric_names
from trainers.runs.result import DeviceResult, Result, read_result
from trainers.runs.state import architecture_file, weights_file
from trainers.search.provenance import file_hashes

RECORDS = ("config.yaml", "metrics.csv", "alphas.npz", "prune.csv")  # of the supernet and how it was trained
RESULTS = ("result.json", "lineage.json", "report.html")
FIGURES = ("budget", "held", "predicted", "upper", "recounted", "measured", "utilisation")
ACCURACIES = ("supernet", "inherited", "finetuned", "random")
WORDS = ("device", "decision", "choice", "reason")  # columns of prune.csv that are not numbers


def publish_result(logger: RunLogger, folder: Path) -> None:
    """Sends all of the result in `folder`, and the rows of epochs.

    Raises: InvalidInputError, OSError or ValueError where it is not whole, or not all its own.
    """
    result = own_result(folder)
    for row in epochs(folder / "metrics.csv"):
        logger.metrics(int(row[metric_names.STEP]), row)
    # One step after the rows of the epochs, the last of which may be logged.
    logger.metrics(result.search.steps + 1, last_figures(result))
    columns, rows = prune_events(folder / "prune.csv")
    logger.table(metric_names.PRUNE_EVENTS, columns=columns, rows=rows)
    columns, rows = architectures(result)
    logger.table(metric_names.ARCHITECTURES, columns=columns, rows=rows)
    _pictures(logger, folder, result)
    _artifacts(logger, folder, result)


def own_result(folder: Path) -> Result:
    """The result in `folder`. Raises: InvalidInputError for a file that would be sent and is not the run's own.

    A folder from elsewhere may hold links to what its user would show to nobody.
    """
    result = read_result(folder / "result.json")
    recorded = result.files
    networks = [file(Path(), name) for name in result.devices for file in (architecture_file, weights_file)]
    for name in (*RECORDS, *RESULTS, *(path.as_posix() for path in networks)):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InvalidInputError(f"{path} is a link out of its run; put the file itself there")
        if name in recorded and file_hashes(folder, [name])[name] != recorded[name]:
            raise InvalidInputError(f"{path} is not what its hash in result.json says; put back what it was")
    return result


def epochs(path: Path) -> list[dict[str, float]]:
    """The rows of `metrics.csv`, each without what it leaves open; none where no supernet was trained."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def last_figures(result: Result) -> dict[str, float]:
    """The objective, what each device met, and the gaps between kinds of accuracy, under their contract's names."""
    devices, search = result.devices, result.search
    figures = {metric_names.result(name): float(value) for name, value in result.objective.items()}
    figures |= {metric_names.met(name): float(device.met) for name, device in devices.items()}
    for name, device in devices.items():
        accuracy = dict(device.accuracy)
        tested = [kind for kind in ACCURACIES if accuracy[kind] is not None]
        figures |= {metric_names.result(f"{name}/accuracy_{kind}"): accuracy[kind] for kind in tested}
    for kind, gap in (("supernet", metric_names.GAP_SUPERNET), ("inherited", metric_names.GAP_INHERITED)):
        before = {name: getattr(device.accuracy, kind) for name, device in devices.items()}
        if None not in before.values():
            lost = [device.accuracy.finetuned - before[name] for name, device in devices.items()]
            figures[gap] = sum(lost) / len(lost)
    figures[metric_names.DEVICE_HOURS] = (search.train_seconds + search.derive_seconds) / 3600
    return figures


def prune_events(path: Path) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the pruning log; what it leaves open is none."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    return header, [[_cell(column, text) for column, text in zip(header, line, strict=True)] for line in lines]


def _cell(column: str, text: str) -> Cell:
    if column in WORDS:
        return text
    return float(text) if text else None


def architectures(result: Result) -> tuple[list[str], list[list[Cell]]]:
    """Columns and one row per device: its network and each of its figures; none where there is none."""
    rows = [_architecture_row(name, device) for name, device in result.devices.items()]
    return list(rows[0]), [list(row.values()) for row in rows]


def _architecture_row(name: str, device: DeviceResult) -> dict[str, Cell]:
    row: dict[str, Cell] = {"device": name, "id": device.id, "notation": device.notation}
    row |= {"met": device.met, "binding": device.binding}
    row |= {f"accuracy_{kind}": getattr(device.accuracy, kind) for kind in ACCURACIES}
    for metric in METRICS:
        for figure in FIGURES:
            found = dict(getattr(device, "budgets" if figure == "budget" else figure) or {})
            row[f"{figure}_{metric}"] = found.get(metric)
    return row


def _pictures(logger: RunLogger, folder: Path, result: Result) -> None:
    from search_spaces.architecture import architecture_svg
    from trainers.reports.plots import alpha_heat_map  # matplotlib takes a second

    if result.search.steps:
        logger.picture(metric_names.ALPHA_HEAT_MAP, alpha_heat_map(folder / "alphas.npz"))
    for name in result.devices:
        architecture = read_architecture(architecture_file(folder, name))
        logger.picture(metric_names.architecture_picture(name), architecture_svg(architecture))


def _artifacts(logger: RunLogger, folder: Path, result: Result) -> None:
    """Supernet -> architecture -> model, and measurement; lineage.json, which goes along, is the record of it."""
    run = folder.name
    supernet = f"supernet-{run}"
    logger.artifact(supernet, kind="supernet", files=_there(folder, RECORDS), parents=[])
    models = []
    for name, device in result.devices.items():
        network, model = f"architecture-{run}-{name}", f"model-{run}-{name}"
        logger.artifact(network, kind="architecture", files=[architecture_file(folder, name)], parents=[supernet])
        logger.artifact(model, kind="model", files=[weights_file(folder, name)], parents=[network])
        if device.measured is not None:
            files = [folder / "result.json"]
            logger.artifact(f"measurement-{run}-{name}", kind="measurement", files=files, parents=[network])
        models.append(model)
    logger.artifact(f"result-{run}", kind="result", files=_there(folder, RESULTS), parents=models)


def _there(folder: Path, names: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()]
