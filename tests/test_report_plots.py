"""Plots of a report: what they show of a result, that no legend covers it, and that a page of many devices is small."""

import io
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from hardware_models.profile import METRICS
from tests.reported_runs import searched
from tests.test_analysis_plots import TABLE, lines, marks, panel
from trainers.analysis import Alphas, plot_alphas, plot_costs, plot_gap, plot_pareto, plot_pruning
from trainers.analysis.canvas import panels
from trainers.analysis.loading import Run, load_run
from trainers.reports.plots import MOST_POINTS, plot_candidates, plot_inside, plot_latency, themed_svg
from trainers.runs import metric_names


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


def test_a_long_legend_leaves_the_plots_inside_a_search_their_height(run: Run) -> None:
    heights = []
    for operations in ("", "abcdef"):
        shares = {metric_names.share(operation): 0.1 for operation in operations}
        figure = plot_inside(replace(run, metrics=run.metrics.assign(**shares)))
        figure.draw_without_rendering()
        heights.append(panel(figure).get_window_extent().height / figure.dpi)
    assert min(heights) > 1.5 and heights[1] == pytest.approx(heights[0], rel=0.1)  # inches; letters are not whole


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


def test_plots_in_a_page_share_no_id_and_refer_to_their_own(run: Run) -> None:
    page = "".join(themed_svg(draw(), name=name, words=f"<{name}>") for name, draw in drawn(run).items())
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids)) > 20
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', page)) == set(ids)
    assert "&lt;pareto&gt;" in page and "<pareto>" not in page
    assert "#0072b2" not in page and "var(--plot-0)" in page  # the page's colours


def test_a_plot_in_a_page_has_every_mark_and_word_of_its_figure(run: Run) -> None:
    for name, draw in drawn(run).items():
        svg = themed_svg(draw(), name=name, words="words")
        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            draw().savefig(buffer, format="svg")
        for pattern in ("<text[^>]*>([^<]*)</text>", "<(use|image) "):
            assert re.findall(pattern, svg) == re.findall(pattern, buffer.getvalue()), name


def test_the_heat_map_of_a_page_has_the_pixels_of_its_figure(run: Run) -> None:
    figure = plot_alphas(run)
    svg = themed_svg(figure, name="beliefs", words="words")
    found = [Image.open(io.BytesIO(b64decode(data))) for data in re.findall(r'base64,([^"]*)"', svg)]
    assert len(found) == len(run.devices)
    for picture, axes in zip(found, figure.axes, strict=False):
        cells = axes.images[0]
        expected = cells.to_rgba(cells.get_array(), bytes=True)[..., :3]
        assert np.array_equal(np.asarray(picture.convert("RGB")), expected)


def test_a_long_line_keeps_its_ends_and_fewer_points() -> None:
    figure, (axes,) = panels([""])
    axes.plot(range(1000), np.sin(range(1000)))
    themed_svg(figure, name="long", words="words")
    assert len(axes.lines[0].get_xdata()) == MOST_POINTS
    assert [axes.lines[0].get_xdata()[place] for place in (0, -1)] == [0, 999]


def widened(run: Run, *, num_devices: int, num_epochs: int) -> Run:
    """A run of so many devices, with four budgets each and ten candidates, over so many epochs and 71 decisions."""
    generator = np.random.default_rng(0)
    source = next(iter(devices_of(run).values()))
    rows = [{**(4 * source["candidates"])[place], "utilisation": generator.uniform()} for place in range(10)]
    names = [f"some_device_{number}" for number in range(num_devices)]
    epochs = np.arange(1, num_epochs + 1)
    columns = {"epoch": epochs, "step": 10 * epochs, **{metric_names.met(name): np.ones(num_epochs) for name in names}}
    for column in (metric_names.expected, metric_names.worst, metric_names.budget):
        pairs = product(names, METRICS)
        columns |= {column(name, metric): generator.uniform(0.5, 2, num_epochs) for name, metric in pairs}
    steps = range(10, 10 * num_epochs, 10 * num_epochs // 20)
    pruned = [(step, name, "budget") for step in steps for name in names]
    decisions = [f"stage{number // 16}.block{number % 16}.kernel" for number in range(71)]
    return replace(
        run,
        result={"devices": {name: {**source, "candidates": rows, "random_candidates": rows} for name in names}},
        metrics=pd.DataFrame(columns),
        prunes=pd.DataFrame(pruned, columns=["step", "device", "reason"]),
        devices=pd.DataFrame({"device": names}),
        alphas=Alphas(
            epoch=epochs,
            step=10 * epochs,
            weights=generator.uniform(size=(num_epochs, num_devices, 213)).astype(np.float32),
            device=tuple(names),
            decision=tuple(name for name in decisions for _ in range(3)),
            choice=("3", "5", "7") * 71,
        ),
    )


def test_the_plots_of_twelve_devices_and_200_epochs_take_25_kb_a_device(run: Run) -> None:
    wide = drawn(widened(run, num_devices=12, num_epochs=200))
    names = ("latency", "candidates", "costs", "pruning", "beliefs")
    sizes = {name: len(themed_svg(wide[name](), name=name, words="words").encode()) for name in names}
    assert sum(sizes.values()) <= 12 * 25_000, sizes
