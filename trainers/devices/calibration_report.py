"""What a calibration is worth, in words and as files: figures, predictions of rows held out, and a plot of them."""

from collections.abc import Iterator
from io import BytesIO
from math import nan
from pathlib import Path
from typing import Any

from hardware_models.calibration.calibration import Calibration, where
from hardware_models.measuring.measurements import Measurements
from trainers.analysis import held_out, plot_predicted_against_measured
from trainers.runs.files import write_bytes, write_csv, write_json

WORST = 5  # rows reported by name
GLITCH = 3.0  # a row this many times slower than any other, beside what is predicted, is measured again first
COLUMNS = ("name", "line", "measured_ms", "predicted_ms", "ratio")


class CalibrationReport:
    """The report of one calibration, the held-out predictions that are furthest off first."""

    def __init__(self, calibration: Calibration, measurements: Measurements) -> None:
        self._calibration, self._measurements = calibration, measurements
        self._frame = held_out(calibration, measurements)
        columns = [self._frame[column].tolist() for column in COLUMNS]
        self._rows: list[dict[str, Any]] = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]
        by_factor = sorted(self._rows, key=lambda row: max(row["ratio"], 1 / row["ratio"]), reverse=True)
        self._worst = by_factor[:WORST]

    def summary(self) -> Iterator[str]:
        """The figures in words, a line each."""
        file, error, bound = self._measurements, self._calibration.error, self._calibration.bound
        random = "random ones" if self._calibration.is_random else "of them"
        yield f"{file.path}: {len(file.rows)} {file.subject}s; {error.n} {random} held out in turn"
        if not self._calibration.is_random and file.subject == "network":
            yield (
                f"note   {len(file.random)} of them are marked as drawn at random: error and bound are of networks "
                "chosen as these were, and may not hold for others; propose=20 chooses random ones too"
            )
        low, high = error.median_ape_interval or (nan, nan)
        interval = f" ({low:.1%} to {high:.1%} at 90 % confidence)" if low <= high else ""
        yield (
            f"error  mean {error.mape:.1%}  median {error.median_ape:.1%}{interval}  within 10 %: "
            f"{error.within_10_share:.0%}  within 20 %: {error.within_20_share:.0%}  Spearman {error.spearman:.3f}"
        )
        if file.subject != "network":
            of_parts = f"error and bound are those of single {file.subject}s"
            yield f"note   {of_parts}: a search holds the estimate of a network, without a bound"
        seen = "too few rows to try it" if bound.coverage is None else f"covered {bound.coverage:.1%} of them"
        yield f"bound  {bound.factor:.4g} times the estimate at level {bound.level:g}, n {bound.n}; {seen}"
        for sign in self._calibration.suspicions:
            yield f"warning  {where(file, sign)}: {sign.words}"
        slowest, second, *_ = sorted(self._rows, key=lambda row: -row["ratio"])
        if slowest["ratio"] > GLITCH * second["ratio"] and bound.factor > second["ratio"]:
            yield (
                f"note   line {slowest['line']} ({slowest['name']}) alone sets the bound: measured "
                f"{slowest['ratio']:.3g} times what the others predict, the next {second['ratio']:.3g}; repeat it"
            )
        if calibrator := self._calibration.fitted.calibrator:
            points = "  ".join(f"{sum_ms:.4g} ms -> {ms:.4g} ms" for sum_ms, ms in calibrator.points)
            yield f"map    from the sum of operations to the network: {points}"
        for row in self._worst:
            times = f"measured {row['measured_ms']:.4g} ms  predicted {row['predicted_ms']:.4g}"
            yield f"worst  {row['name']}  {times}  ratio {row['ratio']:.3g}"

    def write(self, folder: Path) -> None:
        """figures.json, predictions.csv and predicted_measured.png."""
        fitted, bound = self._calibration.fitted, self._calibration.bound
        figures = {
            "measurements": str(self._measurements.path),
            "subject": self._measurements.subject,
            "rows": len(self._measurements.rows),
            "error": self._calibration.error.model_dump(mode="json"),
            "bound": bound.model_dump(mode="json"),
            "calibrator": fitted.calibrator and fitted.calibrator.model_dump(mode="json"),
            "undecided": list(fitted.undecided),
            "unmeasured": list(fitted.unmeasured),
            "worst": self._worst,
            "signs": [
                {
                    "kind": sign.kind,
                    "lines": [self._measurements.rows[i].line for i in sign.places],
                    "words": sign.words,
                }
                for sign in self._calibration.suspicions
            ],
        }
        write_json(folder / "figures.json", figures)
        write_csv(folder / "predictions.csv", self._rows, COLUMNS)
        picture = BytesIO()
        named = [row["name"] for row in self._worst]
        plot_predicted_against_measured(self._frame, bound=bound.factor, named=named).savefig(picture, dpi=120)
        write_bytes(folder / "predicted_measured.png", picture.getvalue())
