"""What a search reports of its result: each device's budgets beside what its network costs."""

import shlex
from pathlib import Path

from hardware_models.metrics import UNITS
from trainers.runs.result import CandidateRow, Certified, DeviceResult, Result
from trainers.runs.result_parts import BalancedAccuracy, Validation
from trainers.runs.warnings import warning_line, warnings_of
from trainers.search.callbacks import Report

REPORT = "report.html"
NOT_DEPLOYABLE = "not deployable: adapt with espalier-retrain"
SHOWN_WARNINGS = 3  # the report has all
NOTICEABLE = 0.02  # of a budget: candidates that use so much more than the one taken are shown


def bound_words(device: Certified) -> str:
    """What the upper bound of a device's latency covers."""
    subject = device.upper_subject
    widening = device.profile.widening or 1.0
    widened = f", widened {widening:.2f}x" if widening > 1 else ""
    return f"{device.upper_level:.0%} bound" + ("" if subject == "network" else f" of single {subject}s") + widened


def report_verdict(result: Result, folder: Path, report: Report) -> None:
    """The table a user reads first: each device's budgets beside what its network costs."""
    report("")
    for name, device in result.devices.items():
        met = "met" if device.met else f"NOT MET ({device.refuted_by})"
        most = f"most used: {device.binding}, {device.used:.1%}"
        report(f"{name}: budgets {met}, checked against {held_against(device)}; {most}")
        report(f"  network         {device.notation}")
        for line in placement_lines(device):
            report(line)
        for metric, limit in device.budgets.items():
            figures = [f"predicted {device.predicted[metric]:.4g}"]
            if device.upper.get(metric, device.predicted[metric]) != device.predicted[metric]:
                figures.append(f"upper {device.upper[metric]:.4g} ({bound_words(device)})")
            if metric in device.recounted:
                figures.append(f"recounted {device.recounted[metric]:.4g}")
            if device.measured and metric == "latency_ms":
                figures.append(f"measured {device.measured.latency_ms:.4g}")
            report(f"  {metric:15} budget {limit:<7g} {', '.join(figures)} {UNITS[metric]}")
        majority = result.data.majority
        always = f"; majority class {majority.name}: {majority.share:.3f}" if majority else ""
        shown = _shares(device, device.accuracy)
        report(f"  accuracy        {shown}  ({device.accuracy.images:,} test images{always})")
        report(f"  balanced        {_shares(device, device.accuracy.balanced)}  (mean over classes)")
        report(f"  file            {_file_words(device, folder)}")
        larger = [c for c in device.larger_candidates_that_lost or [] if c.utilisation >= device.used + NOTICEABLE]
        for lost in larger[:3]:
            report(f"  larger, lost    uses {lost.utilisation:.1%}, {_why_lost(lost, device.validation)}")
    warnings, content = warnings_of(result), result.model_dump()
    for warned in warnings[:SHOWN_WARNINGS]:
        report(warning_line(warned, content))
    if len(warnings) > SHOWN_WARNINGS:
        report(f"warning {len(warnings) - SHOWN_WARNINGS} more in {REPORT}")
    num_met = sum(device.met for device in result.devices.values())
    num_files = sum(device.file is not None for device in result.devices.values())
    report(f"{num_met}/{len(result.devices)} devices within budget   result {folder / 'result.json'}")
    if num_files < len(result.devices):
        report(f"files   {num_files}/{len(result.devices)}; the others {NOT_DEPLOYABLE}")
    if (folder / REPORT).exists():
        report(f"report  {folder / REPORT}")
    report(f"next    espalier-report verify {shlex.quote(str(folder))}")


def _shares(device: DeviceResult, accuracy: BalancedAccuracy) -> str:
    return "  ".join(f"{device.label(kind)} {share:.3f}" for kind, share in accuracy.shares.items())


def _file_words(device: DeviceResult, folder: Path) -> str:
    if device.file is None:
        return NOT_DEPLOYABLE
    size = "x".join(map(str, device.file.size))
    precision, own = device.file.precision, device.profile.precision
    kind = precision if precision == own else f"{precision}, though the device computes in {own}"
    return f"{folder / device.file.path} ({kind}, {device.file.bytes / 1e6:.2f} MB, images scaled to {size} inside)"


def _why_lost(lost: CandidateRow, taken: Validation) -> str:
    """Validation of a larger candidate beside that of the one taken: of equal accuracy the one of smaller loss is."""
    accuracies = f"validation {lost.validation_accuracy:.3f} against {taken.accuracy:.3f}"
    if lost.validation_accuracy != taken.accuracy:
        return accuracies
    return f"{accuracies}, loss {lost.validation_loss:.6g} against {taken.loss:.6g}"


def held_against(device: Certified, *, as_predicted: bool = False) -> str:
    """What decided whether the latency budget of a device is met; or, before anything was measured."""
    if device.measured and not as_predicted:
        return "the measurement"
    if device.margin == "point":
        return "the estimate"
    return "the estimate, which has no bound" if device.upper_level is None else "the upper bound"


def placement_lines(device: Certified) -> list[str]:
    """Where the network runs, if it has several units to run on; and what is not known of the prices."""
    lines = []
    if device.placement is not None:
        stays = [f"{stay.unit} ({len(stay.operations)} operations)" for stay in device.placement]
        lines.append(f"  placed on       {' -> '.join(stays)}")
    if device.profile.error is None:
        lines.append(f"  latency         of unknown error: {device.profile.error_reason}")
    return lines
