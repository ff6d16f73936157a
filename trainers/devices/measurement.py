"""One measurement: what there is to time, minus what is in its file already, timed and written row by row."""

import shlex
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from random import Random

from hardware_models.measuring.journal import Journal, open_journal
from hardware_models.measuring.measure import RUNTIME, Machine, Measurement, counted, time_module, time_operation
from hardware_models.measuring.measurements import LAYER_COLUMNS, Subject, layers_path, read_layers
from hardware_models.measuring.tflite_log import read_tflite_log
from search_spaces.architecture import Architecture, build_network, inputs_of
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from trainers.devices.command_config import MeasureConfig, paths_of
from trainers.devices.measure_plan import Item, architecture_item, plan
from trainers.runs.files import write_csv, write_text
from trainers.search.machines import machine_of

Report = Callable[[str], None]

BUSY = 0.5  # share of the cores
STEADY_GOVERNOR = "performance"
MOST_AGAIN, ITEMS_PER_AGAIN = 3, 4  # items that are timed again at the end: at most so many, one in so many
DRIFT = 1.1  # factor of their times that is more than noise


def run_measure(config: MeasureConfig, report: Report) -> None:
    """Measures what is not measured yet, or takes over logs; the rows are in the output when this returns or raises."""
    if config.log.path is not None:
        take_over_logs(config, report)
        return
    items = plan(config)
    subject: Subject = "operation" if config.operations else "network"
    with (
        machine_of(config.board) as machine,
        open_journal(config.output_path, subject, conditions(config, machine)) as file,
    ):
        report(
            f"{counted(len(items), subject)} on {machine.description}; "
            f"{counted(config.threads, 'thread')}, {counted(config.repeats, 'run')} each"
        )
        for line in disturbances(machine):
            report(f"warning  {line}")
        write_files(config, items)
        missing = [item for item in items if item.name not in file.done]
        if len(missing) < len(items):
            report(f"{len(items) - len(missing)} of them are in {file.path} already")
        # In random order, so that a drift of the machine's speed is not one of size or of how networks were chosen.
        measure_items(config, machine, Random(config.seed).sample(missing, len(missing)), file, report)
    _done(config.output_path, report)


def measure_items(
    config: MeasureConfig, machine: Machine, items: Sequence[Item], file: Journal, report: Report
) -> None:
    """Times each item and writes its row; reports how many are left and for how long.

    At the end the first ones are timed again, which shows a drift of the machine's speed.
    """
    start, first = time.monotonic(), dict[str, tuple[Item, float]]()
    for number, item in enumerate(items, start=1):
        measured = time_item(config, machine, item)
        if not measured.p50_ms > 0:  # onnxruntime's profiler counts whole microseconds
            report(f"{number}/{len(items)}  left out: shorter than a microsecond  {item.name}")
            continue
        file.append(
            item.name, {**conditions(config, machine), **cells(config, machine, measured), "part": item.part or ""}
        )
        if len(first) < min(MOST_AGAIN, len(items) // ITEMS_PER_AGAIN):
            first[item.name] = item, measured.p50_ms
        left_s = (time.monotonic() - start) / number * (len(items) - number)
        report(
            f"{number}/{len(items)}  {measured.p50_ms:.4g} ms  p90 {measured.p90_ms:.4g}  {item.name}  {_left(left_s)}"
        )

    if first:
        factors = [time_item(config, machine, item).p50_ms / before_ms for item, before_ms in first.values()]
        factor = statistics.median(factors)
        line = f"the first {len(factors)} again: {factor:.3g} times as long as before ({', '.join(first)})"
        steady = 1 / DRIFT <= factor <= DRIFT
        report(line if steady else f"warning  {line}: the machine's speed drifted; let it rest, and measure again")


def disturbances(machine: Machine) -> Iterator[str]:
    """What of the machine's state makes its times uncertain."""
    if machine.load > BUSY:
        busy = f"{machine.load:.0%} of the cores were at work over the last minute"
        yield f"{busy}; times will be longer, and scatter: wait until they are idle"
    if machine.governor not in ("", STEADY_GOVERNOR):
        yield f"the clock governor is {machine.governor}: times depend on the clock; set it to {STEADY_GOVERNOR}"


def time_item(config: MeasureConfig, machine: Machine, item: Item) -> Measurement:
    settings = {"threads": config.threads, "warmup": config.warmup, "repeats": config.repeats}
    if isinstance(item.subject, Operation):
        return time_operation(item.subject, machine=machine, **settings)
    assert item.subject is not None  # as of all that is planned
    return time_module(build_network(item.subject), inputs_of(item.subject), machine=machine, **settings)


def conditions(config: MeasureConfig, machine: Machine) -> dict[str, str]:
    """What all rows of a file share."""
    return {
        "machine": machine.description,
        "runtime": RUNTIME,
        "precision": "fp32",
        "threads": str(config.threads),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items())),
        "statistic": "median",
    }


