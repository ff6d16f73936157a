"""Arms beside one another: spreads and paired differences by hand, and the files that a comparison leaves."""

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from reported_runs import change
from sample_result import RUN, sample_result

from search_spaces.errors import InvalidInputError
from trainers.analysis import comparison_runs, comparison_table, plot_comparison
from trainers.analysis.comparison import difference, load_comparison, spread
from trainers.reports.comparison_files import comparison_view, table_lines, write_comparison
from trainers.runs.compare_result import ALL_DEVICES, ARMS, Arm, Arms, Comparison
from trainers.runs.files import read_as

NAN = float("nan")
DEVICES = list(sample_result()["devices"])
# Test accuracy of each arm's seeds on the first device, and CPU-seconds.
ACCURACY = {"pool": (0.50, 0.52, 0.54), "same": (0.51, 0.51, 0.54), "well": (0.60, 0.62, 0.64)}
CPU = {"pool": (9.9, 10.0, 10.1), "same": (10.0, 10.0, 10.0), "well": (10.2, 10.2, 10.2)}


def arm(runs: list[str], **fields: Any) -> Arm:
    whole: dict[str, Any] = {"overrides": [], "asked": "0" * 64, "knob": "trainer.steps", "length": 100, "probes": []}
    return Arm(**{**whole, "runs": runs, **fields})


def arms_of(folder: Path, arms: dict[str, Arm], **fields: Any) -> Arms:
    """The plan of a comparison, written into `folder`."""
    whole: dict[str, Any] = {
        **{"schema": 1, "command": "espalier-compare", "planned": datetime(2026, 1, 1, tzinfo=UTC), "machine": "here"},
        **{"versions": {}, "cpu_seconds": 10.0, "tolerance": 0.1, "seeds": [0, 1, 2], "regret": None, "arms": arms},
    }
    plan = Arms(**{**whole, **fields})
    (folder / ARMS).write_text(plan.to_json(), encoding="utf-8")
    return plan


