"""Pictures of one run: costs against budgets, pruning, and what its strategy believed."""

# Shapes: E epochs, D devices, N choices of all decisions.

from math import ceil

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from hardware_models.profile import METRICS
from search_spaces.errors import InvalidInputError
from trainers.analysis.canvas import (
    CELL_INCHES,
    GREY,
    HEAT,
    QUANTITIES,
    UNITS,
    draw_epochs,
    legend_outside,
    looks,
    name_rows,
    paints,
    panels,
    plain_numbers,
    say,
    style,
)
from trainers.analysis.loading import Run
from trainers.runs import metric_names
from trainers.runs.result import DeviceResult

CHOSEN_LAST = ("validation", "offered")  # the pruning log's reasons for what went or came back with the network taken
MOST_CHOICES = 60  # that a heat map has a row each for; of more, a row per decision
MOST_EPOCHS = 40  # columns of a heat map: of more, epochs are left out evenly, so that a report stays small
SHADES = 20  # of a heat map: a shade for each twentieth
WIDE = 4  # times the smallest of some budgets: beyond it their axis is logarithmic
SMALL = 6.5  # points of the names of its rows
DECISION_INCHES = 0.13  # of a row of a heat map of decisions
MAPS_PER_ROW, MAPS_INCHES = 6, 9.6  # of heat maps


