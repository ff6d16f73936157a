"""Pictures of several runs: accuracy against cost, progress, agreement across seeds, gaps between accuracies."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hardware_models.profile import Metric
from search_spaces.errors import InvalidInputError
from trainers.analysis.canvas import (
    CELL_INCHES,
    COLOURS,
    GREY,
    HEAT,
    QUANTITIES,
    legend_outside,
    looks,
    name_rows,
    panels,
    say,
    style,
    write_cells,
)
from trainers.analysis.fronts import pareto
from trainers.analysis.loading import Sweep
from trainers.analysis.seeds import Stability, anytime, by_settings, labels_of

STAGES = ("supernet", "inherited", "finetuned", "random")
Accuracy = Literal["validation", "supernet", "inherited", "finetuned"]
TITLE_LETTERS = 40  # of a line above a panel
DARK = 0.55  # of a heat map's scale: below it, text is white


@style()
def plot_pareto(
    table: pd.DataFrame, *, device: str, metric: Metric = "latency_ms", accuracy: Accuracy = "inherited"
) -> Figure:
    """Accuracy against predicted cost of the networks of `device` in a sweep's table, a point per run.

    The line is the front of all runs; the dashes are the random baseline, the mean accuracy of the best random network
    within the same budgets, weights inherited; the bar from a point ends at its upper bound, and the grey line is the
    budget. Raises: InvalidInputError if no run has such a device.
    """
    own = table[(table["device"] == device) & table[f"accuracy_{accuracy}"].notna()]
    if own.empty:
        raise InvalidInputError(
            f"no finished run of device {device!r}; devices: {sorted(set(table['device'].dropna()))}"
        )
    figure, (axes,) = panels([device], width=5.5, height=3.6)
    names = _names(own)
    for name, look in looks(sorted(names.unique())).items():
        named = own[names == name]
        costs, bounds, shares = (
            named[key] for key in (f"predicted_{metric}", f"upper_{metric}", f"accuracy_{accuracy}")
        )
        axes.hlines(shares, costs, bounds, color=look.color, linewidth=0.8, alpha=0.6)
        axes.scatter(
            costs, shares, label=f"{name}, n = {len(costs)}", s=26, zorder=3, color=look.color, marker=look.marker
        )
    front = own[pareto(own[[f"predicted_{metric}", f"accuracy_{accuracy}"]], maximise=(False, True))]
    front = front.sort_values(f"predicted_{metric}")
    axes.step(
        front[f"predicted_{metric}"],
        front[f"accuracy_{accuracy}"],
        where="post",
        color="black",
        linewidth=0.8,
        label="front",
    )
    axes.axhline(own["accuracy_random"].mean(), color=GREY, linestyle="--", linewidth=1, label="random baseline")
    for budget in sorted(set(own[f"budget_{metric}"].dropna())):
        axes.axvline(budget, color=GREY, linewidth=1)
        axes.annotate(" budget", (budget, 0), xycoords=("data", "axes fraction"), fontsize=8, color=GREY, rotation=90)
    axes.set(xlabel=f"{QUANTITIES[metric]} (predicted, to its upper bound)")
    axes.set_ylabel(f"accuracy, share ({accuracy})")
    legend_outside(figure, axes)
    return figure


@style()
def plot_anytime(sweep: Sweep, *, against: Literal["step", "seconds"] = "step") -> Figure:
    """Best validation accuracy so far against steps, or seconds, of training: mean over seeds, one deviation around it.

    Searches that differ in more than the seed are lines of their own; each ends where the shortest of its runs does.
    More of them than there are looks have the look of their strategy.
    """
    figure, (axes,) = panels([""], width=6, height=3.4)
    groups = {settings: [run for run in runs if len(run.metrics)] for settings, runs in by_settings(sweep).items()}
    groups = {settings: runs for settings, runs in groups.items() if runs}
    labels = labels_of(sweep)
    rows = [(labels[s], runs[0].config["strategy"]["name"], len(runs)) for s, runs in groups.items()]
    searches = pd.DataFrame(rows, columns=["search", "strategy", "seeds"])
    names = _names(searches)
    looks_of, counts = looks(sorted(names.unique())), searches["seeds"].groupby(names).sum().to_dict()
    for name, runs in zip(names, groups.values(), strict=True):
        look = looks_of[name]
        told = f"{name}, n = {counts.pop(name)}" if name in counts else None  # once in the legend
        joined = pd.concat(
            [anytime(run).set_index("step") for run in runs], axis=1, join="inner", keys=range(len(runs))
        )
        best = joined.xs("best_accuracy", axis=1, level=1).to_numpy()
        mean, deviation = best.mean(axis=1), best.std(axis=1, ddof=min(1, len(runs) - 1))
        seconds = joined.xs("seconds", axis=1, level=1).to_numpy().mean(axis=1)
        x = joined.index.to_numpy() if against == "step" else seconds
        axes.plot(x, mean, label=told, markersize=3.5, color=look.color, marker=look.marker)
        axes.fill_between(x, mean - deviation, mean + deviation, color=look.color, alpha=0.18, linewidth=0)
    if not groups:
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
    devices = list(dict.fromkeys(done["device"]))
    figure, grid = panels(devices)
    if not devices:
        say(grid[0], "no finished run")
        return figure
    names = _names(done)
    looks_of = looks(sorted(names.unique()))
    for axes, device in zip(grid, devices, strict=True):
        for number, (name, look) in enumerate(looks_of.items()):
            own = done[(done["device"] == device) & (names == name)]
            shift = (number - (len(looks_of) - 1) / 2) * 0.22
            for place, stage in enumerate(STAGES):
                shares = own[f"accuracy_{stage}"]
                told = f"{name}, n = {len(own)}" if place == 0 else None
                axes.scatter(
                    [place + shift] * len(own),
                    shares,
                    s=18,
                    label=told,
                    alpha=0.8,
                    color=look.color,
                    marker=look.marker,
                )
                axes.hlines(shares.mean(), place + shift - 0.09, place + shift + 0.09, color=look.color)
        axes.set_xticks(range(len(STAGES)), STAGES)
    name_rows(grid, "test accuracy, share")
    legend_outside(figure, grid[0])
    return figure


@style()
def plot_stability(stability: Stability) -> Figure:
    """Agreement of each decision across seeds, a mark per search, with chance as a grey tick."""
    decisions = stability.decisions
    devices = list(dict.fromkeys(decisions["device"]))
    names = list(dict.fromkeys(decisions.sort_values("place")["decision"]))
    figure, grid = panels(devices, height=max(2.5, CELL_INCHES * len(names) + 0.9))
    if not devices:
        say(grid[0], "no search has two seeds")
        return figure
    named = _names(decisions)
    looks_of = looks(sorted(named.unique()))
    for axes, device in zip(grid, devices, strict=True):
        own = decisions[decisions["device"] == device]
        rows_of = own["decision"].map(names.index)
        axes.scatter(own["chance"], rows_of, marker="|", s=60, color=GREY, label="chance")
        for number, (label, look) in enumerate(looks_of.items()):
            is_label = named[own.index] == label
            shift = (number - (len(looks_of) - 1) / 2) * 0.3  # marks on one another would hide
            shares, rows = own["agreement"][is_label], rows_of[is_label] + shift
            axes.scatter(shares, rows, s=16, label=label, color=look.color, marker=look.marker)
        means = own["agreement"].groupby(named[own.index]).mean()
        told = "mean: " + ", ".join(f"{label} {mean:.2f}" for label, mean in means.items())
        if len(told) > TITLE_LETTERS:
            told = "means, as below: " + ", ".join(f"{mean:.2f}" for mean in means)
        axes.set_title(f"{device}\n{told}", loc="left")
        axes.set(xlabel="pairs of seeds that chose alike, share", xlim=(-0.05, 1.05))
    legend_outside(figure, grid[0])
    grid[0].set_yticks(range(len(names)), names)
    grid[0].invert_yaxis()
    return figure


@style()
def plot_transfer(transfer: pd.DataFrame) -> Figure:
    """What `transfer` gives, as a matrix: the network of each row on the device of each column, its upper bound as a
    share of the tightest budget. Above 1 it does not fit.
    """
    networks, devices = (list(dict.fromkeys(transfer[key])) for key in ("network", "device"))
    if not devices:
        figure, (axes,) = panels([""])
        say(axes, "no result that tells of other devices")
        return figure
    shares = transfer.pivot(index="network", columns="device", values="utilisation").loc[networks, devices].to_numpy()
    fits = transfer.pivot(index="network", columns="device", values="within").loc[networks, devices].to_numpy()
    accuracy = transfer.groupby("network")["accuracy"].first()
    figure, (axes,) = panels([""], width=1.6 + 1.3 * len(devices), height=1.6 + 0.5 * len(networks))
    shade = np.clip(np.nan_to_num(shares, nan=0.0), 0, 2) / 2
    axes.imshow(shade, cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    words = {True: "fits", False: "too dear"}
    texts = [
        ["unknown" if np.isnan(share) else f"{share:.2f}\n{words[bool(fit)]}" for share, fit in zip(*rows, strict=True)]
        for rows in zip(shares, fits, strict=True)
    ]
    write_cells(axes, texts, light=shade < DARK)
    _name_axes(axes, [f"{name}\naccuracy {accuracy[name]:.3f}" for name in networks], devices)
    axes.set(xlabel="on this device: share of its tightest budget, predicted", ylabel="network of")
    return figure


@style()
def plot_device_correlation(latencies: pd.DataFrame) -> Figure:
    """Spearman's rank correlation between the devices in the columns of `latencies`, over the networks in its rows."""
    correlation = latencies.corr(method="spearman").to_numpy()
    devices = [str(name) for name in latencies.columns]
    size = 1.8 + 0.6 * len(devices)
    figure, (axes,) = panels([f"n = {len(latencies)} networks"], width=size + 0.6, height=size)
    low = min(0.0, float(correlation.min()))
    picture = axes.imshow(correlation, cmap=HEAT, vmin=low, vmax=1)
    texts = [[f"{value:.2f}" for value in row] for row in correlation]
    write_cells(axes, texts, light=(correlation - low) / (1 - low) < DARK)
    _name_axes(axes, devices, devices)
    figure.colorbar(picture, ax=axes, label="Spearman's rank correlation of latency", shrink=0.8)
    return figure


def _names(rows: pd.DataFrame) -> "pd.Series[str]":
    """What a legend calls each row: its search, or its strategy where there are more searches than looks."""
    return rows["search"] if rows["search"].nunique() <= len(COLOURS) else rows["strategy"]


def _name_axes(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