def run_of(folder: Path, name: str, *, seed: int, accuracy: float, cpu_seconds: float | None) -> None:
    """A copy of a finished run with this test accuracy on its first device."""
    shutil.copytree(RUN, folder / name, ignore=shutil.ignore_patterns("weights", "onnx", "*.html"))
    result = sample_result()
    device = result["devices"][DEVICES[0]]
    device["accuracy"] |= {"deployed": None, "finetuned": accuracy}
    device["file"] = None
    result["search"]["cpu_seconds"] = cpu_seconds
    change(folder / name / "result.json", **{**result, "seed": seed, "files": {}})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison of three arms, three seeds each."""
    folder = tmp_path_factory.mktemp("compared")
    for name, accuracies in ACCURACY.items():
        for seed, accuracy in enumerate(accuracies):
            run_of(folder, f"{name}{seed}", seed=seed, accuracy=accuracy, cpu_seconds=CPU[name][seed])
    arms_of(folder, {name: arm([f"{name}{seed}" for seed in range(3)]) for name in ACCURACY})
    return folder


# Figures


def test_a_spread_is_of_what_is_known_and_one_seed_has_no_deviation() -> None:
    found = spread([1.0, 3.0, NAN])
    assert found is not None and (found.mean, found.n) == (2.0, 2)
    assert found.deviation == pytest.approx(2**0.5)  # of the sample: (1 + 1) / (2 - 1)
    one = spread([5.0])
    assert one is not None and one.deviation is None
    assert spread([NAN]) is None


def test_a_difference_is_of_pairs_with_its_standard_error_and_interval() -> None:
    found = difference([(2.0, 1.0), (4.0, 2.0), (6.0, 3.0), (NAN, 1.0)])
    assert found is not None and (found.mean, found.n) == (2.0, 3)
    assert found.error == pytest.approx(1 / 3**0.5)  # deviation 1 of the differences 1, 2, 3
    assert found.interval == pytest.approx(4.303 / 3**0.5, rel=1e-3)  # Student's t of two degrees, from a table


@pytest.mark.parametrize(
    ("differences", "less_is_better", "verdict"),
    [
        ([1.0, 2.0, 3.0], False, "cannot tell"),  # 2 within 2.48
        ([2.0, 2.1, 1.9], False, "better"),
        ([-2.0, -2.1, -1.9], False, "worse"),
        ([2.0, 2.1, 1.9], True, "worse"),
        ([-2.0, -2.1, -1.9], True, "better"),
        ([0.0, 0.0, 0.0], False, "cannot tell"),
        ([9.0], False, "cannot tell"),  # one seed tells nothing
        ([1.0, 2.0], False, "cannot tell"),  # 1.5 is three standard errors, of two seeds
    ],
)
def test_a_verdict_is_given_only_where_the_interval_leaves_out_zero(
    differences: list[float], less_is_better: bool, verdict: str
) -> None:
    found = difference([(each, 0.0) for each in differences], less_is_better=less_is_better)
    assert found is not None and found.verdict == verdict


def test_the_table_has_means_deviations_costs_and_differences_to_the_first_arm(compared: Path) -> None:
    rows = {(row.arm, row.device): row for row in load_comparison(compared).rows}
    assert set(rows) == {(name, device) for name in ACCURACY for device in (*DEVICES, ALL_DEVICES)}
    pool, same, well = (rows[name, DEVICES[0]] for name in ACCURACY)
    assert pool.test is not None and (pool.test.mean, pool.test.n) == (pytest.approx(0.52), 3)
    assert pool.test.deviation == pytest.approx(0.02)
    assert pool.cpu_seconds is not None and pool.cpu_seconds.mean == pytest.approx(10.0)
    assert (pool.finished, pool.feasible, pool.seeds, pool.differences) == (3, 3, 3, {})
    assert same.differences["test"].mean == pytest.approx(0.0, abs=1e-12)
    assert same.differences["test"].verdict == "cannot tell"
    assert well.differences["test"].mean == pytest.approx(0.1)
    assert well.differences["test"].verdict == "better"
    assert well.regret is None and "regret" not in well.differences


def test_the_mean_of_devices_is_taken_seed_by_seed(compared: Path) -> None:
    runs = comparison_runs(compared)
    own = runs[(runs["arm"] == "well") & (runs["seed"] == 1)].set_index("device")["test"]
    assert own[ALL_DEVICES] == pytest.approx(own[DEVICES].mean())


def test_the_data_frame_has_the_columns_of_the_table_file(compared: Path) -> None:
    write_comparison(compared)
    with (compared / "compare.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    frame = comparison_table(compared)
    assert list(frame.columns) == list(lines[0])
    assert [line["arm"] for line in lines] == list(frame["arm"])
    assert float(lines[2]["test_difference_mean"]) == pytest.approx(0.1)


# What makes arms hard to compare


def test_equal_costs_and_trainings_raise_no_warning(compared: Path) -> None:
    tested = {row.tested for row in load_comparison(compared).rows if row.device == DEVICES[0]}
    assert len(tested) == 1
    assert [line for line in load_comparison(compared).warnings if "CPU-seconds" in line] == []


def test_an_arm_that_cost_more_than_others_is_named_with_its_cost(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "apart"
    shutil.copytree(compared, folder)
    for seed in range(3):
        result = json.loads((folder / f"well{seed}" / "result.json").read_text(encoding="utf-8"))
        result["search"]["cpu_seconds"] = 13.0
        change(folder / f"well{seed}" / "result.json", **result)
    warnings = load_comparison(folder).warnings
    assert [line for line in warnings if line.startswith("well ") and "13" in line and "+30%" in line]
    assert not [line for line in warnings if line.startswith(("pool ", "same "))]


def test_a_run_without_a_result_is_counted_and_pairs_are_of_seeds_that_both_have(
    compared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "open"
    shutil.copytree(compared, folder)
    shutil.rmtree(folder / "pool1")
    change(folder / "well2" / "status.json", status="failed", error="no memory")
    rows = {(row.arm, row.device): row for row in load_comparison(folder).rows}
    well = rows["well", DEVICES[0]]
    assert (rows["pool", DEVICES[0]].finished, well.finished, well.seeds) == (2, 2, 3)
    assert well.differences["test"].n == 1  # seed 0
    assert {line.partition(":")[0] for line in load_comparison(folder).warnings} >= {"pool", "well"}


def test_a_run_of_an_earlier_version_has_no_known_cost(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(compared, folder)
    for seed in range(3):
        result = json.loads((folder / f"same{seed}" / "result.json").read_text(encoding="utf-8"))
        del result["search"]["cpu_seconds"]
        (folder / f"same{seed}" / "result.json").write_text(json.dumps(result), encoding="utf-8")
    rows = {(row.arm, row.device): row for row in load_comparison(folder).rows}
    assert rows["same", DEVICES[0]].cpu_seconds is None


def test_a_folder_without_a_comparison_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        comparison_table(tmp_path)
    assert comparison_view(tmp_path) is None


# Files


def test_a_comparison_leaves_a_file_a_table_and_a_picture(compared: Path) -> None:
    found, _ = write_comparison(compared)
    assert read_as(compared / "compare.json", Comparison).rows == found.rows
    assert found.machines and "torch" in found.versions
    assert (compared / "compare.png").read_bytes().startswith(b"\x89PNG")
    lines = list(table_lines(found))
    assert [line.split()[0] for line in lines[: 1 + len(found.rows)]] == ["arm", *(row.arm for row in found.rows)]


def test_the_picture_has_a_panel_per_device_and_a_point_per_seed(compared: Path) -> None:
    figure = plot_comparison(comparison_runs(compared))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [*DEVICES, ALL_DEVICES]
    points = [len(mark.get_offsets()) for mark in figure.axes[0].collections if len(mark.get_offsets())]
    assert points.count(3) == len(ACCURACY)


def test_nothing_that_finished_is_drawn_as_such(tmp_path: Path) -> None:
    arms_of(tmp_path, {"pool": arm(["a"]), "random": arm(["b"])}, seeds=[0])
    assert load_comparison(tmp_path).rows == []
    assert len(write_comparison(tmp_path)[0].warnings) == 2  # an arm each