@style()
def plot_costs(run: Run) -> Figure:
    """Costs of each device over the epochs as shares of its budgets, predicted: of the average network that the
    strategy draws, and of the most expensive that pruning has left. Where the latter is below 1, every network fits.
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
            held = f"{metric.rpartition('_')[0] or metric}: budget {budget.iloc[-1]:g} {UNITS[metric]}"
            for name, line, label in ((metric_names.expected, "-", held), (metric_names.worst, "--", None)):
                shares = run.metrics[name(device, metric)] / budget
                axes.plot(run.metrics["epoch"], shares, line, label=label, markersize=3.5, **vars(looks_of[metric]))
        axes.axhline(1, color=GREY, linewidth=1)
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
        draw_epochs(axes)
    name_rows(grid, "share of budget, by what is checked against it\n(dashes: most expensive network left)")
    return figure


def front_points(run: Run) -> dict[str, str]:
    """The devices of a run that are points of a front, each with the device that it is of."""
    parent = run.config.get("parent")
    points = parent.get("points") if isinstance(parent, dict) else None
    named = points.items() if isinstance(points, dict) else ()
    return {point: str(device) for point, device in named if point in run.device_results}


@style()
def plot_front(run: Run) -> Figure:
    """Validation accuracy of each point of a front against what decides of its budget; the steps are its budgets, each
    with the best network found for it. Hollow: over its budget.

    Raises: InvalidInputError if the run has no front.
    """
    points = front_points(run)
    if not points:
        raise InvalidInputError(f"{run.path} has no front; espalier-derive makes one with front.points=20")
    devices: dict[str, list[DeviceResult]] = {}
    for point, device in points.items():
        devices.setdefault(device, []).append(run.device_results[point])
    figure, grid = panels(list(devices), width=5.5, height=3.4)
    for axes, (device, found) in zip(grid, devices.items(), strict=True):
        metric = next((m for m in METRICS if len({each.budgets.get(m) for each in found}) > 1), found[0].binding)
        look = looks(list(devices))[device]
        budgets, held = ([getattr(each, kind)[metric] for each in found] for kind in ("budgets", "held"))
        shares = [each.validation.accuracy for each in found]
        axes.plot(budgets, shares, drawstyle="steps-post", color=GREY, linewidth=1, label="budgets")
        colours = paints(look, [each.met for each in found])
        label = f"networks, by {found[0].held_by[metric]}, n = {len(found)}"
        axes.scatter(held, shares, s=26, zorder=3, marker=look.marker, label=label, **colours)
        if max(budgets) > WIDE * min(budgets):
            axes.set_xscale("log")
            plain_numbers(axes.xaxis)
        axes.set_xlabel(QUANTITIES[metric])
    name_rows(grid, "validation accuracy, share")
    legend_outside(figure, grid[0])
    return figure


@style()
def plot_pruning(run: Run) -> Figure:
    """How many choices each device had lost by each step of training, from pruning log, with how many for what.

    Those that lost in the end, when the network was chosen, are left out.
    """
    pruned = run.prunes[~run.prunes["reason"].isin(CHOSEN_LAST)]
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
        counts = [0, *gone, gone.iloc[-1] if len(gone) else 0]
        axes.plot([0, *gone.index, last], counts, drawstyle="steps-post", markersize=4, **vars(look))
        axes.set_title(f"{device}\n{reasons or 'none'}", loc="left")
        axes.set_xlabel("step of training")
    grid[0].set_ylim(0, None)  # of all, now that each has its line
    name_rows(grid, "choices pruned so far")
    return figure


@style()
def plot_alphas(run: Run, *, device: str | None = None) -> Figure:
    """Probabilities over the epochs on `device`, or on all side by side: a row per choice, decisions parted. Of many
    choices, a row per decision: of the choice that is likeliest in the end, by the mean of these devices.

    Raises: InvalidInputError if the run has no such device.
    """
    alphas = run.alphas
    if alphas is None or not len(alphas.epoch):
        figure, (axes,) = panels([device or ""])
        say(axes, "no alphas.npz: no epoch has ended yet")
        return figure
    if device not in (None, *alphas.device):
        raise InvalidInputError(f"{run.path} has no device {device!r}; its devices: {', '.join(alphas.device)}")
    devices = alphas.device if device is None else (device,)
    weights_EDN = alphas.weights[:, [alphas.device.index(device) for device in devices]]
    rows, inches, label = np.arange(len(alphas.choice)), CELL_INCHES, "probability of the choice"
    if is_large := len(rows) > MOST_CHOICES:
        last = pd.Series(weights_EDN[-1].mean(axis=0)).groupby(list(alphas.decision), sort=False)
        rows, inches, label = last.idxmax().to_numpy(), DECISION_INCHES, f"{label}, the likeliest in the end"
    per_row = ceil(len(devices) / ceil(len(devices) / MAPS_PER_ROW))
    width = 6 if per_row == 1 else min(3, MAPS_INCHES / per_row)
    figure, grid = panels(devices, width=width, height=max(2.5, inches * len(rows) + 1.2), per_row=per_row)
    for place, axes in enumerate(grid):
        picture = _cells(axes, weights_EDN[:, place, rows], epochs=alphas.epoch)
        parted = [] if is_large else [row for row in rows[1:] if alphas.decision[row] != alphas.decision[row - 1]]
        axes.hlines(np.array(parted) - 0.5, *axes.get_xlim(), color="white", linewidth=0.8)
        axes.title.set_fontsize(8)
        axes.tick_params(axis="y", labelsize=SMALL, left=False)
    grid[0].set_yticks(range(len(rows)), [f"{alphas.decision[row]} = {alphas.choice[row]}" for row in rows])
    figure.colorbar(picture, ax=grid, label=label, location="top", shrink=0.5, aspect=40, pad=0.02)
    return figure


def _cells(axes: Axes, weights_EN: NDArray[np.float32], *, epochs: NDArray[np.int64]) -> AxesImage:
    """Shades of a row for each column of the weights."""
    kept = np.unique(np.linspace(0, len(epochs) - 1, MOST_EPOCHS).round().astype(int))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    return axes.imshow(
        weights_EN[kept].T,
        cmap=matplotlib.colormaps[HEAT].resampled(SHADES),
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="none",  # an SVG file then has a pixel for each cell, and not for each dot
        extent=(float(epochs[0]) - 0.5, float(epochs[-1]) + 0.5, weights_EN.shape[1] - 0.5, -0.5),
    )
