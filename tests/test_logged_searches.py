"""What a search logs, by a logger of one's own that keeps it: under which names, when, once, and nothing untrue."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from logged_runs import DEVICES, SEARCHED, KeptLogger, kept_config
from tiny_search import tiny_config

from hardware_models.infeasible import BudgetInfeasibleError
from search_spaces.errors import InvalidInputError
from tests.reported_runs import draw_nothing, measured
from trainers.cli.search import LogRun, run_search
from trainers.loggers.base import LOGGERS, RunLogger
from trainers.loggers.identity import is_published, known_id
from trainers.reports.publish import publish_result
from trainers.runs import metric_names
from trainers.runs.config import SearchConfig


@pytest.fixture(autouse=True)
def _nothing_is_open() -> None:
    KeptLogger.opened.clear()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    return kept_config(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def kept(config: SearchConfig) -> KeptLogger:
    run_search(config, lambda line: None)
    return KeptLogger.opened[-1]


@pytest.fixture
def result(config: SearchConfig, kept: KeptLogger) -> dict[str, Any]:
    return json.loads((config.run_folder / "result.json").read_text())


@pytest.fixture
def killed(config: SearchConfig, kept: KeptLogger, tmp_path: Path) -> SearchConfig:
    """A run whose process was killed between its result and its logger's copy of it."""
    copy = kept_config(tmp_path)
    shutil.copytree(config.run_folder, copy.run_folder, ignore=shutil.ignore_patterns("tracking.json"))
    return copy


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# What is logged


def test_every_row_of_metrics_is_logged_under_the_names_of_the_contract(kept: KeptLogger, config: SearchConfig) -> None:
    rows = rows_of(config.run_folder / "metrics.csv")
    assert len(rows) >= 2
    for row, (step, values) in zip(rows, kept.rows, strict=False):
        assert step == int(row["step"])
        assert {name: float(text) for name, text in row.items() if text} == {
            name: pytest.approx(value, rel=1e-12) for name, value in values.items()
        }
    expected = {
        *("train/loss", "train/acc", "val/loss", "val/acc", "arch/entropy", "arch/skip_connect_share"),
        *("hw/mid_tablet/latency_ms_expected", "hw/mid_tablet/latency_ms_budget", "hw/mid_tablet/latency_ms_slack"),
        *("hw/mid_tablet/met", "prune/choices_alive", "time/step_s"),
    }
    assert expected - set(rows[0]) == set()


def test_no_name_of_the_contract_is_never_logged(kept: KeptLogger) -> None:
    names = {name for key, name in vars(metric_names).items() if key.isupper()}
    logged = {name for _, values in kept.rows for name in values} | set(kept.tables) | set(kept.pictures)
    of_retraining = {metric_names.SEED, metric_names.LEARNING_RATE}
    assert names - logged == of_retraining


def test_the_last_row_holds_the_objective_the_verdict_and_the_gaps(kept: KeptLogger, result: dict[str, Any]) -> None:
    step, values = kept.rows[-1]
    assert step == result["search"]["steps"] + 1
    assert {f"result/{name}": value for name, value in result["objective"].items()}.items() <= values.items()
    accuracies = [device["accuracy"] for device in result["devices"].values()]
    for kind in ("supernet", "inherited"):
        gap = sum(accuracy["finetuned"] - accuracy[kind] for accuracy in accuracies) / 2
        assert values[f"gap/{kind}"] == pytest.approx(gap, abs=1e-12)
    seconds = result["search"]["train_seconds"] + result["search"]["derive_seconds"]
    assert values["cost/device_hours"] == pytest.approx(seconds / 3600)
    assert {name: values[f"hw/{name}/met"] for name in DEVICES} == {
        name: device["met"] for name, device in result["devices"].items()
    }