def cells(config: MeasureConfig, machine: Machine, measured: Measurement) -> dict[str, str]:
    """What a row has of its own."""
    return {
        "latency_ms": _ms(measured.p50_ms),
        "p90_ms": _ms(measured.p90_ms),
        "min_ms": _ms(measured.min_ms),
        "repeats": str(measured.repeats),
        "warmup": str(config.warmup),
        "governor": machine.governor,
        "date": datetime.now().isoformat(timespec="seconds"),
    }


def take_over_logs(config: MeasureConfig, report: Report) -> None:
    """Writes a row for each log; a network that the file has already keeps its row.

    Raises: InvalidInputError for a log that cannot be used, or that was taken on something else than the file's rows.
    """
    items = [architecture_item(path) for path in paths_of(config.architecture)]
    runs = [read_tflite_log(path) for path in paths_of(config.log.path)]
    assert config.log.machine is not None and config.log.precision is not None  # checked with the configuration
    for item, run in zip(items, runs, strict=True):
        conditions = {"machine": config.log.machine, "precision": config.log.precision, "runtime": run.runtime}
        conditions |= {"threads": _text(run.threads), "statistic": run.statistic}
        with open_journal(config.output_path, "network", conditions) as file:
            write_files(config, [item])
            if item.name in file.done:
                report(f"{item.name} is in {file.path} already and stays as it is")
                continue
            times = {"latency_ms": _ms(run.latency_ms), "min_ms": _ms(run.min_ms)}
            counts = {"repeats": _text(run.repeats), "warmup": _text(run.warmup)}
            file.append(item.name, conditions | times | counts | {"part": item.part or ""})
            report(
                f"{run.latency_ms:.4g} ms ({run.statistic}) on {run.runtime or 'what the log leaves out'}  {item.name}"
            )
            for name in run.missed:
                report(f"warning  {name} was asked for and ran none of {item.name}")
    _done(config.output_path, report)


def write_files(config: MeasureConfig, items: Sequence[Item]) -> None:
    """Puts beside the output what the rows do not hold: the operations of networks, and random networks themselves."""
    networks = [(item, item.subject) for item in items if isinstance(item.subject, Architecture)]
    if networks:
        write_layers(config.output_path, {item.name: item.operations for item in items})
    if config.networks is not None:
        for item, architecture in networks:
            text = architecture.to_json(origin={"part": item.part})
            write_text(config.architectures_folder / f"{item.name}.json", text)


def write_layers(path: Path, networks: Mapping[str, Sequence[Operation]]) -> None:
    """Puts the operations of networks beside the measurements at `path`, with those that are there already.

    Raises: InvalidInputError if a network of the same name has other operations there.
    """
    beside = layers_path(path)
    known = _counts(read_layers(beside) if beside.is_file() else {})
    counts = _counts(networks)
    changed = [name for name in counts if known.get(name, counts[name]) != counts[name]]
    if changed:
        raise InvalidInputError(f"{beside} has other operations for {', '.join(changed)}; set output to another file")
    rows = [
        dict(zip(LAYER_COLUMNS, (name, notation, count), strict=True))
        for name, own in {**known, **counts}.items()
        for notation, count in own.items()
    ]
    write_csv(beside, rows, LAYER_COLUMNS)


def _counts(networks: Mapping[str, Sequence[Operation]]) -> dict[str, Counter[str]]:
    return {name: Counter(operation.notation for operation in own) for name, own in networks.items()}


def _done(path: Path, report: Report) -> None:
    report(f"done: {path}")
    report(f"next  espalier-calibrate measurements={shlex.quote(str(path))} name=my_device")


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"


def _ms(value: float | None) -> str:
    """Six digits, nothing where there is no number or the clock counted none."""
    return f"{value:.6g}" if value else ""


def _text(value: int | None) -> str:
    return "" if value is None else str(value)
