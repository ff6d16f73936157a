"""Everything that the certificates of a finished run rest on, made again from its files and compared."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hardware_models.budgets.budget_problem import BudgetProblem
from search_spaces.architecture import read_architecture
from search_spaces.errors import EspalierError, InvalidInputError
from trainers.analysis.loading import Run, load_run
from trainers.data.datasets import DataConfig, ImageData, content_of, data_config, load_data
from trainers.deploy.retrain_result import is_retrained
from trainers.deploy.standalone import Score
from trainers.reports.check import Check, compare
from trainers.reports.rebuild import Network, Prices, indices_of, rebuild_network, rebuild_prices
from trainers.reports.verify_retrained import verify_retrained
from trainers.runs.config import SearchConfig, is_host, validate
from trainers.runs.lineage import lineage, read_lineage
from trainers.runs.plugins import require_plugins
from trainers.runs.result import DeviceResult, Result
from trainers.runs.result_parts import Accuracy
from trainers.runs.state import (
    ORIGIN,
    architecture_file,
    best_file,
    best_weights_file,
    onnx_path,
    weights_file,
)
from trainers.runs.versions import file_hashes, versions
from trainers.search.certificate import hold
from trainers.search.front import FRONT_FILE
from trainers.search.heritage import REMOVED
from trainers.search.plan import measured_devices
from trainers.search.prune_log import replay, replay_network
from trainers.search.result_writer import certified, objective, predicted, run_files, transfer
from trainers.search.trained import SUPERNET_FILES

PRUNED = ("presolve", "budget", REMOVED)  # reasons in the pruning log why a choice went before the networks were chosen
# Raised where a file, which may come from elsewhere, holds what no search writes.
UNFIT = (EspalierError, OSError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
HOST = "its prices were measured on the machine that searched, when it did"
LINES = {  # what is compared of a device in each line
    "network": ("architecture", "weights", "id", "notation"),
    "recounted": ("recounted",),
    "predicted, upper bound": ("predicted", "upper", "upper_level", "upper_subject", "placement"),
    "budgets and profile": ("budgets", "margin", "profile", "measured_reason"),
    "budgets met": ("met", "refuted_by", "binding", "utilisation", "held", "held_by"),
}
NOT_CHECKED = (
    Check(
        "accuracies",
        "not checked",
        "they need the supernet's weights, which few runs keep and which are not loaded here",
        (
            *(f"devices.*.accuracy.{kind}" for kind in ("supernet", "inherited", "random")),
            *(f"devices.*.accuracy.balanced.{kind}" for kind in ("supernet", "inherited", "random")),
            *(
                f"devices.*.{key}"
                for key in (
                    "validation",
                    "taken",
                    "decided_by",
                    "agreement",
                    "candidates",
                    "random_candidates",
                    "cut",
                    "stale",
                )
            ),
            *(
                f"devices.*.best.*.{key}"
                for key in ("validation_accuracy", "validation_loss", "utilisation", "evidence")
            ),
        ),
    ),
    Check("the process that searched", "not checked", "no other file has it", ("search", "threads", "processors")),
    Check("origin of the data", "not checked", "the same images may lie elsewhere", ("data.origin",)),
    Check("report.html", "not checked", "it is drawn from the other files; espalier-report draws it again"),
)


def verify_run(folder: Path) -> list[Check]:
    """All checks of a finished run. Raises: InvalidInputError if it has no result, or its plug-ins are not here."""
    if not (folder / "status.json").is_file():
        raise InvalidInputError(f"no run in {folder}: it has no status.json; give the folder <runs>/<sweep>/<run>")
    if is_retrained(folder):
        return verify_retrained(folder)
    try:
        run = load_run(folder)
    except InvalidInputError as error:
        return [Check("files of the run", "FAILED", str(error))]
    if run.result is None:
        todo = f"finish it first: {run.state.command}"
        if run.state.state == "infeasible":
            todo = "no network meets its budgets, so there is none to verify"
        raise InvalidInputError(f"{folder} is {run.state.state} and has no result to verify; {todo}")
    require_plugins(run.config, run.state.code.get("plugins", {}))
    remade = _guarded("configuration, data and prices", _remade(run, run.result))
    return [*_files(folder, run.result), *_agreement(run, run.result), *remade, *NOT_CHECKED]


def _guarded(what: str, checks: Iterator[Check]) -> Iterator[Check]:
    """The checks, up to one that a file of the run does not allow: that one failed."""
    try:
        yield from checks
    except UNFIT as error:
        yield Check(what, "FAILED", f"{type(error).__name__}: {error}")


def _files(folder: Path, result: Result) -> Iterator[Check]:
    own = [path(Path(), name).as_posix() for name in result.devices for path in (architecture_file, weights_file)]
    own += [onnx_path(Path(), name).as_posix() for name, device in result.devices.items() if device.file]
    for name, device in result.devices.items():
        for rank, row in enumerate(device.best, 1):
            files = [best_file(Path(), name, rank), *([best_weights_file(Path(), name, rank)] if row.weights else [])]
            own += [path.as_posix() for path in files]
    keep = "supernet" if set(SUPERNET_FILES) & set(result.files) else "none"
    own += run_files(steps=result.search.steps, keep=keep, front=FRONT_FILE in result.files)
    for name in dict.fromkeys([*own, *result.files]):
        if name not in own or not (folder / name).resolve().is_relative_to(folder.resolve()):
            why = "result.json names a file outside the run, or none of its own"
            yield Check(f"file {name}", "FAILED", why, (f"files.{name}",))
        elif not (folder / name).is_file():
            yield Check(f"file {name}", "FAILED", "it is missing", (f"files.{name}",))
        else:
            recorded = {name: result.files.get(name)}
            yield compare(f"file {name}", recorded, file_hashes(folder, [name]), field="files")


def _agreement(run: Run, result: Result) -> Iterator[Check]:
    """Whether the fields of the result agree with one another and with status.json."""
    state = run.state
    recorded = {"status": result.status, "command": result.command, "attempts": result.attempts}
    found = {"status": state.state, "command": state.command, "attempts": state.attempt}
    yield compare("status", recorded, found, field="")
    started = state.origin | {"code": {"plugins": {}, **state.code}}  # earlier versions had none
    origin = result.model_dump(include=set(ORIGIN))
    yield compare("what the last attempt started from", started, origin, field="status.json")
    met = all(device.met for device in result.devices.values())
    yield compare("verdict", result.status, "done" if met else "unmet", field="status")
    figures = objective(result.devices, seconds=result.objective["seconds"])
    yield compare("objective", result.objective, figures, field="objective", tolerance=1e-9)
    now = versions()
    other = [f"{name} {then} then, {now.get(name)} now" for name, then in result.versions.items() if then != now[name]]
    why = f"{'; '.join(other)}; figures may differ in their last digits"
    yield Check("versions", "not checked", why) if other else Check("versions", "ok")


def _remade(run: Run, result: Result) -> Iterator[Check]:
    config = validate(run.config)
    yield compare("configuration", result.hashes.config, config.digest, field="hashes.config")
    names = {"space": config.space["name"], "strategy": config.strategy["name"], "seed": config.seed}
    yield compare("names", {name: getattr(result, name) for name in names}, names, field="")
    try:
        asked = data_config({**config.data, "content": None})
        asked = asked.model_copy(update={"content": content_of(asked)})
        data, missing = load_data(asked), ""
    except (EspalierError, OSError) as error:
        asked, data, missing = None, None, f"the data cannot be read here: {error}"
    split_hash = result.hashes.data_split
    yield compare("hash of the split", result.data.split_hash, split_hash, field="data.split_hash")
    yield Check("data split", "not checked", missing, ("data",)) if data is None else _split(data, result)
    yield from _guarded("lineage", _lineage(run.path, config, result))
    yield compare("devices", list(result.devices), list(config.hardware), field="devices")
    prices = rebuild_prices(run.path, config, result)
    if prices.hosts:
        yield Check("cost table", "not checked", f"{', '.join(prices.hosts)}: {HOST}", ("hashes.cost_table",))
    else:
        yield compare("cost table", result.hashes.cost_table, prices.table.digest, field="hashes.cost_table")
    for name in config.hardware:
        yield from _guarded(f"{name}: network", _device(run.path, config, result, prices, name, asked, missing))


def _split(data: ImageData, result: Result) -> Check:
    recorded = result.data.model_dump(exclude={"origin"}, exclude_none=True)  # earlier versions lack some
    return compare("data split", recorded, data.record().model_dump(include=set(recorded)), field="data")


def _lineage(folder: Path, config: SearchConfig, result: Result) -> Iterator[Check]:
    recorded = read_lineage(folder / "lineage.json")
    weights = [weights_file(Path(), name).as_posix() for name in result.devices]
    there = file_hashes(folder, [name for name in weights if (folder / name).is_file()])
    files = dict.fromkeys(weights, "") | result.files | there
    found = lineage(config.run_key, recorded.supernet.id, result.hashes, result.devices, files, parent=config.parent)
    yield compare("lineage", recorded.model_dump(), found.model_dump(), field="lineage.json")


def _device(
    folder: Path,
    config: SearchConfig,
    result: Result,
    prices: Prices,
    name: str,
    data: DataConfig | None,
    missing: str,
) -> Iterator[Check]:
    """The network of a device, recounted, priced and tested again; `missing` says why there are no data."""
    recorded, problem, field = result.devices[name], prices.problems[name], f"devices.{name}"
    network = rebuild_network(folder, problem, data, batch_size=config.trainer.step_images)
    measured_ms = None if recorded.measured is None else recorded.measured.latency_ms
    totals = problem.table.named(network.indices, problem.device)
    held = hold(problem, totals, recounted=network.certificate.recounted, measured_ms=measured_ms)
    certificate, id = replace(network.certificate, held=held), network.architecture.id
    made = certified(problem, network.indices, certificate, id=id, measured=recorded.measured).model_dump()
    own = recorded.model_dump()
    if name in prices.hosts:
        for key in ("predicted", "upper"):
            made[key]["latency_ms"] = own[key].get("latency_ms")
        yield Check(f"{name}: latency predicted", "not checked", HOST, (f"{field}.predicted.latency_ms",))
    for what, keys in LINES.items():
        yield compare(f"{name}: {what}", {k: own[k] for k in keys}, {k: made[k] for k in keys}, field=field)
    is_measured = name in measured_devices(config)
    yield compare(f"{name}: measured", recorded.measured is not None, is_measured, field=f"{field}.measured")
    yield from _best(folder, config, problem, recorded)
    yield from _tested(network, result, name, missing)
    yield from _transfer(network, result, prices, name)
    yield from _pruning(network, result, prices, name, folder / "prune.csv")


def _best(folder: Path, config: SearchConfig, problem: BudgetProblem, recorded: DeviceResult) -> Iterator[Check]:
    """The best networks of a device from their files, priced again; that one of them was measured changes nothing."""
    for rank, row in enumerate(recorded.best, 1):
        path, field = best_file(Path(), problem.name, rank), f"devices.{problem.name}.best.{rank - 1}"
        architecture = read_architecture(folder / path)
        indices = indices_of(problem, architecture)
        costs = predicted(problem, indices)
        if is_host(config.hardware[problem.name]):
            costs["latency_ms"] = row.predicted.get("latency_ms", math.nan)
        found = {
            "id": architecture.id,
            "notation": problem.table.space.notation(problem.table.space.choices(indices)),
            "architecture": path.as_posix(),
            "weights": row.weights and best_weights_file(Path(), problem.name, rank).as_posix(),
            "predicted": costs,
        }
        own = row.model_dump(include=set(found))
        yield compare(f"{problem.name}: network {rank} of the best", own, found, field=field)


def _tested(network: Network, result: Result, name: str, missing: str) -> Iterator[Check]:
    """Test accuracies of the network as saved, and of its file on the images as stored, to within one image.

    Another machine may round a tie another way.
    """
    device, field = result.devices[name], f"devices.{name}.accuracy"
    if network.weights_fault is not None:
        yield Check(f"{name}: weights", "FAILED", network.weights_fault, (f"devices.{name}.weights",))
    for kind in ("finetuned",) if device.file is None else ("finetuned", "deployed"):
        if kind not in network.tested:
            why = missing or "its weights or its file cannot be used"
            yield Check(f"{name}: {kind} accuracy", "not checked", why, (f"{field}.{kind}",))
        else:
            yield _accuracy(device.accuracy, kind, network.tested[kind], what=f"{name}: {kind} accuracy", field=field)
    if network.tested and device.file is not None:
        found = {} if network.file is None else network.file.model_dump()
        yield compare(f"{name}: file", device.file.model_dump(), found, field=f"devices.{name}.file")


def _accuracy(accuracy: Accuracy, kind: str, tested: Score, *, what: str, field: str) -> Check:
    balanced, images = f"balanced.{kind}", tested.images
    own = getattr(accuracy, kind)
    recorded = {kind: own, balanced: getattr(accuracy.balanced, kind), "images": accuracy.images}
    found = {kind: tested.accuracy, balanced: tested.balanced_accuracy, "images": images}
    if own is not None and 0 < abs(own - tested.accuracy) * images <= 1.5:
        found |= {kind: own, balanced: recorded[balanced]}
    elif recorded[balanced] is None:  # as earlier versions have it
        del found[balanced], recorded[balanced]
    return compare(what, recorded, found, field=field)


def _transfer(network: Network, result: Result, prices: Prices, name: str) -> Iterator[Check]:
    for device, found in transfer(prices.problems.values(), network.indices).items():
        what, field = f"{name}: on {device}", f"transfer.{name}.{device}"
        if device in prices.hosts:
            yield Check(what, "not checked", HOST, (field,))
        else:
            yield compare(what, result.transfer[name][device].model_dump(), found.model_dump(), field=field)


def _pruning(network: Network, result: Result, prices: Prices, name: str, path: Path) -> Iterator[Check]:
    """Whether the pruning log leaves the network, and had left as many choices when training ended."""
    table, space = prices.table, prices.table.space
    decided = (*range(table.num_own), *table.placements[prices.problems[name].device])  # and where the device runs it
    left, chosen = replay_network(path, space, name), space.choices(network.indices)
    left, chosen = ({space.decisions[k].name: c[space.decisions[k].name] for k in decided} for c in (left, chosen))
    yield compare(f"{name}: pruning log", left, chosen, field=f"prune.csv.{name}")
    alive = int(replay(path, space, name, reasons=PRUNED).sum())
    recorded = result.search.choices_alive[name]
    yield compare(f"{name}: choices alive", recorded, alive, field=f"search.choices_alive.{name}")
