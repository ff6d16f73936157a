"""Run folders of a real search as frames, and sweeps of them."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from hardware_models.profile import METRICS
from search_spaces.errors import InvalidInputError
from tests.reported_runs import rewrite
from tests.sample_result import RUN, SAMPLE, sample_result, typed
from trainers.analysis import candidates, load_run, load_sweep, transfer
from trainers.analysis.loading import CANDIDATE_COLUMNS, DEVICE_COLUMNS, RUN_COLUMNS, load_readable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that a test may spoil, alone in its sweep."""
    return Path(shutil.copytree(RUN, tmp_path / "seeds" / RUN.name))


def test_a_device_has_a_row_with_every_figure_of_the_result() -> None:
    run, result = load_run(RUN), sample_result()
    assert run.state.state == result["status"] and run.result == typed(result)
    assert list(run.devices["device"]) == list(result["devices"]) == ["mid_tablet", "iot_terminal"]
    for row in run.devices.to_dict("records"):
        device = result["devices"][row["device"]]
        assert {key: row[key] for key in ("id", "met", "binding")} == {k: device[k] for k in ("id", "met", "binding")}
        for prefix, key in {
            "budget": "budgets",
            **{k: k for k in ("predicted", "upper", "recounted", "utilisation")},
        }.items():
            found = {metric: row[f"{prefix}_{metric}"] for metric in METRICS}
            assert {m: v for m, v in found.items() if not np.isnan(v)} == device[key]
        kinds = ("supernet", "inherited", "finetuned", "random")
        assert {kind: row[f"accuracy_{kind}"] for kind in kinds} == {kind: device["accuracy"][kind] for kind in kinds}
        assert row["accuracy_validation"] == device["validation"]["accuracy"]


def test_a_figure_that_nobody_measured_is_missing_and_not_zero() -> None:
    assert load_run(RUN).devices[[f"measured_{metric}" for metric in METRICS]].isna().all(axis=None)


def test_metrics_and_prunes_are_the_rows_of_their_files() -> None:
    run = load_run(RUN)
    for frame, file in ((run.metrics, "metrics.csv"), (run.prunes, "prune.csv")):
        with (RUN / file).open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        assert len(frame) == len(rows) > 0 and list(frame.columns) == list(rows[0])
        for (_, found), row in zip(frame.iterrows(), rows, strict=True):
            for column, text in row.items():
                if isinstance(found[column], str):
                    assert found[column] == text
                elif text:
                    assert found[column] == float(text)
                else:
                    assert np.isnan(found[column])
    assert run.metrics["step"].dtype.kind == run.prunes["step"].dtype.kind == "i"


def test_alphas_are_probabilities_that_sum_to_one_in_each_decision() -> None:
    alphas = load_run(RUN).alphas
    assert alphas is not None
    assert alphas.weights.shape == (len(alphas.epoch), len(alphas.device), len(alphas.choice))
    of_decision = pd.DataFrame(alphas.weights[-1, 0]).groupby(list(alphas.decision), sort=False).sum()
    # Single precision: sums of at most three numbers below 1.
    assert of_decision.to_numpy() == pytest.approx(1, abs=1e-5)


def test_candidates_and_transfer_are_those_of_the_result() -> None:
    run, result = load_run(RUN), sample_result()
    found = candidates(run)
    for name, device in result["devices"].items():
        for searched, key in ((True, "candidates"), (False, "random_candidates")):
            own = found[(found["device"] == name) & (found["searched"] == searched)]
            assert own[list(CANDIDATE_COLUMNS)].to_dict("records") == [{**row, "evidence": {}} for row in device[key]]
    matrix = transfer(run).set_index(["network", "device"])
    assert len(matrix) == 4
    for network in result["devices"]:
        own = run.devices.set_index("device").loc[network]
        # A network costs on its own device what the certificate says.
        assert matrix.loc[(network, network), "predicted_latency_ms"] == pytest.approx(own["predicted_latency_ms"])
        assert matrix.loc[(network, network), "upper_latency_ms"] == pytest.approx(own["upper_latency_ms"])
        for device in result["devices"]:
            cell = result["transfer"][network][device]
            assert matrix.loc[(network, device), "within"] == cell["within"]
            assert matrix.loc[(network, device), "accuracy"] == own["accuracy_finetuned"]


