"""One calibration: measurements in, a device's profile with its report out. One proposal: networks to measure next."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hardware_models.calibration.calibration import Calibration, calibrate, calibrate_best
from hardware_models.calibration.design import Proposal, propose
from hardware_models.calibration.held_out import random_needed
from hardware_models.calibration.profile_file import profile_text
from hardware_models.measuring.measurements import Measurements
from hardware_models.profile import BYTES_PER_ELEMENT, Precision
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidInputError
from trainers.devices.calibrate_input import checked_candidates, checked_measurements, describe, precision_of
from trainers.devices.calibration_report import CalibrationReport
from trainers.devices.command_config import CalibrateConfig
from trainers.runs.exit_status import RunFolderError
from trainers.runs.files import write_csv, write_text

Report = Callable[[str], None]


def run_calibrate(config: CalibrateConfig, report: Report) -> None:
    """Writes the profile of what was measured and its report. Nothing is written if anything is wrong."""
    measurements = checked_measurements(config)
    description = describe(config, measurements)
    calibration = _calibrated(config, measurements, description.precision, report)
    text = profile_text(calibration, measurements, description)
    found = CalibrationReport(calibration, measurements)
    with _writing():
        found.write(config.report_folder)
        write_text(config.output_path, text)
    for line in found.summary():
        report(line)
    report(f"profile {config.output_path}  report {config.report_folder}")
    report(f"next  {_next_search(config, measurements)}")


def _calibrated(
    config: CalibrateConfig, measurements: Measurements, precision: Precision, report: Report
) -> Calibration:
    """The calibration of the model that is asked for, or of the best one."""
    if config.model is not None:
        return calibrate(
            measurements,
            model=config.model,
            level=config.level,
            precision=precision,
            unusual_speed=config.unusual_speed,
        )
    calibration, errors = calibrate_best(
        measurements, level=config.level, precision=precision, unusual_speed=config.unusual_speed
    )
    if len(errors) > 1:
        best_first = sorted(errors.items(), key=lambda pair: pair[1])
        report(f"model  {'; '.join(f'{name}: mean error {error:.1%}' for name, error in best_first)}")
    return calibration


def run_propose(config: CalibrateConfig, report: Report) -> None:
    """Writes the networks to measure next, the most telling first and then random ones, and the command for them."""
    candidates, measurements = checked_candidates(config)
    assert config.propose is not None
    needed = random_needed(config.level)
    num_random = min(config.propose, max(0, needed - (len(measurements.random) if measurements else 0)))
    proposals = propose(
        {item.name: item.operations for item in candidates},
        measurements.rows if measurements else (),
        num_networks=config.propose,
        num_random=num_random,
        bytes_per_element=BYTES_PER_ELEMENT[precision_of(config, measurements) or "fp32"],
    )
    architectures = {item.name: item.subject for item in candidates if isinstance(item.subject, Architecture)}
    with _writing():
        _write_proposals(config.output_path, proposals, architectures)
    for number, proposal in enumerate(proposals, start=1):
        expected = "" if proposal.predicted_ms is None else f"  {proposal.predicted_ms:.4g} ms expected"
        report(f"{number}/{len(proposals)}  {proposal.part:7}  {proposal.name}{expected}")
    report(
        f"networks {config.output_path}: {len(proposals) - num_random} telling ones for the fit, {num_random} random "
        f"ones for its error and its bound at {config.level:.0%}"
    )
    if architectures:
        bench = config.measurements or "bench.csv"  # the file that has the others
        measure = ["espalier-measure", f"architecture={config.output_path}/*.json", f"output={bench}"]
        report(f"next  {shlex.join(measure)}")
    random = num_random + (len(measurements.random) if measurements else 0)
    if random < needed:
        report(f"warning  a bound at {config.level:.0%} needs {needed} random networks; with these there are {random}")


@contextmanager
def _writing() -> Iterator[None]:
    """Makes an error that the user can fix of a full disk or a missing permission."""
    try:
        yield
    except RunFolderError as error:
        raise InvalidInputError(f"{error}, or set output") from error


def _next_search(config: CalibrateConfig, measurements: Measurements) -> str:
    """The command that searches for this device, at a budget in the middle of what was measured."""
    folder, name = config.output_path.parent, config.name
    if folder.name != "hardware":
        return f"put {config.output_path} into a folder hardware/, and give the folder it is in to --config-dir"
    times = sorted(row.latency_ms for row in measurements.rows)
    budget_ms = f"{times[len(times) // 2]:.3g}" if measurements.subject == "network" else "10"
    overrides = [f"hardware=[{name}]", f"hardware.{name}.budgets.latency_ms={budget_ms}"]
    return shlex.join(["espalier-search", "--config-dir", os.path.dirname(folder) or ".", *overrides])


def _write_proposals(folder: Path, proposals: Sequence[Proposal], architectures: Mapping[str, Architecture]) -> None:
    for proposal in proposals:
        if proposal.name in architectures:
            text = architectures[proposal.name].to_json(origin={"part": proposal.part})
            write_text(folder / f"{proposal.name}.json", text)
    rows = [{"network" if key == "name" else key: value for key, value in vars(p).items()} for p in proposals]
    write_csv(folder / "networks.csv", rows, list(rows[0]))
