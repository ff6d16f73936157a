"""Pictures hold the numbers that they were given, named with unit and origin, on a ground that every theme shows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from search_spaces.errors import InvalidInputError
from tests.test_analysis_seeds import run_of
from trainers.analysis import (
    Alphas,
    Run,
    Stability,
    Sweep,
    plot_alphas,
    plot_anytime,
    plot_costs,
    plot_device_correlation,
    plot_gap,
    plot_pareto,
    plot_predicted_against_measured,
    plot_pruning,
    plot_residuals_by_operation,
    plot_stability,
    plot_transfer,
)
from trainers.analysis.canvas import looks, panels
from trainers.analysis.devices import TRANSFER_COLUMNS
from trainers.analysis.loading import DEVICE_COLUMNS, RUN_COLUMNS
from trainers.analysis.seeds import DECISION_COLUMNS, SCORE_COLUMNS

PRUNES = pd.DataFrame(
    {
        "step": [5, 5, 8, 10],
        "device": ["phone", "phone", "board", "phone"],
        "decision": ["kernel", "width", "kernel", "kernel"],
        "choice": ["5", "16", "5", "7"],
        "reason": ["budget", "budget", "weak", "validation"],
    }
)
METRICS = pd.DataFrame(
    {
        "epoch": [1, 2],
        "step": [6, 12],
        "hw/phone/latency_ms_expected": [10.0, 5.0],
        "hw/phone/latency_ms_worst": [40.0, 8.0],
        "hw/phone/latency_ms_budget": [20.0, 20.0],
        "hw/phone/met": [0.0, 1.0],
        "val/acc": [0.4, 0.8],
        "time/step_s": [0.5, 0.5],
    }
)
ALPHAS = Alphas(
    epoch=np.array([1, 2]),
    step=np.array([6, 12]),
    weights=np.array([[[0.5, 0.5, 1.0]], [[0.1, 0.9, 1.0]]], dtype=np.float32),
    device=("phone",),
    decision=("kernel", "kernel", "width"),
    choice=("3", "5", "16"),
)
STABILITY = Stability(
    pd.DataFrame(
        [
            ("mobile", "pool", "aa", "pool", "phone", 1, "kernel", 3, 1.0, 0.5),
            ("mobile", "pool", "aa", "pool", "phone", 0, "width", 3, 1 / 3, 0.25),
            ("mobile", "random", "bb", "random", "phone", 0, "width", 3, 0.0, 0.25),
        ],
        columns=list(DECISION_COLUMNS),
    ),
    pd.DataFrame(columns=list(SCORE_COLUMNS)),
)
TRANSFER = pd.DataFrame(
    [
        ("phone", "phone", 0.9, 8.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 0.9, True),
        ("phone", "board", 0.9, 80.0, 1.0, 1.0, 1.0, 1.0, 1.0, 90.0, 1.8, False),
        ("board", "phone", 0.8, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0, 3.0, 0.3, True),
        ("board", "board", 0.8, 20.0, 0.5, 1.0, 1.0, 1.0, 1.0, 30.0, 0.6, True),
    ],
    columns=list(TRANSFER_COLUMNS),
)
ROWS = pd.DataFrame(
    {
        "name": list("abcd"),
        "predicted_ms": [1.0, 2.0, 4.0, 1.0],
        "measured_ms": [1.5, 2.0, 2.0, 3.0],
        "kind": ["depthwise", "depthwise", "depthwise", "linear"],
    }
)
LATENCIES = pd.DataFrame(
    {"phone": [1.0, 2.0, 3.0, 4.0], "board": [1.0, 9.0, 5.0, 10.0], "server": [4.0, 3.0, 2.0, 1.0]}
)


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    same = {"device": "phone", "space": "mobile", "state": "done", "budget_latency_ms": 20.0, "met": True}
    return pd.DataFrame([same | row for row in rows], columns=[*RUN_COLUMNS, *DEVICE_COLUMNS])


def network(strategy: str, seed: int, ms: float, accuracy: float, random: float) -> dict[str, Any]:
    row = {
        "search": strategy,
        "strategy": strategy,
        "seed": seed,
        "predicted_latency_ms": ms,
        "upper_latency_ms": 1.5 * ms,
    }
    kinds = {"inherited": accuracy, "supernet": accuracy - 0.3, "finetuned": accuracy + 0.02, "random": random}
    return row | {f"accuracy_{kind}": share for kind, share in kinds.items()}


TABLE = table([network("pool", 0, 10, 0.9, 0.7), network("pool", 1, 12, 0.8, 0.75), network("random", 0, 8, 0.8, 0.8)])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    devices = pd.DataFrame({"device": ["phone", "board"]})
    return replace(run_of(tmp_path, {}), metrics=METRICS, prunes=PRUNES, devices=devices, alphas=ALPHAS)


@pytest.fixture
def blank(tmp_path: Path) -> Run:
    """A run of which nothing is known yet."""
    return replace(run_of(tmp_path, {}), result=None, metrics=METRICS.iloc[:0, :2], prunes=PRUNES.iloc[:0], alphas=None)


def panel(figure: Figure) -> Axes:
    return figure.axes[0]


def lines(axes: Axes) -> dict[str, np.ndarray]:
    """Points (n, 2) of each line by its label."""
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def marks(axes: Axes) -> dict[str, np.ndarray]:
    """Points (n, 2) of each scatter by its label."""
    return {
        str(dots.get_label()): np.asarray(dots.get_offsets())
        for dots in axes.collections
        if len(dots.get_offsets()) > 0
    }


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_no_two_of_many_names_look_alike() -> None:
    found = looks([f"device{number}" for number in range(28)])
    assert len(set(found.values())) == 28
    first = list(found.values())[:7]
    assert len({look.color for look in first}) == len({look.marker for look in first}) == 7


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (4, 2), (8, 3), (12, 3)])
def test_panels_of_many_devices_stand_in_rows_that_fit_a_page(count: int, columns: int) -> None:
    figure, grid = panels([str(number) for number in range(count)])
    assert len(grid) == len(figure.axes) == count and figure.get_figwidth() == pytest.approx(3.6 * columns)
    assert {axes.get_subplotspec().get_gridspec().ncols for axes in grid} == {columns}


def test_costs_are_shares_of_their_budget_with_its_unit(run: Run) -> None:
    axes = panel(plot_costs(run))
    found = lines(axes)
    assert found["latency: budget 20 ms"].tolist() == [[1, 0.5], [2, 0.25]]
    assert [[1.0, 2.0], [2.0, 0.4]] in [points.tolist() for points in found.values()]  # most expensive network left
    assert axes.get_title("left") == "phone"


def test_pruning_counts_what_went_before_the_network_was_chosen(run: Run) -> None:
    phone, board = plot_pruning(run).axes
    assert [line.get_xydata().tolist() for line in phone.lines] == [[[0, 0], [5, 2], [12, 2]]]
    assert [line.get_xydata().tolist() for line in board.lines] == [[[0, 0], [8, 1], [12, 1]]]
    assert [axes.get_title("left") for axes in (phone, board)] == ["phone\nbudget 2", "board\nweak 1"]
    assert phone.get_ylim() == board.get_ylim() and phone.get_ylim()[0] == 0


def test_the_heat_map_of_alphas_has_a_row_per_choice_and_a_column_per_epoch(run: Run) -> None:
    axes = panel(plot_alphas(run, device="phone"))
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array([[0.5, 0.1], [0.5, 0.9], [1, 1]]))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["kernel = 3", "kernel = 5", "width = 16"]
    assert axes.images[0].get_clim() == (0, 1)


def test_a_large_heat_map_has_a_row_per_decision_of_the_choice_that_is_likeliest_in_the_end(run: Run) -> None:
    decisions = tuple(f"block{number}" for number in range(90) for _ in range(3))
    weights = np.zeros((2, 1, 270), dtype=np.float32)
    weights[:, 0, 0::3] = [[0.6], [0.25]]  # led, and fell behind
    weights[:, 0, 2::3] = [[0.4], [0.75]]
    many = Alphas(np.array([1, 2]), np.array([6, 12]), weights, ("phone",), decisions, ("a", "b", "c") * 90)
    axes = panel(plot_alphas(replace(run, alphas=many), device="phone"))
    assert np.asarray(axes.images[0].get_array()) == pytest.approx(np.array([[0.4, 0.75]] * 90))
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"block{number} = c" for number in range(90)]


def test_alphas_of_a_device_that_is_not_there_are_refused(run: Run) -> None:
    with pytest.raises(InvalidInputError, match="no device 'tablet'; its devices: phone"):
        plot_alphas(run, device="tablet")


@pytest.mark.parametrize(("against", "x"), [("step", [6, 12]), ("seconds", [3, 6])])
def test_anytime_is_mean_and_deviation_over_seeds(run: Run, tmp_path: Path, against: Any, x: list[float]) -> None:
    other = METRICS.assign(**{"val/acc": [0.6, 0.5]})
    longer = pd.concat([other, other.iloc[1:].assign(epoch=3, step=18)])  # ends where the shorter run does
    runs = (run, replace(run, config=run.config | {"seed": 1}, metrics=longer))
    axes = panel(plot_anytime(Sweep(tmp_path, runs, pd.DataFrame()), against=against))
    line = lines(axes)["pool, n = 2"]
    assert line[:, 0].tolist() == x and line[:, 1] == pytest.approx([0.5, 0.7])
    band = axes.collections[0].get_paths()[0].vertices
    # Deviations of (0.4, 0.6) and of (0.8, 0.6), with n - 1: the square root of 0.02 in both.
    assert band[:, 1].max() == pytest.approx(0.7 + 0.02**0.5) and band[:, 1].min() == pytest.approx(0.5 - 0.02**0.5)


def test_anytime_of_one_seed_has_no_deviation(run: Run, tmp_path: Path) -> None:
    axes = panel(plot_anytime(Sweep(tmp_path, (run,), pd.DataFrame())))
    assert lines(axes)["pool, n = 1"][:, 1].tolist() == [0.4, 0.8]
    assert set(axes.collections[0].get_paths()[0].vertices[:, 1]) == {0.4, 0.8}


def test_searches_of_one_strategy_and_unlike_settings_are_two_lines(run: Run, tmp_path: Path) -> None:
    longer = replace(run, config=run.config | {"trainer": {"steps": 99}})
    axes = panel(plot_anytime(Sweep(tmp_path, (run, longer), pd.DataFrame())))
    assert set(lines(axes)) == {"steps=10, n = 1", "steps=99, n = 1"}


def test_more_searches_than_looks_are_named_by_their_strategy(run: Run, tmp_path: Path) -> None:
    runs = tuple(replace(run, config=run.config | {"trainer": {"steps": steps}}) for steps in range(8))
    axes = panel(plot_anytime(Sweep(tmp_path, runs, pd.DataFrame())))
    reported = [str(line.get_label()) for line in axes.lines]
    assert len(reported) == 8 and [label for label in reported if not label.startswith("_")] == ["pool, n = 8"]
    table = pd.concat([TABLE.assign(search=f"lr={number}") for number in range(8)])
    reported = [label for label in marks(panel(plot_pareto(table, device="phone"))) if not label.startswith("_")]
    assert reported == ["pool, n = 16", "random, n = 8"]


def test_the_gap_has_a_bar_at_the_mean_of_each_accuracy() -> None:
    axes = panel(plot_gap(TABLE))
    bars = [c.get_segments()[0][0][1] for c in axes.collections if hasattr(c, "get_segments")]
    # pool: supernet, inherited, fine-tuned, random; then the same of random search
    assert bars == pytest.approx([0.55, 0.85, 0.87, 0.725, 0.5, 0.8, 0.82, 0.8])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["supernet", "inherited", "finetuned", "random"]


def test_stability_has_decisions_in_the_order_of_their_space() -> None:
    axes = panel(plot_stability(STABILITY))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["width", "kernel"]
    assert marks(axes)["chance"].tolist() == [[0.5, 1], [0.25, 0], [0.25, 0]]
    assert marks(axes)["pool"][:, 0].tolist() == [1.0, 1 / 3] and marks(axes)["random"][:, 0].tolist() == [0.0]
    assert axes.get_title("left") == "phone\nmean 0.67, 0.00"


def test_transfer_says_of_each_pair_whether_it_fits() -> None:
    axes = panel(plot_transfer(TRANSFER))
    assert texts(axes) == ["0.90\nfits", "1.80\ntoo expensive", "0.30\nfits", "0.60\nfits"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["phone\naccuracy 0.900", "board\naccuracy 0.800"]


def test_device_correlation_is_that_of_scipy() -> None:
    written = np.array([float(text) for text in texts(panel(plot_device_correlation(LATENCIES)))]).reshape(3, 3)
    # Written with two digits.
    assert written == pytest.approx(spearmanr(LATENCIES.to_numpy()).statistic, abs=0.005)


def test_predictions_stand_against_measurements_in_milliseconds() -> None:
    axes = panel(plot_predicted_against_measured(ROWS))
    assert marks(axes)["depthwise, n = 3"].tolist() == [[1, 1.5], [2, 2], [4, 2]]
    assert marks(axes)["linear, n = 1"].tolist() == [[1, 3]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted, ms", "measured, ms")
    assert "networks, n = 4" in marks(panel(plot_predicted_against_measured(ROWS.drop(columns="kind"))))


def test_residuals_have_their_median_by_kind() -> None:
    axes = panel(plot_residuals_by_operation(ROWS))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["depthwise, n = 3", "linear, n = 1"]
    medians = [c.get_segments()[0][0][0] for c in axes.collections if hasattr(c, "get_segments")]
    assert medians == [1.0, 3.0]  # of 1.5, 1 and 0.5; of 3


def drawn(run: Run) -> dict[str, Callable[[], Figure]]:
    sweep = Sweep(run.path, (run,), TABLE)
    return {
        "costs": lambda: plot_costs(run),
        "pruning": lambda: plot_pruning(run),
        "alphas": lambda: plot_alphas(run, device="phone"),
        "pareto": lambda: plot_pareto(TABLE, device="phone"),
        "anytime": lambda: plot_anytime(sweep),
        "gap": lambda: plot_gap(TABLE),
        "stability": lambda: plot_stability(STABILITY),
        "transfer": lambda: plot_transfer(TRANSFER),
        "correlation": lambda: plot_device_correlation(LATENCIES),
        "measured": lambda: plot_predicted_against_measured(ROWS),
        "residuals": lambda: plot_residuals_by_operation(ROWS),
    }


def test_a_dark_theme_changes_no_picture(run: Run, tmp_path: Path) -> None:
    for name, draw in drawn(run).items():
        draw().savefig(tmp_path / "light.png")
        with matplotlib.style.context("dark_background"):
            draw().savefig(tmp_path / "dark.png")
        assert (tmp_path / "light.png").read_bytes() == (tmp_path / "dark.png").read_bytes(), name


def test_drawing_leaves_the_style_of_other_figures_alone(run: Run) -> None:
    before = dict(matplotlib.rcParams)
    for draw in drawn(run).values():
        assert to_hex(draw().get_facecolor()) == "#ffffff"
    assert dict(matplotlib.rcParams) == before


def test_a_picture_of_nothing_says_so(blank: Run, tmp_path: Path) -> None:
    assert texts(panel(plot_costs(blank))) == ["no epoch has ended yet"]
    assert texts(panel(plot_pruning(blank))) == ["nothing was pruned"]
    assert texts(panel(plot_alphas(blank, device="phone")))[0].startswith("no alphas.npz")
    assert texts(panel(plot_anytime(Sweep(tmp_path, (blank,), TABLE)))) == ["no epoch has ended yet"]
    assert texts(panel(plot_gap(TABLE.iloc[:0]))) == ["no finished run"]
    assert texts(panel(plot_stability(Stability(STABILITY.decisions.iloc[:0], STABILITY.scores)))) == [
        "no search has two seeds"
    ]
    assert texts(panel(plot_transfer(TRANSFER.iloc[:0]))) == ["no result with other devices"]


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path: Path) -> None:
    figure = plot_predicted_against_measured(ROWS.assign(kind="$\\frac"))
    figure.savefig(tmp_path / "figure.png")  # a formula so broken would raise
    assert "$\\frac, n = 4" in marks(panel(figure))