def test_the_table_of_prune_events_is_the_pruning_log(kept: KeptLogger, config: SearchConfig) -> None:
    columns, rows = kept.tables[metric_names.PRUNE_EVENTS]
    expected = [list(row.values()) for row in rows_of(config.run_folder / "prune.csv")]
    words = {columns.index(name) for name in ("device", "decision", "choice", "reason")}
    assert rows == [
        [text if i in words else float(text) if text else None for i, text in enumerate(row)] for row in expected
    ]
    assert len(rows) > 0


def test_the_table_of_architectures_has_the_figures_of_each_device(kept: KeptLogger, result: dict[str, Any]) -> None:
    columns, rows = kept.tables[metric_names.ARCHITECTURES]
    found = {str(row[0]): dict(zip(columns, row, strict=True)) for row in rows}
    assert tuple(found) == DEVICES
    for name, row in found.items():
        device = result["devices"][name]
        assert all(row[key] == device[key] for key in ("id", "notation", "met"))
        assert row["budget_latency_ms"] == device["budgets"].get("latency_ms")
        assert row["predicted_latency_ms"] == device["predicted"]["latency_ms"]
        assert row["recounted_gflops"] == device["recounted"]["gflops"]
        assert row["measured_latency_ms"] is None
        assert row["accuracy_finetuned"] == device["accuracy"]["finetuned"]


def test_the_heat_map_is_a_picture_and_each_network_a_drawing(kept: KeptLogger) -> None:
    heat_map = kept.pictures[metric_names.ALPHA_HEAT_MAP]
    assert isinstance(heat_map, bytes) and heat_map.startswith(b"\x89PNG")
    drawings = [kept.pictures[metric_names.architecture_picture(name)] for name in DEVICES]
    assert all(isinstance(drawing, str) and drawing.lstrip().startswith("<svg") for drawing in drawings)


def test_artifacts_lead_from_the_supernet_to_the_models_and_hold_the_lineage(kept: KeptLogger) -> None:
    run = kept.record.name
    supernet = f"supernet-{run}"
    networks = {f"architecture-{run}-{name}": name for name in DEVICES}
    models = {f"model-{run}-{name}": name for name in DEVICES}
    last_kind, last_files, last_parents = kept.artifacts.pop(f"result-{run}")
    assert kept.artifacts == {
        supernet: ("supernet", ["config.yaml", "metrics.csv", "alphas.npz", "prune.csv"], []),
        **{name: ("architecture", [f"architectures/{d}.json"], [supernet]) for name, d in networks.items()},
        **{n: ("model", [f"weights/{d}.safetensors"], [f"architecture-{run}-{d}"]) for n, d in models.items()},
    }
    assert (last_kind, last_parents) == ("result", list(models))
    assert {"result.json", "lineage.json", "report.html"} == set(last_files)


def test_a_measured_network_has_an_artifact_of_its_measurement(killed: SearchConfig, result: dict[str, Any]) -> None:
    result["devices"]["mid_tablet"]["measured"] = measured(21.5)
    (killed.run_folder / "result.json").write_text(json.dumps(result))
    logger = KeptLogger(None, LogRun(killed, print).record, print)
    publish_result(logger, killed.run_folder)
    run = killed.run_folder.name
    assert logger.artifacts[f"measurement-{run}-mid_tablet"] == (
        *("measurement", ["result.json"]),
        [f"architecture-{run}-mid_tablet"],
    )


def met(logger: KeptLogger) -> list[str]:
    """Titles of the alerts that are due for the rows that a logger has of epochs."""
    rows = [values for _, values in logger.rows if metric_names.VALIDATION_ACCURACY in values]
    return [f"budget met: {name}" for name in sorted(DEVICES) if any(row[metric_names.met(name)] for row in rows)]


def test_a_budget_that_is_met_is_alerted_once_for_each_device(kept: KeptLogger) -> None:
    assert sorted(title for title, _ in kept.alerts if title.startswith("budget")) == met(kept)


