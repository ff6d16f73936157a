"""Pictures of what a latency model is worth: predictions beside measurements."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainers.analysis.canvas import COLOURS, GREY, looks, panels, plain_numbers, style

NEAR = 0.2  # relative error that a band marks: what the field calls a usable latency model


@style()
def plot_predicted_against_measured(
    rows: pd.DataFrame, *, bound: float | None = None, named: Collection[str] = ()
) -> Figure:
    """`measured_ms` against `predicted_ms` on logarithmic axes, a mark per `kind` if there is such a column.

    The line is equality, the band 20 % around it, the broken line `bound` times the prediction. Points of the rows
    whose `name` is in `named` carry it.
    """
    figure, (axes,) = panels([f"n = {len(rows)}"], width=5, height=4.2)
    both = rows[["predicted_ms", "measured_ms"]].to_numpy()
    ends = np.array([both.min() / 1.3, both.max() * 1.3])
    axes.fill_between(ends, ends * (1 - NEAR), ends * (1 + NEAR), color="0.92", label=f"within {NEAR:.0%}")
    axes.plot(ends, ends, color=GREY, linewidth=1)
    kinds = rows["kind"] if "kind" in rows else pd.Series("networks", index=rows.index)
    for kind, look in looks(sorted(kinds.unique())).items():
        own = rows[kinds == kind]
        label = f"{kind}, n = {len(own)}"
        axes.scatter(own["predicted_ms"], own["measured_ms"], s=16, alpha=0.8, label=label, **vars(look))
    if bound is not None:
        axes.plot(ends, bound * ends, color=GREY, linewidth=1, linestyle="--", label=f"bound, {bound:.3g}")
    for row in rows[rows["name"].isin(named)].to_dict("records") if named else ():
        place = row["predicted_ms"], row["measured_ms"]
        axes.annotate(row["name"][:40], place, (4, -3), textcoords="offset points", fontsize=7)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="predicted, ms", ylabel="measured, ms")
    for axis in (axes.xaxis, axes.yaxis):
        plain_numbers(axis)
    axes.legend(loc="upper left")
    return figure


@style()
def plot_residuals_by_operation(rows: pd.DataFrame) -> Figure:
    """Measured over predicted latency of single operations, by `kind`: a point each, a bar at the median."""
    medians = (rows["measured_ms"] / rows["predicted_ms"]).groupby(rows["kind"]).median().sort_values()
    figure, (axes,) = panels([""], width=6, height=1.2 + 0.4 * len(medians))
    for place, kind in enumerate(medians.index):
        own = rows[rows["kind"] == kind]
        ratios = own["measured_ms"] / own["predicted_ms"]
        spread = np.linspace(-0.18, 0.18, len(ratios)) if len(ratios) > 1 else [0.0]
        axes.scatter(ratios, place + np.asarray(spread), s=14, color=COLOURS[0], alpha=0.7)
        axes.vlines(medians[kind], place - 0.3, place + 0.3, color=COLOURS[1], linewidth=2)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    counts = rows["kind"].value_counts()
    axes.set_yticks(range(len(medians)), [f"{kind}, n = {counts[kind]}" for kind in medians.index])
    axes.set_xlabel("measured over predicted latency (right of 1: slower than predicted)")
    return figure
