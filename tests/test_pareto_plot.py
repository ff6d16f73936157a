"""Accuracy against cost of a sweep: the front, budgets, and each run beside the random result of its own budgets."""

import pandas as pd
import pytest

from search_spaces.errors import InvalidInputError
from tests.test_analysis_plots import TABLE, lines, marks, network, panel, table, texts
from trainers.analysis import plot_pareto


def test_pareto_shows_runs_and_their_front() -> None:
    axes = panel(plot_pareto(TABLE, device="phone"))
    assert marks(axes)["pool, n = 2"].tolist() == [[10, 0.9], [12, 0.8]]
    assert marks(axes)["random, n = 1"].tolist() == [[8, 0.8]]
    assert lines(axes)["front"].tolist() == [[8, 0.8], [10, 0.9]]
    assert axes.get_xlabel() == "latency, ms (predicted, to its upper bound)"


def test_each_run_stands_beside_the_random_result_within_its_own_budgets() -> None:
    tight = TABLE.assign(budget_latency_ms=[20.0, 14.0, 9.0])
    main, strip = plot_pareto(tight, device="phone").axes
    assert {"budget 20", "budget 14", "budget 9"} == {text.strip() for text in texts(main)}
    assert not [points for points in lines(main).values() if 0.75 in points[:, 1]]  # no mean of unlike runs
    rises, dashes = (
        [c.get_segments()[0] for c in strip.collections if hasattr(c, "get_segments")][start::2] for start in (0, 1)
    )
    for place, (random, own) in enumerate(((0.7, 0.9), (0.75, 0.8), (0.8, 0.8))):
        assert rises[place].tolist() == [[place, random], [place, own]]
        assert set(dashes[place][:, 1]) == {random}


def test_other_accuracies_than_inherited_stand_beside_no_random_one() -> None:
    assert len(plot_pareto(TABLE, device="phone", accuracy="finetuned").axes) == 1


def test_a_network_over_budget_is_hollow_and_no_part_of_the_front() -> None:
    over = pd.concat([TABLE, table([network("pool", 2, 5, 0.95, 0.7) | {"met": False}])], ignore_index=True)
    figure = plot_pareto(over, device="phone")
    main, strip = figure.axes
    assert lines(main)["front"].tolist() == [[8, 0.8], [10, 0.9]]
    pool = next(dots for dots in main.collections if dots.get_label() == "pool, n = 3")
    assert marks(main)["pool, n = 3"].tolist() == [[10, 0.9], [12, 0.8], [5, 0.95]]
    assert [bool(alpha) for alpha in pool.get_facecolors()[:, 3]] == [True, True, False]
    full = [bool(dots.get_facecolors()[0, 3]) for dots in strip.collections if dots.get_offsets().any()]
    assert full == [True, True, False, True]
    assert "hollow: over a budget" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_pareto_of_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"no finished run of device 'tablet'; devices: \['phone'\]"):
        plot_pareto(TABLE, device="tablet")


def test_a_legend_of_long_words_leaves_the_panel_its_room() -> None:
    words = "iot_terminal.budgets.latency_ms=12 mid_tablet.budgets.latency_ms=24"
    table = pd.concat([TABLE.assign(search=f"lr={number} {words}") for number in range(7)])
    for draw, reported in ((TABLE, 2), (table, 7)):
        figure = plot_pareto(draw, device="phone")
        figure.draw_without_rendering()
        legend = figure.legends[0].get_window_extent()
        assert len(figure.legends[0].get_texts()) == reported + 2  # and the front, and the random ones
        assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0
        assert panel(figure).get_window_extent().height / figure.dpi > 2  # inches
