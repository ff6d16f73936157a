"""One calibration: measurements in, a device's profile with its report out. One proposal: networks to measure next."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardware_models.calibration.calibration import Calibration, calibrate
from hardware_models.calibration.design import Proposal, propose
from hardware_models.calibration.fitting import rows_needed
from hardware_models.calibration.profile_file import profile_text
from hardware_models.measuring.measurements import Measurements
from hardware_models.profile import BYTES_PER_ELEMENT
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidInputError
from trainers.devices.calibrate_config import CalibrateConfig
from trainers.devices.calibrate_input import checked_candidates, checked_measurements, describe, precision_of
from trainers.devices.calibrate_plot import write_plot
from trainers.devices.measure_plan import Item
from trainers.runs.exit_status import RunFolderError
from trainers.runs.files import write_csv, write_json, write_text

Report = Callable[[str], None]
WORST = 5  # rows told by name
GLITCH = 3.0  # a row this many times slower than any other, beside what is foretold, is measured again first


def run_calibrate(config: CalibrateConfig, report: Report) -> None:
    """Writes the profile of what was measured and its report. Nothing is written if anything is wrong."""
    measurements = checked_measurements(config)
    description = describe(config, measurements)
    calibration = calibrate(
        measurements,
        model=config.model,
        level=config.level,
        precision=description.precision,
        unusual_speed=config.unusual_speed,
    )
    text = profile_text(calibration, measurements, description)
    with writing():
        write_report(config.report_folder, calibration, measurements)
        write_text(config.output_path, text)
    for line in summary(calibration, measurements):
        report(line)
    report(f"profile {config.output_path}  report {config.report_folder}")
    report(f"next  {next_search(config, measurements)}")


def run_propose(config: CalibrateConfig, report: Report) -> None:
    """Writes the networks to measure next, most telling first, and tells the command that measures them."""
    candidates, measurements = checked_candidates(config)
    assert config.propose is not None
    items = {name: item for name, item in candidates.items() if isinstance(item, Item)}
    proposals = propose(
        {name: item.operations if isinstance(item, Item) else item for name, item in candidates.items()},
        measurements.rows if measurements else (),
        num_networks=config.propose,
        bytes_per_element=BYTES_PER_ELEMENT[precision_of(config, measurements) or "fp32"],
    )
    with writing():
        write_proposals(config.output_path, proposals, items)
    for number, proposal in enumerate(proposals, start=1):
        expected = "" if proposal.predicted_ms is None else f"  {proposal.predicted_ms:.4g} ms expected"
        report(f"{number}/{len(proposals)}  {proposal.name}{expected}")
    report(f"networks {config.output_path}")
    if items:
        report(f"next  {next_measurement(config)}")
    known, needed = len(measurements.rows) if measurements else 0, rows_needed(config.level)
    if known + len(proposals) < needed:
        report(f"mind  a bound at {config.level:.0%} needs {needed} networks measured; with these there are fewer")


@contextmanager
def writing() -> Iterator[None]:
    """Turns a full disk or a missing permission into an error that the user can mend."""
    try:
        yield
    except RunFolderError as error:
        raise InvalidInputError(f"{error}, or set output") from error
    except OSError as error:
        raise InvalidInputError(f"cannot write {error.filename}: {error.strerror}; set output") from error


def summary(calibration: Calibration, measurements: Measurements) -> Iterator[str]:
    """The figures in words, a line each."""
    error, bound, subject = calibration.error, calibration.bound, measurements.subject
    yield f"{measurements.path}: {len(measurements.rows)} {subject}s, {error.n} of them held out in turn"
    yield (
        f"error  mean {error.mape:.1%}  median {error.median_ape:.1%}  within 10 %: {error.within_10_share:.0%}  "
        f"within 20 %: {error.within_20_share:.0%}  Spearman {error.spearman:.3f}"
    )
    seen = "too few rows to try it" if bound.coverage is None else f"covered {bound.coverage:.1%} of them"
    yield f"bound  {bound.factor:.4g} times the estimate at level {bound.level:g}, n {bound.n}; {seen}"
    yield from glitch(calibration, measurements)
    if calibration.calibrator is not None:
        points = "  ".join(f"{sum_ms:.4g} ms -> {ms:.4g} ms" for sum_ms, ms in calibration.calibrator.points)
        yield f"map    from the sum of operations to the network: {points}"
    for row in worst_rows(calibration, measurements):
        yield "worst  {name}  measured {measured_ms:.4g} ms  predicted {predicted_ms:.4g}  ratio {ratio:.3g}".format(
            **row
        )


def glitch(calibration: Calibration, measurements: Measurements) -> Iterator[str]:
    """Which row alone sets the bound, if it is far slower than foretold beside all others."""
    ratio_N = calibration.held_out.ratio_N
    slowest, second, *_ = sorted(range(len(ratio_N)), key=lambda i: -float(ratio_N[i]))
    if ratio_N[slowest] > GLITCH * ratio_N[second] and calibration.bound.factor > ratio_N[second]:
        row = measurements.rows[calibration.held_out.rows[slowest]]
        yield (
            f"note   line {row.line} ({row.name}) alone sets the bound: measured {ratio_N[slowest]:.3g} times what the "
            f"others foretell, the next {ratio_N[second]:.3g}; measure it again"
        )


def worst_rows(calibration: Calibration, measurements: Measurements) -> list[dict[str, Any]]:
    """The held-out predictions that are furthest off, the worst first."""
    rows = held_out_rows(calibration, measurements)
    return [rows[i] for i in calibration.held_out.worst(WORST)]


def held_out_rows(calibration: Calibration, measurements: Measurements) -> list[dict[str, Any]]:
    """Name, line, times and their ratio of each held-out row."""
    held_out = calibration.held_out
    rows = [measurements.rows[i] for i in held_out.rows]
    return [
        {
            "name": row.name,
            "line": row.line,
            "measured_ms": row.latency_ms,
            "predicted_ms": float(predicted_ms),
            "ratio": float(ratio),
        }
        for row, predicted_ms, ratio in zip(rows, held_out.predicted_N, held_out.ratio_N, strict=True)
    ]


def write_report(folder: Path, calibration: Calibration, measurements: Measurements) -> None:
    """figures.json, predictions.csv and predicted_measured.png."""
    rows = held_out_rows(calibration, measurements)
    figures = {
        "measurements": str(measurements.path),
        "subject": measurements.subject,
        "rows": len(measurements.rows),
        "error": calibration.error.model_dump(mode="json"),
        "bound": calibration.bound.model_dump(mode="json"),
        "calibrator": None if calibration.calibrator is None else calibration.calibrator.model_dump(mode="json"),
        "undecided": list(calibration.undecided),
        "unmeasured": list(calibration.unmeasured),
        "drops_dead_code": calibration.drops_dead_code,
        "worst": worst_rows(calibration, measurements),
    }
    write_json(folder / "figures.json", figures)
    write_csv(folder / "predictions.csv", rows, list(rows[0]))
    write_plot(folder / "predicted_measured.png", rows, factor=calibration.bound.factor, level=calibration.bound.level)


def next_search(config: CalibrateConfig, measurements: Measurements) -> str:
    """The command that searches for this device, at a budget in the middle of what was measured."""
    folder, name = config.output_path.parent, config.name
    if folder.name != "hardware":
        return f"put {config.output_path} into a folder hardware/, and give that folder's own to --config-dir"
    times = sorted(row.latency_ms for row in measurements.rows)
    budget_ms = f"{times[len(times) // 2]:.3g}" if measurements.subject == "network" else "10"
    overrides = [f"hardware=[{name}]", f"hardware.{name}.budgets.latency_ms={budget_ms}"]
    return shlex.join(["espalier-search", "--config-dir", str(folder.parent), *overrides])


def next_measurement(config: CalibrateConfig) -> str:
    """The command that measures the proposed networks, into the file that has the others."""
    bench = config.measurements or "bench.csv"
    return shlex.join(["espalier-measure", f"architecture={config.output_path}/*.json", f"output={bench}"])


def write_proposals(folder: Path, proposals: Sequence[Proposal], items: Mapping[str, Item]) -> None:
    for proposal in proposals:
        if proposal.name in items:
            architecture = items[proposal.name].subject
            assert isinstance(architecture, Architecture)
            write_text(folder / f"{proposal.name}.json", architecture.to_json())
    rows = [{"network": p.name, "predicted_ms": p.predicted_ms, "deviation_ms": p.deviation_ms} for p in proposals]
    write_csv(folder / "networks.csv", rows, list(rows[0]))
