"""W&B: what it is told of real searches, read back from the runs' own files, and the mode in which it is told."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from tiny_search import tiny_config
from tracked_runs import DEVICES, SEARCHED, Followed, followed, searched_offline

from search_spaces.errors import InvalidInputError
from trainers.cli.search import run_search
from trainers.loggers.logger import LocalTracker
from trainers.loggers.wandb import decide_mode
from trainers.reports.publish import publish_result
from trainers.runs import metric_names


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched_offline(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def attempt(searched: Path) -> Followed:
    (attempt,) = followed(searched)
    return attempt


@pytest.fixture
def result(searched: Path) -> dict[str, Any]:
    return json.loads((searched / "result.json").read_text())


# Which mode


@pytest.mark.parametrize(
    ("said", "environment", "has_key", "mode"),
    [
        (None, None, False, "offline"),
        (None, None, True, "online"),
        (None, "", True, "online"),
        (None, "offline", True, "offline"),
        (None, "disabled", False, "disabled"),
        ("offline", "online", True, "offline"),
        ("online", "offline", True, "online"),
    ],
)
def test_what_was_said_decides_the_mode_then_the_environment_then_the_key(
    said: Any, environment: str | None, has_key: bool, mode: str
) -> None:
    assert decide_mode(said, environment, has_key=has_key) == mode


@pytest.mark.parametrize(
    ("said", "environment", "blamed"), [("online", None, "logger.mode"), (None, "online", "WANDB_")]
)
def test_online_without_a_key_is_refused_before_any_work(said: Any, environment: str | None, blamed: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{blamed}.*wandb login"):
        decide_mode(said, environment, has_key=False)


def test_an_unknown_mode_of_the_environment_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="WANDB_MODE: got 'quiet', allowed: online, offline, disabled"):
        decide_mode(None, "quiet", has_key=True)


# What a search tells


def test_the_run_is_named_grouped_and_tagged_as_its_folder_is(searched: Path, attempt: Followed) -> None:
    run = attempt.run
    assert (run["display_name"], run["run_group"], run["job_type"]) == (searched.name, "search", "search")
    assert set(run["tags"]) == {"paper", "draft"}
    assert run["project"] == "espalier"
    config = run["config"]["update"]
    assert {key: value for key, value in config.items() if key != "_wandb"} == yaml.safe_load(
        (searched / "config.yaml").read_text()
    )


def test_every_row_of_metrics_is_told_under_the_names_of_the_contract(searched: Path, attempt: Followed) -> None:
    with (searched / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 2
    for row, told in zip(rows, attempt.rows, strict=False):
        assert {key: float(value) for key, value in row.items()} == {
            key: pytest.approx(value, rel=1e-12) for key, value in told.items() if not key.startswith("_")
        }
    names = [
        *("train/loss", "train/acc", "val/loss", "val/acc", "arch/entropy", "arch/skip_connect_share"),
        *("hw/mid_tablet/latency_ms_expected", "hw/mid_tablet/latency_ms_budget", "hw/mid_tablet/latency_ms_slack"),
        *("hw/mid_tablet/met", "prune/choices_alive", "time/step_s"),
    ]
    assert [name for name in names if name not in rows[0]] == []


def test_no_name_of_the_contract_is_never_told(attempt: Followed) -> None:
    pictures_and_tables = {metric_names.PRUNE_EVENTS, metric_names.ARCHITECTURES, metric_names.ALPHA_HEAT_MAP}
    names = {name for key, name in vars(metric_names).items() if key.isupper()}
    assert names - pictures_and_tables - {name for row in attempt.rows for name in row} == set()


def test_all_metrics_are_drawn_over_the_updates_of_weights(attempt: Followed) -> None:
    assert {"glob_name": "*", "step_metric": "step"}.items() <= attempt.records["metric"][-1].items()


def test_the_last_row_holds_the_objective_the_verdict_and_the_gaps(attempt: Followed, result: dict[str, Any]) -> None:
    told = next(row for row in attempt.rows if "gap/supernet" in row)
    for name, value in result["objective"].items():
        assert told[f"result/{name}"] == pytest.approx(value, rel=1e-12)
    accuracies = [device["accuracy"] for device in result["devices"].values()]
    for kind in ("supernet", "inherited"):
        gap = sum(accuracy["finetuned"] - accuracy[kind] for accuracy in accuracies) / 2
        assert told[f"gap/{kind}"] == pytest.approx(gap, abs=1e-12)
    seconds = result["search"]["train_seconds"] + result["search"]["derive_seconds"]
    assert told["cost/device_hours"] == pytest.approx(seconds / 3600)
    for name in DEVICES:
        assert told[f"hw/{name}/met"] == result["devices"][name]["met"]
    assert told["step"] == result["search"]["steps"] + 1


def test_the_table_of_prune_events_is_the_ledger(searched: Path, attempt: Followed) -> None:
    table = json.loads(attempt.media(metric_names.PRUNE_EVENTS))
    with (searched / "prune.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert table["columns"] == header
    words = {"device", "decision", "choice", "reason"}
    expected = [
        [text if name in words else float(text) if text else None for name, text in zip(header, line, strict=True)]
        for line in lines
    ]
    assert table["data"] == expected
    assert len(expected) > 0


def test_the_table_of_architectures_has_the_figures_of_each_device(attempt: Followed, result: dict[str, Any]) -> None:
    table = json.loads(attempt.media(metric_names.ARCHITECTURES))
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["data"]}
    assert tuple(rows) == DEVICES
    for name, row in rows.items():
        device = result["devices"][name]
        assert row["id"] == device["id"] and row["met"] == device["met"] and row["notation"] == device["notation"]
        assert row["budget_latency_ms"] == device["budgets"].get("latency_ms")
        assert row["predicted_latency_ms"] == device["predicted"]["latency_ms"]
        assert row["recounted_gflops"] == device["recounted"]["gflops"]
        assert row["measured_latency_ms"] is None
        assert row["accuracy_finetuned"] == device["accuracy"]["finetuned"]


def test_the_heat_map_is_a_picture_and_each_cell_a_drawing(attempt: Followed) -> None:
    width, height = Image.open(io.BytesIO(attempt.media(metric_names.ALPHA_HEAT_MAP))).size
    assert width > 100 and height > 100
    for name in DEVICES:
        drawing = attempt.media(metric_names.architecture_picture(name)).decode()
        assert drawing.lstrip().startswith("<svg")


def test_artifacts_lead_from_the_supernet_to_the_models_and_hold_the_lineage(searched: Path, attempt: Followed) -> None:
    told = {a["name"]: a for a in attempt.records["artifact"] if a["type"] != "run_table"}
    supernet, run = f"supernet-{searched.name}", searched.name
    pairs = [(f"architecture-{run}-{name}", f"model-{run}-{name}") for name in DEVICES]
    assert [(a["name"], a["type"], json.loads(a["metadata"])["parents"]) for a in told.values()] == [
        (supernet, "supernet", []),
        *(
            artifact
            for network, model in pairs
            for artifact in ((network, "architecture", [supernet]), (model, "model", [network]))
        ),
        (f"result-{run}", "result", [model for _, model in pairs]),
    ]
    files = {name: contents(artifact) for name, artifact in told.items()}
    assert files[supernet] == {"config.yaml", "metrics.csv", "alphas.npz", "prune.csv"}
    assert files[pairs[0][0]] == {"architectures/nb201_pixel3.json"}
    assert files[pairs[0][1]] == {"weights/nb201_pixel3.safetensors"}
    assert {"result.json", "lineage.json"} <= files[f"result-{run}"]


def test_a_measured_network_has_an_artifact_of_its_measurement(
    searched: Path, result: dict[str, Any], tmp_path: Path
) -> None:
    class Kept(LocalTracker):
        def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
            told.append((name, kind, [path.name for path in files], list(parents)))

    told: list[Any] = []
    run = tmp_path / searched.name
    shutil.copytree(searched, run)
    result["devices"]["mid_tablet"]["measured"] = {"latency_ms": 21.5}
    (run / "result.json").write_text(json.dumps(result))
    publish_result(Kept(), run)
    measured = (f"measurement-{run.name}-mid_tablet", "measurement", ["result.json"])
    assert [(*measured, [f"architecture-{run.name}-mid_tablet"])] == [t for t in told if t[1] == "measurement"]


def contents(artifact: dict[str, Any]) -> set[str]:
    """Paths in an artifact; each file lies where a sync will look for it."""
    entries = artifact["manifest"]["contents"]
    assert all(Path(entry["local_path"]).stat().st_size == int(entry["size"]) for entry in entries)
    return {entry["path"] for entry in entries}


def test_a_network_is_told_when_its_device_is_within_budget(attempt: Followed) -> None:
    told = [alert["title"] for alert in attempt.records["alert"]]
    first = {name: next(i for i, row in enumerate(attempt.rows) if row[f"hw/{name}/met"] == 1) for name in DEVICES}
    assert sorted(title for title in told if title.startswith("budget")) == sorted(f"budget met: {n}" for n in first)


def test_nothing_of_it_lies_outside_the_run_folder_and_no_link_leads_out(searched: Path) -> None:
    assert [path for path in searched.rglob("*") if path.is_symlink()] == []
    # W&B's service logs to the cache, once per process that starts it.
    assert {path.name for path in searched.parents[2].iterdir()} - {"cache"} == {"runs"}


def test_who_follows_a_search_changes_nothing_of_it(searched: Path, result: dict[str, Any], tmp_path: Path) -> None:
    config = tiny_config(tmp_path, *SEARCHED, "logger=csv")
    again = run_search(config, lambda line: None)
    assert config.run_folder.name == searched.name
    assert {name: device["id"] for name, device in again["devices"].items()} == {
        name: device["id"] for name, device in result["devices"].items()
    }
    with (searched / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (config.run_folder / "csv" / "metrics.csv").open(newline="") as file:
        told = {(line["step"], line["metric"]): line["value"] for line in csv.DictReader(file)}
    untimed = [{name: text for name, text in row.items() if name != "time/step_s"} for row in rows]
    assert [{name: told[row["step"], name] for name in row} for row in untimed] == untimed
