"""The picture of a comparison."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from trainers.analysis.canvas import legend_outside, looks, name_rows, panels, say, style

APART = 0.08  # of the places of seeds beside one another
WIDTH_INCHES, ARM_INCHES = 2.0, 0.5  # of a panel: what it takes by itself, and for each arm


@style()
def plot_comparison(runs: pd.DataFrame) -> Figure:
    """Regret of each arm's networks where the runs of `comparison_runs` have one, else their test accuracy.

    A panel per device, a point per seed; beside them the mean, with one deviation up and down.
    """
    kind = "regret" if runs["regret"].notna().any() else "test"
    devices, arms = list(dict.fromkeys(runs["device"])), list(dict.fromkeys(runs["arm"]))
    figure, grid = panels(devices, width=WIDTH_INCHES + ARM_INCHES * len(arms))
    if runs.empty:
        say(grid[0], "no finished run")
        return figure
    for axes, device in zip(grid, devices, strict=True):
        for place, (arm, look) in enumerate(looks(arms).items()):
            own = runs[(runs["device"] == device) & (runs["arm"] == arm)]
            values = own[kind].astype(float).dropna()
            seeds = np.arange(len(values)) - (len(values) - 1) / 2
            axes.scatter(
                place - 0.2 + APART * seeds, values, s=18, alpha=0.7, label=f"{arm}, n = {len(values)}", **vars(look)
            )
            if len(values):
                error = values.std() if len(values) > 1 else None
                axes.errorbar(place + 0.2, values.mean(), yerr=error, capsize=3, markersize=7, **vars(look))
        axes.set_xticks(range(len(arms)), arms, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, len(arms) - 0.4)
    name_rows(grid, "regret, points" if kind == "regret" else "test accuracy, share")
    legend_outside(figure, grid[0])
    return figure
