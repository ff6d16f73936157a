"""Everything that the certificates of a finished run rest on, made again from its files and compared."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from search_spaces.architecture import CHANNELS
from search_spaces.errors import EspalierError, InvalidInputError
from trainers.analysis.loading import Run, load_run
from trainers.data.datasets import ImageData, data_config, load_data
from trainers.reports.check import Check, compare
from trainers.reports.rebuild import Rebuilt, rebuild
from trainers.runs.config import SearchConfig, validate
from trainers.runs.lineage import lineage, read_lineage
from trainers.runs.plugins import require_plugins
from trainers.runs.result import Result
from trainers.runs.state import ORIGIN, architecture_file, weights_file
from trainers.search.certificate import hold
from trainers.search.plan import measured_devices
from trainers.search.provenance import file_hashes, versions
from trainers.search.prune_log import replay, replay_network
from trainers.search.result_writer import certified, objective, run_files, transfer

PRUNED = ("presolve", "budget")  # reasons in the pruning log why a choice went before the networks were chosen
# Raised where a file, which may come from elsewhere, holds what no search writes.
UNFIT = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
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
        "they need the supernet's weights, which no run keeps",
        (
            *(f"devices.*.accuracy.{kind}" for kind in ("supernet", "inherited", "random")),
            *(f"devices.*.{key}" for key in ("validation", "taken", "candidates", "random_candidates", "cut")),
        ),
    ),
    Check("the process that searched", "not checked", "no other file has it", ("search", "threads", "processors")),
    Check("report.html", "not checked", "it is drawn from the other files; espalier-report draws it again"),
)


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
    require_plugins(run.config, run.state.code.get("plugins", {}))
    return [*_checks(run, run.result), *NOT_CHECKED]


def _checks(run: Run, result: Result) -> Iterator[Check]:
    yield from _files(run.path, result)
    yield from _agreement(run, result)
    try:
        config = validate(run.config)
    except InvalidInputError as error:
        yield Check("configuration", "FAILED", f"config.yaml: {error}")
        return
    yield compare("configuration", result.hashes.config, config.digest, field="hashes.config")
    names = {"space": config.space["name"], "strategy": config.strategy["name"], "seed": config.seed}
    yield compare("names", {name: getattr(result, name) for name in names}, names, field="")
    data = _data(config)
    yield from _split(data, result)
    try:
        yield from _lineage(run.path, config, result)
        yield compare("devices", list(result.devices), list(config.hardware), field="devices")
        rebuilt = rebuild(run.path, config, result, data)
    except (EspalierError, OSError, *UNFIT) as error:
        yield Check("networks", "FAILED", f"they cannot be rebuilt: {type(error).__name__}: {error}")
        return
    if rebuilt.hosts:
        yield Check("cost table", "not checked", f"{', '.join(rebuilt.hosts)}: {HOST}", ("hashes.cost_table",))
    else:
        yield compare("cost table", result.hashes.cost_table, rebuilt.table.digest, field="hashes.cost_table")
    for name in config.hardware:
        try:
            yield from _device(run.path, config, result, rebuilt, name)
        except (EspalierError, OSError, *UNFIT) as error:
            yield Check(f"{name}: network", "FAILED", str(error))


def _files(folder: Path, result: Result) -> Iterator[Check]:
    paths = [path(Path(), name) for name in result.devices for path in (architecture_file, weights_file)]
    due = [*(path.as_posix() for path in paths), *run_files(steps=result.search.steps)]
    for name in dict.fromkeys([*due, *result.files]):
        if name not in due or not (folder / name).resolve().is_relative_to(folder.resolve()):
            yield Check(f"file {name}", "FAILED", "result.json names a file outside the run, or none of its own")
        elif not (folder / name).is_file():
            yield Check(f"file {name}", "FAILED", "it is missing")
        else:
            found = file_hashes(folder, [name])[name]
            yield compare(f"file {name}", {name: result.files.get(name)}, {name: found}, field="files")


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


def _data(config: SearchConfig) -> ImageData | str:
    """The data of a run, or why they cannot be read here."""
    try:
        return load_data(data_config(config.data), channels=CHANNELS)
    except (EspalierError, OSError) as error:
        return f"the data cannot be read here: {error}"


def _split(data: ImageData | str, result: Result) -> Iterator[Check]:
    recorded = result.data.model_dump(exclude={"origin"})
    split_hash = result.hashes.data_split
    yield compare("hash of the split", result.data.split_hash, split_hash, field="data.split_hash")
    if isinstance(data, str):
        yield Check("data split", "not checked", data, ("data",))
        return
    images = {split: data.size(split) for split in ("weights", "architecture", "validation", "test")}
    found = {"name": data.name, "split_hash": data.splits.hash, "images": images}
    yield compare("data split", recorded, found, field="data")
    if data.origin != result.data.origin:
        why = f"the same images were read from {result.data.origin!r} then, from {data.origin!r} now"
        yield Check("origin of the data", "not checked", why, ("data.origin",))


def _lineage(folder: Path, config: SearchConfig, result: Result) -> Iterator[Check]:
    recorded = read_lineage(folder / "lineage.json")
    weights = [weights_file(Path(), name).as_posix() for name in result.devices]
    there = file_hashes(folder, [name for name in weights if (folder / name).is_file()])
    files = dict.fromkeys(weights, "") | result.files | there
    found = lineage(config.run_key, recorded.supernet.id, result.hashes, result.devices, files)
    yield compare("lineage", recorded, found, field="lineage.json")


def _device(folder: Path, config: SearchConfig, result: Result, rebuilt: Rebuilt, name: str) -> Iterator[Check]:
    recorded, network, problem = result.devices[name], rebuilt.networks[name], rebuilt.problems[name]
    field, certificate = f"devices.{name}", network.certificate
    measured_ms = None if recorded.measured is None else recorded.measured.latency_ms
    totals = problem.table.named(network.indices, problem.device)
    held = hold(problem, totals, recounted=certificate.recounted, measured_ms=measured_ms)
    certificate = replace(certificate, held=held)
    made = certified(
        problem, network.indices, certificate, id=network.architecture.id, measured=recorded.measured
    ).model_dump()
    own = recorded.model_dump()
    if name in rebuilt.hosts:
        for key in ("predicted", "upper"):
            made[key]["latency_ms"] = own[key].get("latency_ms")
        yield Check(f"{name}: latency predicted", "not checked", HOST, (f"{field}.predicted.latency_ms",))
    for what, keys in LINES.items():
        yield compare(f"{name}: {what}", {k: own[k] for k in keys}, {k: made[k] for k in keys}, field=field)
    is_measured = name in measured_devices(config)
    yield compare(f"{name}: measured", recorded.measured is not None, is_measured, field=f"{field}.measured")
    if network.weights_fault is not None:
        yield Check(f"{name}: weights", "FAILED", network.weights_fault)
    yield from _pruning(folder, result, rebuilt, name)
    yield from _elsewhere(result, rebuilt, name)
    yield _accuracy(result, rebuilt, name)


def _pruning(folder: Path, result: Result, rebuilt: Rebuilt, name: str) -> Iterator[Check]:
    """Whether the pruning log leaves the network, and had left as many choices when training ended."""
    path, space, own = folder / "prune.csv", rebuilt.table.space, rebuilt.decided_by(name)
    left, chosen = replay_network(path, space, name), space.choices(rebuilt.networks[name].indices)
    yield compare(f"{name}: pruning log", {k: left[k] for k in own}, {k: chosen[k] for k in own}, field=name)
    alive = int(replay(path, space, name, reasons=PRUNED).sum())
    recorded = result.search.choices_alive[name]
    yield compare(f"{name}: choices alive", recorded, alive, field=f"search.choices_alive.{name}")


def _elsewhere(result: Result, rebuilt: Rebuilt, name: str) -> Iterator[Check]:
    found = transfer(rebuilt.problems.values(), rebuilt.networks[name].indices)
    for device in rebuilt.problems:
        what, field = f"{name}: on {device}", f"transfer.{name}.{device}"
        if device in rebuilt.hosts:
            yield Check(what, "not checked", HOST, (field,))
        else:
            yield compare(what, result.transfer[name][device], found[device], field=field)


def _accuracy(result: Result, rebuilt: Rebuilt, name: str) -> Check:
    """Test accuracy of the network as saved, to within one image: another machine may round a tie another way."""
    accuracy, tested = result.devices[name].accuracy, rebuilt.networks[name].tested
    what, field = f"{name}: fine-tuned accuracy", f"devices.{name}.accuracy"
    if isinstance(tested, str):
        return Check(what, "not checked", tested, (f"{field}.finetuned",))
    same = abs(accuracy.finetuned - tested.accuracy) * tested.images <= 1.5
    found = {"finetuned": accuracy.finetuned if same else tested.accuracy, "images": tested.images}
    return compare(what, accuracy.model_dump(include=set(found)), found, field=field)
