"""What a logger is sent of a finished run, read from its folder alone: tables, pictures, artifacts, last figures."""

from pathlib import Path

from search_spaces.architecture import architecture_svg, read_architecture
from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import Run, load_run
from trainers.loggers.base import RunLogger
from trainers.reports.plots import alpha_heat_map
from trainers.runs import metric_names
from trainers.runs.files import finite
from trainers.runs.result import Result, read_result
from trainers.runs.state import architecture_file, weights_file
from trainers.runs.versions import file_hashes

RECORDS = ("config.yaml", "metrics.csv", "alphas.npz", "prune.csv")  # of the supernet and how it was trained
RESULTS = ("result.json", "lineage.json", "report.html")


def publish_result(logger: RunLogger, folder: Path) -> None:
    """Sends all of the result in `folder`, and the rows of epochs.

    Raises: InvalidInputError, OSError or ValueError where it is not whole, or not all its own.
    """
    run = own_run(folder)
    result = run.result
    assert result is not None
    for row in epochs(run):
        logger.metrics(int(row[metric_names.STEP]), row)
    # One step after the rows of the epochs, the last of which may be logged.
    logger.metrics(result.search.steps + 1, last_figures(result))
    for name, frame in ((metric_names.PRUNE_EVENTS, run.prunes), (metric_names.ARCHITECTURES, run.devices)):
        cells = frame.astype(object).where(frame.notna(), None)
        logger.table(name, columns=list(frame.columns), rows=cells.to_numpy().tolist())
    if result.search.steps:
        logger.picture(metric_names.ALPHA_HEAT_MAP, alpha_heat_map(run))
    for name in result.devices:
        architecture = read_architecture(architecture_file(folder, name))
        logger.picture(metric_names.architecture_picture(name), architecture_svg(architecture))
    _artifacts(logger, folder, result)


def own_run(folder: Path) -> Run:
    """The finished run in `folder`. Raises: InvalidInputError for a file that would be sent and is not the run's own.

    A folder from elsewhere may hold links to what its user would show to nobody.
    """
    result = read_result(folder / "result.json")
    networks = [file(Path(), name) for name in result.devices for file in (architecture_file, weights_file)]
    for name in (*RECORDS, *RESULTS, *(path.as_posix() for path in networks)):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InvalidInputError(f"{path} is a link out of its run; put the file itself there")
        if name in result.files and file_hashes(folder, [name])[name] != result.files[name]:
            raise InvalidInputError(f"{path} is not what its hash in result.json says; put back what it was")
    return load_run(folder)


def epochs(run: Run) -> list[dict[str, float]]:
    """The rows of `metrics.csv`, each without what it leaves open; none where no supernet was trained."""
    return [finite({str(name): value for name, value in row.items()}) for row in run.metrics.to_dict("records")]


def last_figures(result: Result) -> dict[str, float]:
    """The objective, what each device met, and the gaps between kinds of accuracy, under their contract's names."""
    devices, search = result.devices, result.search
    figures = {metric_names.result(name): float(value) for name, value in result.objective.items()}
    figures |= {metric_names.met(name): float(device.met) for name, device in devices.items()}
    for name, device in devices.items():
        for figure, accuracy in (("accuracy", device.accuracy), ("balanced_accuracy", device.accuracy.balanced)):
            figures |= {metric_names.result(f"{name}/{figure}_{kind}"): n for kind, n in accuracy.shares.items()}
    for kind, gap in (("supernet", metric_names.GAP_SUPERNET), ("inherited", metric_names.GAP_INHERITED)):
        before = {name: getattr(device.accuracy, kind) for name, device in devices.items()}
        if None not in before.values():
            lost = [device.accuracy.finetuned - before[name] for name, device in devices.items()]
            figures[gap] = sum(lost) / len(lost)
    if result.data.majority:
        figures[metric_names.result("majority_share")] = result.data.majority.share
    figures[metric_names.DEVICE_HOURS] = (search.train_seconds * search.processes + search.derive_seconds) / 3600
    return figures


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
