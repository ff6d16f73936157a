"""Predicted against measured latency of rows that the fit had not seen, as a picture."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from trainers.runs.files import write_bytes

NAMED = 5  # points furthest off that carry their names
INCHES = 6.0
DOTS_PER_INCH = 120


def write_plot(path: Path, rows: Sequence[Mapping[str, Any]], *, factor: float, level: float) -> None:
    """A PNG of `rows` (name, measured_ms, predicted_ms, ratio) with lines for equality, 20 % off and the bound."""
    picture = BytesIO()
    latency_figure(rows, factor=factor, level=level).savefig(picture, format="png", dpi=DOTS_PER_INCH)
    write_bytes(path, picture.getvalue())


def latency_figure(rows: Sequence[Mapping[str, Any]], *, factor: float, level: float) -> Figure:
    predicted = [row["predicted_ms"] for row in rows]
    measured = [row["measured_ms"] for row in rows]
    ends = [min(predicted + measured) / 1.3, max(predicted + measured) * 1.3]
    figure = Figure(figsize=(INCHES, INCHES), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(ends, [0.8 * x for x in ends], [1.2 * x for x in ends], color="0.9", label="20 % off")
    axes.plot(ends, ends, color="0.4", linewidth=1, label="equal")
    bound = [factor * x for x in ends]
    axes.plot(ends, bound, color="tab:red", linestyle="--", linewidth=1, label=f"bound at level {level:g}")
    axes.scatter(predicted, measured, s=14, color="tab:blue", label=f"held out, n = {len(rows)}")
    off = sorted(rows, key=lambda row: max(row["ratio"], 1 / row["ratio"]), reverse=True)
    for row in off[:NAMED]:
        # A name is shown as it is: a dollar sign would begin a formula.
        axes.annotate(
            row["name"][:40], (row["predicted_ms"], row["measured_ms"]), fontsize=7, parse_math=False, xytext=(4, -3),
            textcoords="offset points",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="predicted, ms", ylabel="measured, ms")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left", fontsize=8)
    return figure