def test_the_logger_changes_nothing_of_a_search_and_csv_has_its_metrics(
    config: SearchConfig, result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    other = tiny_config(tmp_path, *SEARCHED, "logger=csv")
    again = run_search(other, lambda line: None)
    assert other.run_folder.name == config.run_folder.name
    assert {name: device.id for name, device in again.devices.items()} == {
        name: device["id"] for name, device in result["devices"].items()
    }
    logged = {(line["step"], line["metric"]): line["value"] for line in rows_of(other.run_folder / "csv/metrics.csv")}
    for row in rows_of(config.run_folder / "metrics.csv"):
        del row["time/step_s"]
        assert {name: logged[row["step"], name] for name in row} == row


# Attempts


def test_an_infeasible_search_alerts_once_and_ends_with_its_exit_code(tmp_path: Path) -> None:
    config = kept_config(tmp_path, "hardware.mid_tablet.budgets.latency_ms=1e-6")
    for _ in range(2):  # the second time it is known, and logged already
        with pytest.raises(BudgetInfeasibleError):
            run_search(config, lambda line: None)
    (logger,) = KeptLogger.opened
    ((title, text),) = logger.alerts
    assert title == "infeasible" and "mid_tablet" in text
    assert logger.exit_codes == [2]


@pytest.mark.slow
def test_an_interrupted_search_alerts_and_the_next_attempt_logs_all_rows(tmp_path: Path) -> None:
    config = kept_config(tmp_path, "trainer.checkpoint_seconds=0")

    def interrupt(line: str) -> None:
        if line.startswith("epoch 2/"):  # which no checkpoint holds yet
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(config, interrupt)
    run_search(config, lambda line: None)
    first, second = KeptLogger.opened
    titles = [title for logger in (first, second) for title, _ in logger.alerts if not title.startswith("collapse")]
    assert sorted(titles) == [*met(second), "interrupted"]  # each once
    assert (first.exit_codes, second.exit_codes) == ([130], [0])
    epochs = [[values["epoch"] for _, values in logger.rows if "val/acc" in values] for logger in (first, second)]
    assert epochs == [[1], [1, 2, 3]]


def test_a_result_that_was_not_logged_is_when_its_command_is_repeated_and_once(
    killed: SearchConfig, kept: KeptLogger
) -> None:
    KeptLogger.opened.clear()
    for _ in range(2):
        run_search(killed, lambda line: None)
    (again,) = KeptLogger.opened
    assert again.alerts == kept.alerts
    assert again.rows == [(step, pytest.approx(values)) for step, values in kept.rows]
    assert set(again.tables) == set(kept.tables) and again.exit_codes == [0]
    assert is_published(killed.run_folder, "kept")


def test_a_trial_of_a_wandb_sweep_that_equals_a_finished_run_is_another_log_of_it(
    killed: SearchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (killed.run_folder / "tracking.json").write_text('{"wandb": "first", "published": ["wandb"]}')
    assert is_published(killed.run_folder, "wandb") and known_id(killed.run_folder, "wandb") == "first"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_RUN_ID", "trial456")
    assert not is_published(killed.run_folder, "wandb")


@pytest.mark.parametrize("content", ['{"kept": "../../x"}', '{"published": "kept"}', "[]", "{"])
def test_a_mangled_file_of_ids_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_text(content)
    with pytest.raises(InvalidInputError):
        known_id(tmp_path, "kept")


@LOGGERS.register("lost")
class LostLogger(RunLogger):
    """A service that goes away at the very end."""

    def finish(self, exit_code: int) -> None:
        raise ConnectionError("the service has gone")


def test_a_result_counts_as_logged_only_when_the_logger_took_all_of_it(killed: SearchConfig) -> None:
    lines: list[str] = []
    config = killed.model_copy(update={"logger": {"name": "lost"}})
    run_search(config, lines.append)
    assert sum("ConnectionError" in line for line in lines) == 1
    assert not is_published(config.run_folder, "lost")
