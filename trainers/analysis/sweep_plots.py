"""Pictures of several runs: accuracy against cost, progress, agreement across seeds, gaps between accuracies."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from hardware_models.profile import Metric
from search_spaces.errors import InvalidInputError
from trainers.analysis.canvas import (
    CELL_INCHES,
    COLOURS,
    GREY,
    HEAT,
    INK,
    MARKS,
    QUANTITIES,
    Look,
    legend_outside,
    looks,
    mark_rise,
    name_rows,
    paints,
    panel_and_strip,
    panels,
    say,
    style,
)
from trainers.analysis.fronts import pareto
from trainers.analysis.loading import Sweep
from trainers.analysis.seeds import Stability, anytime

STAGES = ("supernet", "inherited", "finetuned", "random")
Accuracy = Literal["validation", "supernet", "inherited", "finetuned", "deployed"]
DARK = 0.55  # of a heat map's scale: below it, text is white


@style()
def plot_pareto(
    table: pd.DataFrame, *, device: str, metric: Metric = "latency_ms", accuracy: Accuracy = "inherited"
) -> Figure:
    """Accuracy against predicted cost of the networks of `device` in a sweep's table, a point per run.

    The line is the front of the networks within budget, those over it are hollow; the bar from a point ends at its
    upper bound, grey lines are budgets. Beside them stands each network over a dash, the best random network within
    the budgets of its run: with `accuracy` inherited alone, as no other compares.
    Raises: InvalidInputError if no run has such a device.
    """
    own = table[(table["device"] == device) & table[f"accuracy_{accuracy}"].notna()]
    if own.empty:
        raise InvalidInputError(
            f"no finished run of device {device!r}; devices: {sorted(set(table['device'].dropna()))}"
        )
    figure = plot_networks(
        own.assign(name=_names(own)).sort_values("name", kind="stable"), metric=metric, accuracy=accuracy
    )
    axes, cost, share = figure.axes[0], f"predicted_{metric}", f"accuracy_{accuracy}"
    axes.set_title(device, loc="left")
    within = own[own["met"].astype(bool)]
    front = within[pareto(within[[cost, share]], maximise=(False, True))].sort_values(cost)
    if len(front):
        line: Any = {"color": "black", "linewidth": 0.8, "marker": "o", "markersize": 9, "fillstyle": "none"}
        axes.step(front[cost], front[share], where="post", label="front", **line)
    legend_outside(figure, axes)
    return figure


@style()
def plot_networks(rows: pd.DataFrame, *, metric: Metric, accuracy: Accuracy) -> Figure:
    """Accuracy against predicted cost, a point per row, which looks as its `name` says; without a legend yet.

    The bar from a point ends at its upper bound, grey lines are budgets, hollow is over one. With `accuracy` inherited
    each stands beside them over a dash, the best random network within its budgets.
    """
    own = rows.assign(met=rows["met"].astype(bool))
    looks_of = looks(list(own["name"].unique()))
    if accuracy == "inherited":
        figure, axes, strip = panel_and_strip("", width=5.8, height=3.6, places=len(own))
        for place, row in enumerate(own.to_dict("records")):
            random, inherited = row["accuracy_random"], row["accuracy_inherited"]
            mark_rise(strip, place, random=random, own=inherited, look=looks_of[row["name"]], filled=row["met"])
        strip.set_xlabel("each beside\nits random")
        axes.plot([], [], color=GREY, linewidth=2, label="random, same budgets")
    else:
        figure, (axes,) = panels([""], width=5.5, height=3.6)
    cost, share = f"predicted_{metric}", f"accuracy_{accuracy}"
    for name, named in own.groupby("name", sort=False):
        look = looks_of[str(name)]
        axes.hlines(named[share], named[cost], named[f"upper_{metric}"], color=look.color, linewidth=0.8, alpha=0.6)
        label, colours = f"{name}, n = {len(named)}", paints(look, named["met"])
        axes.scatter(named[cost], named[share], label=label, s=26, zorder=3, marker=look.marker, **colours)
    if not own["met"].all():
        axes.plot([], [], linestyle="none", marker="o", color=GREY, fillstyle="none", label="hollow: over a budget")
    for budget in sorted(set(own[f"budget_{metric}"].dropna())):
        axes.axvline(budget, color=GREY, linewidth=1)
        at: Any = {"xycoords": ("data", "axes fraction"), "rotation": 90}
        axes.annotate(f" budget {budget:g}", (budget, 0), fontsize=8, color=GREY, **at)
    axes.set(xlabel=f"{QUANTITIES[metric]} (predicted, to its upper bound)")
    axes.set_ylabel(f"accuracy, share ({accuracy})")
    return figure


@style()
def plot_anytime(sweep: Sweep, *, against: Literal["step", "seconds"] = "step") -> Figure:
    """Best validation accuracy so far against steps, or seconds, of training: mean over seeds, one deviation around it.

    Searches that differ in more than the seed are lines of their own; each ends where the shortest of its runs does.
    More than seven of them have the look of their strategy.
    """
    figure, (axes,) = panels([""], width=6, height=3.4)
    groups = {label: [run for run in runs if len(run.metrics)] for label, runs in sweep.searches.items()}
    rows = [(label, runs[0].config["strategy"]["name"], len(runs)) for label, runs in groups.items() if runs]
    searches = pd.DataFrame(rows, columns=["search", "strategy", "seeds"])
    names = _names(searches)
    looks_of, counts = looks(sorted(names.unique())), searches["seeds"].groupby(names).sum().to_dict()
    for name, search in zip(names, searches["search"], strict=True):
        look = looks_of[name]
        label = f"{name}, n = {counts.pop(name)}" if name in counts else None  # once in the legend
        steps = pd.concat([anytime(run) for run in groups[search]]).groupby("step")
        of_all = steps.size() == len(groups[search])
        means = steps.mean()[of_all].reset_index()
        mean, x = means["best_accuracy"], means[against]
        deviation = steps["best_accuracy"].std()[of_all].fillna(0).to_numpy()
        axes.plot(x, mean, label=label, markersize=3.5, markevery=max(1, len(mean) // MARKS), **vars(look))
        axes.fill_between(x, mean - deviation, mean + deviation, color=look.color, alpha=0.18, linewidth=0)
    if searches.empty:
        say(axes, "no epoch has ended yet")
        return figure
    axes.set(xlabel="step of training" if against == "step" else "seconds of training steps, mean over seeds")
    axes.set_ylabel("best validation accuracy so far, share")
    legend_outside(figure, axes)
    return figure


@style()
def plot_gap(table: pd.DataFrame) -> Figure:
    """Test accuracy of each network in a sweep's table: inside the supernet, with its own batch-norm statistics,
    fine-tuned; and of the best random network, weights inherited. A point per run, a bar at their mean.
    """
    done = table[table["accuracy_finetuned"].notna()]
    figure, grid = panels(list(dict.fromkeys(done["device"])))
    if done.empty:
        say(grid[0], "no finished run")
        return figure
    for axes, name, look, shift, own in _searches_by_device(done, grid, apart=0.22):
        for place, stage in enumerate(STAGES):
            shares = own[f"accuracy_{stage}"]
            label = f"{name}, n = {len(own)}" if place == 0 else None
            axes.scatter([place + shift] * len(own), shares, s=18, label=label, alpha=0.8, **vars(look))
            axes.hlines(shares.mean(), place + shift - 0.09, place + shift + 0.09, color=look.color)
        axes.set_xticks(range(len(STAGES)), STAGES)
    name_rows(grid, "test accuracy, share")
    legend_outside(figure, grid[0])
    return figure


@style()
def plot_stability(stability: Stability) -> Figure:
    """Agreement of each decision across seeds, a mark per search, with chance as a grey tick."""
    decisions = stability.decisions
    names = list(dict.fromkeys(decisions.sort_values("place")["decision"]))
    figure, grid = panels(list(dict.fromkeys(decisions["device"])), height=max(2.5, CELL_INCHES * len(names) + 0.9))
    if decisions.empty:
        say(grid[0], "no search has two seeds")
        return figure
    for axes, (device, own) in zip(grid, decisions.groupby("device", sort=False), strict=True):
        axes.scatter(own["chance"], own["decision"].map(names.index), marker="|", s=60, color=GREY, label="chance")
        means = own["agreement"].groupby(_names(decisions)).mean()
        axes.set_title(f"{device}\nmean " + ", ".join(f"{mean:.2f}" for mean in means), loc="left")
        axes.set(xlabel="pairs of seeds that chose alike, share", xlim=(-0.05, 1.05))
    for axes, name, look, shift, own in _searches_by_device(decisions, grid, apart=0.3):
        axes.scatter(own["agreement"], own["decision"].map(names.index) + shift, s=16, label=name, **vars(look))
    legend_outside(figure, grid[0])
    grid[0].set_yticks(range(len(names)), names)
    grid[0].invert_yaxis()
    return figure


def _searches_by_device(
    rows: pd.DataFrame, grid: Sequence[Axes], *, apart: float
) -> Iterator[tuple[Axes, str, Look, float, pd.DataFrame]]:
    """The rows of each search on each device: the panel of the device, and name, look and place beside others."""
    names = _names(rows)
    looks_of = looks(sorted(names.unique()))
    for axes, device in zip(grid, dict.fromkeys(rows["device"]), strict=True):
        for number, (name, look) in enumerate(looks_of.items()):
            shift = (number - (len(looks_of) - 1) / 2) * apart  # marks on one another would hide
            yield axes, name, look, shift, rows[(rows["device"] == device) & (names == name)]


@style()
def plot_transfer(transfer: pd.DataFrame) -> Figure:
    """What `transfer` gives, as a matrix: the network of each row on the device of each column, its upper bound as a
    share of the tightest budget, or what is predicted where budgets hold that. Above 1 it does not fit.
    """
    devices = list(dict.fromkeys(transfer["device"]))
    figure, (axes,) = panels([""], width=1.6 + 1.3 * max(1, len(devices)), height=1.8 + 0.5 * len(devices))
    if not devices:
        say(axes, "no result with other devices")
        return figure
    cells = transfer.pivot(index="network", columns="device").loc[devices]
    shares, fits = (cells[key][devices].to_numpy() for key in ("utilisation", "within"))
    words = np.where(fits.astype(bool), "fits", "too expensive")
    texts = [f"{share:.2f}\n{word}" for share, word in zip(shares.flat, words.flat, strict=True)]
    _matrix(axes, np.clip(shares, 0, 2) / 2, texts, low=0)
    accuracy = transfer.groupby("network")["accuracy"].first()
    axes.set_yticks(range(len(devices)), [f"{name}\naccuracy {accuracy[name]:.3f}" for name in devices])
    axes.set_xticks(range(len(devices)), devices, rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlabel="on this device:\nshare of its tightest budget", ylabel="network of")
    return figure


@style()
def plot_device_correlation(latencies: pd.DataFrame) -> Figure:
    """Spearman's rank correlation between the devices in the columns of `latencies`, over the networks in its rows."""
    correlation = latencies.corr(method="spearman").to_numpy()
    devices = [str(name) for name in latencies.columns]
    size = 1.8 + 0.6 * len(devices)
    figure, (axes,) = panels([f"n = {len(latencies)} networks"], width=size + 0.6, height=size)
    texts = [f"{value:.2f}" for value in correlation.flat]
    picture = _matrix(axes, correlation, texts, low=min(0.0, float(correlation.min())))
    axes.set_yticks(range(len(devices)), devices)
    axes.set_xticks(range(len(devices)), devices, rotation=30, ha="right", rotation_mode="anchor")
    figure.colorbar(picture, ax=axes, label="Spearman's rank correlation of latency", shrink=0.8)
    return figure


def _matrix(axes: Axes, shares: NDArray[Any], texts: Sequence[str], *, low: float) -> AxesImage:
    """A heat map of shares from `low` to 1, with a text in each cell, which is white on a dark ground."""
    axes.tick_params(length=0)
    for ((row, column), share), text in zip(np.ndenumerate(shares), texts, strict=True):
        colour = "white" if share - low < DARK * (1 - low) else INK
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    return axes.imshow(shares, cmap=HEAT, vmin=low, vmax=1, aspect="auto")


def _names(rows: pd.DataFrame) -> "pd.Series[str]":
    """What a legend calls each row: its search, or its strategy where there are more than a legend has room for."""
    return rows["search"] if rows["search"].nunique() <= len(COLOURS) else rows["strategy"]
