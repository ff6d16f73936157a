"""What a calibration is worth, in words and as files: figures, predictions of rows held out, and a plot of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardware_models.calibration.calibration import Calibration
from hardware_models.measuring.measurements import Measurements
from trainers.devices.calibrate_plot import write_plot
from trainers.runs.files import write_csv, write_json

WORST = 5  # rows reported by name
GLITCH = 3.0  # a row this many times slower than any other, beside what is predicted, is measured again first


def summary(calibration: Calibration, measurements: Measurements) -> Iterator[str]:
    """The figures in words, a line each."""
    error, bound, calibrator = calibration.error, calibration.bound, calibration.fitted.calibrator
    yield f"{measurements.path}: {len(measurements.rows)} {measurements.subject}s, {error.n} of them held out in turn"
    yield (
        f"error  mean {error.mape:.1%}  median {error.median_ape:.1%}  within 10 %: {error.within_10_share:.0%}  "
        f"within 20 %: {error.within_20_share:.0%}  Spearman {error.spearman:.3f}"
    )
    seen = "too few rows to try it" if bound.coverage is None else f"covered {bound.coverage:.1%} of them"
    yield f"bound  {bound.factor:.4g} times the estimate at level {bound.level:g}, n {bound.n}; {seen}"
    yield from _glitch(calibration, measurements)
    if calibrator is not None:
        points = "  ".join(f"{sum_ms:.4g} ms -> {ms:.4g} ms" for sum_ms, ms in calibrator.points)
        yield f"map    from the sum of operations to the network: {points}"
    for row in _worst_rows(calibration, measurements):
        yield "worst  {name}  measured {measured_ms:.4g} ms  predicted {predicted_ms:.4g}  ratio {ratio:.3g}".format(
            **row
        )


def write_report(folder: Path, calibration: Calibration, measurements: Measurements) -> None:
    """figures.json, predictions.csv and predicted_measured.png."""
    rows, fitted = _held_out_rows(calibration, measurements), calibration.fitted
    figures = {
        "measurements": str(measurements.path),
        "subject": measurements.subject,
        "rows": len(measurements.rows),
        "error": calibration.error.model_dump(mode="json"),
        "bound": calibration.bound.model_dump(mode="json"),
        "calibrator": None if fitted.calibrator is None else fitted.calibrator.model_dump(mode="json"),
        "undecided": list(fitted.undecided),
        "unmeasured": list(fitted.unmeasured),
        "drops_dead_code": fitted.drops_dead_code,
        "worst": _worst_rows(calibration, measurements),
    }
    write_json(folder / "figures.json", figures)
    write_csv(folder / "predictions.csv", rows, list(rows[0]))
    write_plot(folder / "predicted_measured.png", rows, factor=calibration.bound.factor, level=calibration.bound.level)


def _glitch(calibration: Calibration, measurements: Measurements) -> Iterator[str]:
    """Which row alone sets the bound, if it is far slower than predicted beside all others."""
    ratio_N = calibration.held_out.ratio_N
    slowest, second, *_ = sorted(range(len(ratio_N)), key=lambda i: -float(ratio_N[i]))
    if ratio_N[slowest] > GLITCH * ratio_N[second] and calibration.bound.factor > ratio_N[second]:
        row = measurements.rows[calibration.held_out.rows[slowest]]
        yield (
            f"note   line {row.line} ({row.name}) alone sets the bound: measured {ratio_N[slowest]:.3g} times what the "
            f"others predict, the next {ratio_N[second]:.3g}; measure it again"
        )


def _worst_rows(calibration: Calibration, measurements: Measurements) -> list[dict[str, Any]]:
    """The held-out predictions that are furthest off, the worst first."""
    rows = _held_out_rows(calibration, measurements)
    return [rows[i] for i in calibration.held_out.worst(WORST)]


def _held_out_rows(calibration: Calibration, measurements: Measurements) -> list[dict[str, Any]]:
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
