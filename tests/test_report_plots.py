"""Plots of a report: what they show of a result, that no legend covers it, and that a page of many devices is small."""

import io
import re
from base64 import b64decode
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from tests.reported_runs import sampled
from tests.test_analysis_plots import TABLE, lines, marks, panel
from trainers.analysis import plot_alphas, plot_costs, plot_gap, plot_pareto, plot_pruning
from trainers.analysis.loading import Run, load_run
from trainers.reports.plots import plot_candidates, plot_inside, plot_latency, themed_svg
from trainers.runs import metric_names
from trainers.runs.result import DeviceResult


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(sampled(tmp_path_factory.mktemp("runs")))


def devices_of(run: Run, **changes: Any) -> dict[str, DeviceResult]:
    return {name: device.model_copy(update=changes) for name, device in run.device_results.items()}


@pytest.fixture(scope="module")
def figures(run: Run) -> dict[str, Figure]:
    return {
        "latency": plot_latency(run),
        "candidates": plot_candidates(devices_of(run)),
        "costs": plot_costs(run),
        "pruning": plot_pruning(run),
        "inside": plot_inside(run),
        "beliefs": plot_alphas(run),
        "pareto": plot_pareto(TABLE, device="phone"),
        "gap": plot_gap(TABLE),
    }


@pytest.fixture(scope="module")
def pictures(figures: dict[str, Figure]) -> dict[str, str]:
    """The figures as they stand in a page."""
    return {name: themed_svg(figure, name=name, words=f"<{name}>") for name, figure in figures.items()}


def test_no_legend_of_a_report_covers_a_panel(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
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
    shares = [0.111, 0.222]
    main, strip = plot_latency(replace(run, devices=run.devices.assign(accuracy_random=shares))).axes
    points = [segment for c in main.collections if hasattr(c, "get_segments") for segment in c.get_segments()]
    points += [dots.get_offsets() for dots in main.collections] + list(lines(main).values())
    assert not [1 for place in points for y in np.asarray(place)[:, 1] if y in shares]
    dashes = [c.get_segments()[0] for c in strip.collections if hasattr(c, "get_segments")][1::2]
    assert sorted(dash[0, 1] for dash in dashes) == shares


def test_a_device_has_one_look_in_all_plots_of_a_run(run: Run) -> None:
    last = list(run.devices["device"])[-1]
    alone = replace(run, prunes=run.prunes.assign(reason="budget")[run.prunes["device"] == last])
    latency = next(dots for dots in panel(plot_latency(run)).collections if str(dots.get_label()).startswith(last))
    pruning = plot_pruning(alone).axes[-1]
    assert pruning.get_title("left").startswith(last)
    assert pruning.lines[0].get_color().lower() == to_hex(latency.get_edgecolors()[0])


@pytest.mark.parametrize(("margin", "reported"), [("upper", "by the upper bound"), ("point", "by the estimate")])
def test_shares_of_candidates_are_named_after_the_figure_that_budgets_hold(
    run: Run, margin: str, reported: str
) -> None:
    measured = {"latency_ms": 1.0}  # of the network taken; that of no candidate
    axes = panel(plot_candidates(devices_of(run, margin=margin, measured=measured)))
    assert axes.get_xlabel() == f"share of the tightest budget,\n{reported}"
    rows = devices_of(run)[axes.get_title("left").partition("\n")[0]].candidates
    assert marks(axes)["candidates"][:, 0].tolist() == [row.utilisation for row in rows]


def test_plots_in_a_page_share_no_id_and_refer_to_their_own(pictures: dict[str, str]) -> None:
    page = "".join(pictures.values())
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids)) > 20
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', page)) == set(ids)
    assert "&lt;pareto&gt;" in page and "<pareto>" not in page
    assert "#0072b2" not in page and "var(--plot-0)" in page  # the page's colours


def test_a_plot_in_a_page_has_every_mark_and_word_of_its_figure(
    figures: dict[str, Figure], pictures: dict[str, str]
) -> None:
    for name, figure in figures.items():
        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            figure.savefig(buffer, format="svg")
        for pattern in ("<text[^>]*>([^<]*)</text>", "<(use|image) "):
            assert re.findall(pattern, pictures[name]) == re.findall(pattern, buffer.getvalue()), name


def test_the_heat_map_of_a_page_has_the_pixels_of_its_figure(run: Run) -> None:
    figure = plot_alphas(run)
    svg = themed_svg(figure, name="beliefs", words="words")
    found = [Image.open(io.BytesIO(b64decode(data))) for data in re.findall(r'base64,([^"]*)"', svg)]
    assert len(found) == len(run.devices)
    for picture, axes in zip(found, figure.axes, strict=False):
        cells = axes.images[0]
        expected = cells.to_rgba(cells.get_array(), bytes=True)[..., :3]
        assert np.array_equal(np.asarray(picture.convert("RGB")), expected)
