"""Plots of a report: what they show of a result, that no legend covers it, and that a page of many devices is small."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from tests.reported_runs import searched
from tests.test_analysis_plots import TABLE, lines, marks, panel
from trainers.analysis import plot_alphas, plot_costs, plot_gap, plot_pareto, plot_pruning
from trainers.analysis.loading import Run, load_run
from trainers.reporting.plots import plot_candidates, plot_inside, plot_latency


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(searched(tmp_path_factory.mktemp("runs"), "seed=0"))


def devices_of(run: Run, **changes: Any) -> dict[str, dict[str, Any]]:
    assert run.result is not None
    return {name: {**device, **changes} for name, device in run.result["devices"].items()}


def drawn(run: Run) -> dict[str, Callable[[], Figure]]:
    return {
        "latency": lambda: plot_latency(devices_of(run)),
        "candidates": lambda: plot_candidates(devices_of(run)),
        "costs": lambda: plot_costs(run),
        "pruning": lambda: plot_pruning(run),
        "inside": lambda: plot_inside(run),
        "beliefs": lambda: plot_alphas(run),
        "pareto": lambda: plot_pareto(TABLE, device="phone"),
        "gap": lambda: plot_gap(TABLE),
    }


def test_no_legend_of_a_report_covers_a_panel(run: Run) -> None:
    for name, draw in drawn(run).items():
        figure = draw()
        figure.draw_without_rendering()
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
        boxes = [legend.get_window_extent() for legend in legends if legend is not None]
        assert not [1 for box in boxes for axes in figure.axes if box.overlaps(axes.get_window_extent())], name


def test_the_random_result_stands_at_no_latency_that_is_not_its_own(run: Run) -> None:
    devices = devices_of(run)
    for number, device in enumerate(devices.values()):
        device["accuracy"] = {**device["accuracy"], "random": 0.111 + number}
    main, strip = plot_latency(devices).axes
    points = [segment for c in main.collections if hasattr(c, "get_segments") for segment in c.get_segments()]
    points += [dots.get_offsets() for dots in main.collections] + list(lines(main).values())
    assert not [1 for place in points for y in np.asarray(place)[:, 1] if y in (0.111, 1.111)]
    dashes = [c.get_segments()[0] for c in strip.collections if hasattr(c, "get_segments")][1::2]
    assert [dash[:, 1].tolist() for dash in dashes] == [[0.111, 0.111], [1.111, 1.111]]
    assert "random" in strip.get_xlabel()


def test_a_device_has_one_look_in_all_plots_of_a_run(run: Run) -> None:
    last = list(run.devices["device"])[-1]
    alone = replace(run, prunes=run.prunes.assign(reason="budget")[run.prunes["device"] == last])
    latency = next(dots for dots in panel(plot_latency(devices_of(run))).collections if dots.get_label() == last)
    pruning = plot_pruning(alone).axes[-1]
    assert pruning.get_title("left").startswith(last)
    assert pruning.lines[0].get_color().lower() == to_hex(latency.get_facecolors()[0])


@pytest.mark.parametrize(("margin", "told"), [("upper", "by the upper bound"), ("point", "by the estimate")])
def test_shares_of_candidates_are_named_after_the_figure_that_budgets_hold(run: Run, margin: str, told: str) -> None:
    measured = {"latency_ms": 1.0}  # of the network taken; that of no candidate
    axes = panel(plot_candidates(devices_of(run, margin=margin, measured=measured)))
    assert axes.get_xlabel() == f"share of the tightest budget,\n{told}"
    rows = devices_of(run)[axes.get_title("left").partition("\n")[0]]["candidates"]
    assert marks(axes)["candidates"][:, 0].tolist() == [row["utilisation"] for row in rows]
