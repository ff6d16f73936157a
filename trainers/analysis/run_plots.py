"""Pictures of one run: costs against budgets, pruning, and what its strategy believed."""

from collections.abc import Sequence
from itertools import groupby

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hardware_models.profile import METRICS
from search_spaces.errors import InvalidInputError
from trainers.analysis.canvas import (
    CELL_INCHES,
    GREY,
    HEAT,
    UNITS,
    legend_below,
    looks,
    name_rows,
    panels,
    plain_numbers,
    say,
    style,
)
from trainers.analysis.loading import Run
from trainers.analysis.run_files import Alphas
from trainers.tracking import metric_names

CHOSEN_LAST = "validation"  # the ledger's reason for choices that lost when the network was chosen
MOST_LABELS = 60  # rows of a heat map that carry the name of their choice; of more, only decisions are named
MOST_CELLS = 30_000  # of a heat map: of more, epochs are left out evenly, so that a report stays small
SHADES = 20  # of a heat map: a shade for each twentieth
TALLEST_INCHES = 9.0  # of a heat map: a page


@style()
def plot_costs(run: Run) -> Figure:
    """Costs of each device over the epochs as shares of its budgets, predicted: of the average network that the
    strategy draws, and of the dearest that pruning has left. Where the latter is below 1, every network fits.
    """
    devices = metric_names.devices_of(run.metrics.columns)
    figure, grid = panels(devices, height=3.6)
    if not devices:
        say(grid[0], "no epoch has ended yet")
        return figure
    looks_of = looks(METRICS)
    for axes, device in zip(grid, devices, strict=True):
        for metric in METRICS:
            if metric_names.budget(device, metric) not in run.metrics:
                continue
            budget = run.metrics[metric_names.budget(device, metric)]
            label = f"{metric.rpartition('_')[0] or metric}: budget {budget.iloc[-1]:g} {UNITS[metric]}"
            for name, line in ((metric_names.expected, "-"), (metric_names.worst, "--")):
                shares = run.metrics[name(device, metric)] / budget
                told = label if line == "-" else None
                axes.plot(
                    run.metrics["epoch"],
                    shares,
                    line,
                    label=told,
                    markersize=3.5,
                    color=looks_of[metric].color,
                    marker=looks_of[metric].marker,
                )
        axes.axhline(1, color=GREY, linewidth=1)
        axes.set(xlabel="epoch", yscale="log")
        plain_numbers(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend_below(axes)
    name_rows(grid, "share of budget, by what is held against it\n(dashes: dearest network left)")
    return figure


@style()
def plot_pruning(run: Run) -> Figure:
    """How many choices each device had lost by each step of training, from the prune ledger, with how many for what.

    Those that lost in the end, when the network was chosen, are left out.
    """
    pruned = run.prunes[run.prunes["reason"] != CHOSEN_LAST]
    if pruned.empty:
        figure, (axes,) = panels([""], width=6)
        say(axes, "nothing was pruned")
        return figure
    last = run.metrics["step"].max() if len(run.metrics) else pruned["step"].max()
    looks_of = looks(list(run.devices["device"]))
    figure, grid = panels(list(looks_of), height=2.2)
    for axes, (device, look) in zip(grid, looks_of.items(), strict=True):
        own = pruned[pruned["device"] == device]
        reasons = ", ".join(f"{reason} {count}" for reason, count in own["reason"].value_counts().items())
        gone = own.groupby("step").size().cumsum()
        axes.plot(
            [0, *gone.index, last],
            [0, *gone, gone.iloc[-1] if len(gone) else 0],
            drawstyle="steps-post",
            color=look.color,
            marker=look.marker,
            markersize=4,
        )
        axes.set_title(f"{device}\n{reasons or 'none'}", loc="left")
        axes.set_xlabel("step of training")
    grid[0].set_ylim(0, None)  # of all, now that each has its line
    name_rows(grid, "choices pruned so far")
    return figure


@style()
def plot_alphas(run: Run, *, device: str | None = None) -> Figure:
    """The probability of each choice over the epochs, as `heat_map` draws it, of `device` or of all.

    Raises: InvalidInputError if the run has no such device.
    """
    alphas = run.alphas
    if alphas is None or not len(alphas.epoch):
        figure, (axes,) = panels([device or ""])
        say(axes, "no alphas.npz: no epoch has ended yet, or the run is older than that file")
        return figure
    if device is not None and device not in alphas.device:
        raise InvalidInputError(f"{run.path} has no device {device!r}; its devices: {', '.join(alphas.device)}")
    return heat_map(alphas, devices=alphas.device if device is None else (device,))


@style()
def heat_map(alphas: Alphas, *, devices: Sequence[str]) -> Figure:
    """The probability of each choice over the epochs, `devices` side by side, a row per choice, decisions parted."""
    shown = max(2, MOST_CELLS // alphas.weights[0].size)
    kept = np.unique(np.linspace(0, len(alphas.epoch) - 1, min(shown, len(alphas.epoch))).round().astype(int))
    num_rows = len(alphas.choice)
    height = min(TALLEST_INCHES, max(2.5, CELL_INCHES * min(num_rows, MOST_LABELS) + 0.8))
    figure, grid = panels(devices, width=6 if len(devices) == 1 else 3, height=height)
    first, last = float(alphas.epoch[0]) - 0.5, float(alphas.epoch[-1]) + 0.5
    starts = [start for _, start, _ in _decisions(alphas)]
    for axes, device in zip(grid, devices, strict=True):
        weights_NE = alphas.weights[kept, alphas.device.index(device)].T
        picture = axes.imshow(
            weights_NE,
            cmap=matplotlib.colormaps[HEAT].resampled(SHADES),
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="none",  # an SVG file then has a pixel for each cell, and not for each dot
            extent=(first, last, num_rows - 0.5, -0.5),
        )
        axes.hlines(np.array(starts[1:]) - 0.5, first, last, color="white", linewidth=0.8)
        axes.tick_params(axis="y", labelsize=6.5, length=0)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    places, labels = zip(*_row_labels(alphas), strict=True)
    grid[0].set_yticks(places, labels)
    figure.colorbar(picture, ax=grid, label="probability of the choice", shrink=0.8)
    return figure


def _decisions(alphas: Alphas) -> list[tuple[str, int, int]]:
    """Each decision with its first row and its number of rows."""
    found, start = [], 0
    for name, rows in groupby(alphas.decision):
        count = len(list(rows))
        found.append((name, start, count))
        start += count
    return found


def _row_labels(alphas: Alphas) -> list[tuple[float, str]]:
    if len(alphas.choice) <= MOST_LABELS:
        named = zip(alphas.decision, alphas.choice, strict=True)
        return [(place, f"{decision} = {choice}") for place, (decision, choice) in enumerate(named)]
    decisions = _decisions(alphas)
    every = -(-len(decisions) // MOST_LABELS)
    return [(start + (count - 1) / 2, name) for name, start, count in decisions[::every]]
