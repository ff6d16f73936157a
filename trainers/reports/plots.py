"""Plots of a report as SVG text that follows the colours of its page, and pictures for loggers."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from search_spaces.errors import InvalidInputError
from trainers.analysis.canvas import (
    COLOURS,
    GREY,
    LEGEND_INCHES,
    legend_below,
    legend_outside,
    looks,
    mark_rise,
    name_rows,
    panel_and_strip,
    panels,
    plain_numbers,
    say,
    style,
)
from trainers.analysis.loading import Run
from trainers.analysis.run_files import read_alphas
from trainers.analysis.run_plots import heat_map
from trainers.reports.page_svg import page_svg
from trainers.runs import metric_names
from trainers.runs.result import DeviceResult
from trainers.search.console import held_against

DOTS_PER_INCH = 120  # of pictures for loggers
MOST_POINTS, MARKS = 50, 8  # of a line, the latter about: a report of many epochs stays small


def themed_svg(figure: Figure, *, name: str, words: str) -> str:
    """SVG text to stand inside a page. `name` keeps its ids apart from other plots'; `words` say what it shows."""
    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "espalier", "text.parse_math": False}
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    for axes in figure.axes:
        for line in axes.lines:
            _thin(line)
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    return page_svg(buffer.getvalue(), name=name, words=words)


def _thin(line: Line2D) -> None:
    """Leaves points out of a long line, evenly, and more of its marks."""
    points = np.asarray(line.get_xydata())
    if len(points) > MOST_POINTS and line.get_drawstyle() == "default":
        points = points[np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)]
        line.set_data(*points.T)
    line.set_markevery(max(1, len(points) // MARKS))


@style()
def plot_candidates(devices: Mapping[str, DeviceResult]) -> Figure:
    """Of each device in result.json, validation accuracy of its candidates against the share of its tightest budget
    that each uses, by the figure that budgets are checked against before anything is measured; as many random networks
    within the same budgets beside them; a star on the one taken.
    """
    figure, grid = panels(list(devices), height=2.8)
    for axes, (name, device) in zip(grid, devices.items(), strict=True):
        random: Any = {"marker": "o", "color": GREY, "label": "random"}
        searched: Any = {"marker": "s", "color": COLOURS[0], "label": "candidates"}
        for rows, look in ((device.random_candidates, random), (device.candidates, searched)):
            shares = [row.utilisation for row in rows]
            axes.scatter(shares, [row.validation_accuracy for row in rows], s=26, alpha=0.8, **look)
        x, y = device.taken.utilisation, device.taken.validation_accuracy
        axes.scatter([x], [y], s=130, marker="*", color=COLOURS[1], label="taken", zorder=3)
        axes.axvline(1, color=GREY, linewidth=1)
        counts = f"{len(device.candidates)} candidates, {len(device.random_candidates)} random"
        axes.set_title(f"{name}\n{counts}", loc="left")
        axes.set(xlabel=f"share of the tightest budget,\nby {held_against(device, as_predicted=True)}")
    name_rows(grid, "validation accuracy, share")
    legend_outside(figure, grid[0])
    return figure


@style()
def plot_latency(devices: Mapping[str, DeviceResult]) -> Figure:
    """Test accuracy of each device's network against its latency, predicted to upper bound, and its budget, a hollow
    mark at the bottom. Beside them stands each over a dash, the best random network within the same budgets, whose
    latency no file tells. Weights are inherited, so that both compare.
    """
    figure, axes, strip = panel_and_strip("", width=8, height=3.2, places=len(devices))
    looks_of = looks(list(devices))
    for place, (name, device) in enumerate(devices.items()):
        look, x, y = looks_of[name], device.predicted["latency_ms"], device.accuracy.inherited
        if y is None or device.accuracy.random is None:
            continue  # no supernet gave weights
        axes.hlines(y, x, device.upper.get("latency_ms", x), color=look.color, linewidth=1)
        axes.scatter(x, y, s=40, color=look.color, marker=look.marker, label=name, zorder=3)
        mark_rise(strip, place, random=device.accuracy.random, own=y, look=look)
        if "latency_ms" in device.budgets:
            hollow: Any = {"marker": look.marker, "color": look.color, "markerfacecolor": "none"}
            axes.plot(device.budgets["latency_ms"], 0.02, transform=axes.get_xaxis_transform(), **hollow)
    axes.set(xscale="log", xlabel="latency, ms (predicted, to its upper bound; hollow: budget)")
    plain_numbers(axes.xaxis)
    axes.margins(y=0.15)  # room for the budgets
    axes.set_ylabel("test accuracy, share (inherited weights)")
    strip.set_xlabel("each beside the best\nrandom network (dash)")
    legend_outside(figure, axes)
    return figure


@style()
def plot_inside(run: Run) -> Figure:
    """Losses, and entropy with the shares of operations, over the epochs."""
    shares = {name: words for name in run.metrics.columns if (words := share_words(name)) is not None}
    named = {metric_names.ENTROPY: "entropy", **shares}
    figure = Figure(figsize=(9, 2.8 + LEGEND_INCHES * len(named)), layout="constrained")
    left, right = figure.subplots(1, 2)
    if run.metrics.empty:
        say(left, "no epoch has ended yet")
        say(right, "no epoch has ended yet")
        return figure
    _lines(left, run, {metric_names.TRAIN_LOSS: "training", metric_names.VALIDATION_LOSS: "validation"})
    left.set_title("loss", loc="left")
    _lines(right, run, named)
    right.set_title("entropy, and shares of operations", loc="left")
    right.set_ylim(0, 1.05)
    return figure


def share_words(name: str) -> str | None:
    """`share of skip_connect` for the metric of that share; none for other metrics."""
    prefix, suffix = metric_names.share("*").split("*")
    if not (name.startswith(prefix) and name.endswith(suffix)):
        return None
    return f"share of {name.removeprefix(prefix).removesuffix(suffix)}"


def _lines(axes: Axes, run: Run, named: Mapping[str, str]) -> None:
    present = {name: words for name, words in named.items() if name in run.metrics}
    every = max(1, len(run.metrics) // 20)
    for (words, look), name in zip(looks(list(present.values())).items(), present, strict=True):
        settings: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 3.5, "markevery": every}
        axes.plot(run.metrics[metric_names.EPOCH], run.metrics[name], label=words, **settings)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(axes)


def alpha_heat_map(path: Path) -> bytes:
    """A PNG picture of `alphas.npz`. Raises: InvalidInputError if it is missing, or is not what a search writes."""
    alphas = read_alphas(path)
    if alphas is None:
        raise InvalidInputError(f"cannot read {path}: no such file; it is written when a search has trained")
    buffer = io.BytesIO()
    heat_map(alphas, devices=alphas.device).savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()
