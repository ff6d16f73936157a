"""What all pictures share: colours that colour-blind readers tell apart, and a ground that any notebook shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

# Source: Okabe and Ito, "Color universal design" (2008), without yellow, which is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # colour is never alone in telling lines apart
GREY = "#595959"  # 7 to 1 on white: readable as small text
INK = "#1A1A1A"
HEAT = "cividis"  # even for readers without red or green
CELL_INCHES = 0.19  # of a row that carries a label
STRIP_INCHES, PLACE_INCHES = 1.1, 0.16  # of a strip: what it takes by itself, and for each mark in it
PER_ROW = 3  # panels beside one another: of more, the words in them are too small on a page
LEGEND_INCHES = 0.17  # of a line of a legend, or of a label below all panels
BELOW_LETTERS = 4.5  # heights from axes to a legend below their labels
LEGEND_LETTERS = 14  # of these, an inch; wide ones
MARKS = 8  # of a line over epochs, about: a report of many epochs stays small
HANDLE_LETTERS = 8  # as wide as what stands before a word of a legend, and the space after it
style = partial(matplotlib.style.context, Path(__file__).with_name("espalier.mplstyle"))  # of a function that draws
UNITS = {"latency_ms": "ms", "gflops": "GFLOPs", "params_m": "M parameters"}
UNITS |= {"peak_memory_mb": "MB", "flash_kb": "kB of flash", "sram_kb": "kB of SRAM"}
QUANTITIES = {
    "latency_ms": "latency, ms",
    "gflops": "multiply-adds, GFLOPs",
    "params_m": "parameters, million",
    "peak_memory_mb": "peak memory, MB",
    "flash_kb": "weights, kB",
    "sram_kb": "activations, kB",
}


@dataclass(frozen=True)
class Look:
    """How the points of one name are drawn."""

    color: str
    marker: str


def panels(
    titles: Sequence[str], *, width: float = 3.6, height: float = 3.0, per_row: int = PER_ROW
) -> tuple[Figure, list[Axes]]:
    """Empty axes with a title each, in rows, vertical scale shared; `width` and `height` in inches are of one."""
    count = max(1, len(titles))
    rows = ceil(count / per_row)
    columns = ceil(count / rows)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes in grid[count:]:
        axes.remove()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(title, loc="left")
    return figure, grid[:count]


def panel_and_strip(title: str, *, width: float, height: float, places: int) -> tuple[Figure, Axes, Axes]:
    """Empty axes, and narrow ones beside them for so many marks next to one another; vertical scale shared."""
    strip_inches = min(width / 3, STRIP_INCHES + PLACE_INCHES * places)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes, strip = figure.subplots(1, 2, sharey=True, width_ratios=(width - strip_inches, strip_inches))
    axes.set_title(title, loc="left")
    strip.set(xticks=[], xlim=(-0.8, places - 0.2))
    return figure, axes, strip


def name_rows(grid: Sequence[Axes], text: str) -> None:
    """Names the vertical scale of panels, once in each row."""
    for axes in grid:
        spec = axes.get_subplotspec()
        if spec is None or spec.is_first_col():
            axes.set_ylabel(text)


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A colour and a marker for each name, in order: no two of 49 are alike, and of seven no colour is there twice."""
    count = len(COLOURS)
    return {name: Look(COLOURS[i % count], MARKERS[(i + i // count) % count]) for i, name in enumerate(names)}


def plain_numbers(axis: Axis) -> None:
    """Labels of a logarithmic axis that span a decade or less as well as several."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def draw_epochs(axes: Axes) -> None:
    """Names the axis of lines over epochs, with about `MARKS` marks each, and a legend that covers no data."""
    for line in axes.lines:
        line.set_markevery(max(1, len(np.asarray(line.get_xdata())) // MARKS))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), borderaxespad=BELOW_LETTERS, frameon=False)


def legend_outside(figure: Figure, axes: Axes) -> None:
    """A legend of `axes` below all panels, in lines that fit the figure, which grows by the height of the legend."""
    handles, labels = axes.get_legend_handles_labels()
    letters = int(figure.get_figwidth() * LEGEND_LETTERS)
    columns = max(1, min(len(labels), letters // (max(map(len, labels), default=0) + HANDLE_LETTERS)))
    wrapped = [fill(label, letters - HANDLE_LETTERS, break_on_hyphens=False) for label in labels]
    rows = sum(text.count("\n") + 1 for text in wrapped) / columns
    figure.set_figheight(figure.get_figheight() + LEGEND_INCHES * (ceil(rows) + 1))
    figure.legend(handles, wrapped, loc="outside lower center", ncols=columns, frameon=False)


def mark_rise(strip: Axes, place: float, *, random: float, own: float, look: Look, filled: bool = True) -> None:
    """An accuracy above or below that of the random baseline, which is a dash, at a place of a strip."""
    strip.vlines(place, random, own, color=look.color, linewidth=1, alpha=0.6)
    strip.hlines(random, place - 0.35, place + 0.35, color=look.color, linewidth=2)
    strip.scatter(place, own, s=26, zorder=3, marker=look.marker, **paints(look, [filled]))


def paints(look: Look, filled: Iterable[bool]) -> dict[str, Any]:
    """The colours of a scatter's marks, which are full or hollow."""
    return {"edgecolors": look.color, "facecolors": [look.color if full else "none" for full in filled]}


def say(axes: Axes, text: str) -> None:
    """Tells why a picture has nothing to show, in its middle."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=9, wrap=True)
    axes.set(xticks=[], yticks=[])