def test_a_sweep_has_a_row_per_run_and_device_led_by_what_tells_runs_apart(folder: Path) -> None:
    waiting = folder.parent / "waiting"
    waiting.mkdir()
    shutil.copy(folder / "status.json", waiting)
    rewrite(waiting / "status.json", lambda content: content.update(status="queued"))
    failed = Path(shutil.copytree(folder, folder.parent / "failed"))
    (failed / "result.json").unlink()
    rewrite(failed / "status.json", lambda content: content.update(status="failed", error="out of memory"))
    sweep = load_sweep(folder.parent)
    assert list(sweep.table.columns[:7]) == ["run", "search", "strategy", "seed", "space", "state", "device"]
    assert list(sweep.table["search"].dropna().unique()) == ["pool"]
    assert [run.path.name for run in sweep.runs] == ["failed", folder.name, "waiting"]
    rows = [tuple(row) for row in sweep.table[["run", "strategy", "seed", "state", "device"]].astype(object).to_numpy()]
    assert rows[:4] == [
        ("failed", "pool", 0, "failed", "mid_tablet"),
        ("failed", "pool", 0, "failed", "iot_terminal"),
        (folder.name, "pool", 0, "done", "mid_tablet"),
        (folder.name, "pool", 0, "done", "iot_terminal"),
    ]
    assert rows[4][0] == "waiting" and rows[4][3] == "queued" and pd.isna(rows[4][4])
    of_failed = sweep.table[sweep.table["run"] == "failed"]
    assert of_failed["budget_latency_ms"].notna().all() and of_failed["predicted_latency_ms"].isna().all()
    assert sweep.runs[0].state.reason == "out of memory"


def test_the_table_of_a_sweep_has_a_column_for_each_key_that_was_swept(folder: Path) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    copy = Path(shutil.copytree(folder, folder.parent / "copy"))
    for run, lr, expansions in ((folder, 0.1, [2, 3]), (copy, 0.03, [2])):
        config["space"]["expansions"], config["optimizer"]["lr"] = expansions, lr
        config["tags"], config["paths"]["cache"] = [f"lr{lr}"], f"elsewhere/{lr}"
        (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    table = load_sweep(folder.parent).table
    keys = ["space.expansions", "optimizer.lr"]
    assert set(table.columns) - {*RUN_COLUMNS, *DEVICE_COLUMNS} == set(keys)
    found = table.drop_duplicates("run").set_index("search")[keys].to_dict("index")
    assert found == {
        "expansions=[2,3] lr=0.1": {"space.expansions": "[2,3]", "optimizer.lr": 0.1},
        "expansions=[2] lr=0.03": {"space.expansions": "[2]", "optimizer.lr": 0.03},
    }


def test_the_table_of_the_sample_has_no_column_more_for_strategy_and_seed() -> None:
    table = load_sweep(SAMPLE / "strategies").table
    assert list(table.columns) == [*RUN_COLUMNS, *DEVICE_COLUMNS] and set(table["search"]) == {"pool", "random"}


def test_a_run_that_has_only_begun_has_empty_frames(folder: Path) -> None:
    for file in ("result.json", "metrics.csv", "prune.csv", "alphas.npz"):
        (folder / file).unlink()
    rewrite(folder / "status.json", lambda content: content.update(status="interrupted"))
    run = load_run(folder)
    assert run.result is None and run.metrics.empty and run.prunes.empty and candidates(run).empty
    assert list(run.devices["device"]) == ["mid_tablet", "iot_terminal"]


def test_a_sweep_loads_strictly_or_without_what_is_malformed_with_the_reason(folder: Path) -> None:
    spoiled = Path(shutil.copytree(folder, folder.parent / "spoiled"))
    (spoiled / "result.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"spoiled/result\.json"):
        load_sweep(folder.parent)
    sweep = load_readable(folder.parent)
    assert [run.path.name for run in sweep.runs] == [folder.name] and set(sweep.table["run"]) == {folder.name}
    assert list(sweep.unreadable) == ["spoiled"] and "result.json" in sweep.unreadable["spoiled"]


def test_a_folder_that_is_no_run_or_no_sweep_is_refused_with_what_to_give(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no run in .*seeds: it has no status\.json; give the folder"):
        load_run(folder.parent)
    with pytest.raises(InvalidInputError, match="is a run and no sweep; load it with load_run"):
        load_sweep(folder)
    with pytest.raises(InvalidInputError, match="no runs in"):
        load_sweep(tmp_path)
