"""W&B: what it is told of real searches, read back from the runs' own files; no key, no prompt, no network."""

import csv
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from tiny_search import CELLS, MOBILE, SHORT, tiny_config
from tracked_runs import Followed, as_nobody, followed, nobody

from hardware_models.errors import BudgetInfeasibleError
from search_spaces.errors import InvalidInputError
from trainers.config import SearchConfig
from trainers.prepare import prepare
from trainers.search import run_search
from trainers.tracking import metric_names
from trainers.tracking.identity import is_published
from trainers.tracking.publish import publish_if_missing, publish_result
from trainers.tracking.tracker import LocalTracker, RunRecord, SteadyTracker, make_tracker
from trainers.tracking.wandb_tracker import decide_mode

SEARCH = Path(sys.executable).parent / "espalier-search"
OFFLINE = {"name": "wandb", "project": "espalier", "entity": None, "mode": None}
SEARCHED = (*CELLS, "strategy.pool_size=32", "trainer.steps=20")
DEVICES = ("nb201_pixel3", "mid_tablet")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a search of cells that W&B followed offline."""
    home = tmp_path_factory.mktemp("home")
    config = tiny_config(home / "runs", *SEARCHED, "logger=wandb", "tags=[paper, draft]")
    said: list[str] = []
    with as_nobody(home):
        run_search(config, said.append)
    assert [line for line in said if "W&B" in line or "logger" in line or "tracker" in line] == [
        f"W&B: offline, as there is no key; to send it: wandb sync {path}"
        for path in config.run_folder.glob("wandb/offline-run-*")
    ]
    return config.run_folder


@pytest.fixture(scope="module")
def attempt(searched: Path) -> Followed:
    (attempt,) = followed(searched)
    return attempt


@pytest.fixture
def result(searched: Path) -> dict[str, Any]:
    return json.loads((searched / "result.json").read_text())


def record_of(folder: Path, *, resumed: bool = False) -> RunRecord:
    folder.mkdir(parents=True, exist_ok=True)
    return RunRecord("key", "sweep", "search", ("paper",), {"seed": 0}, folder, resumed)


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


# A result that did not get there


@pytest.fixture
def killed(searched: Path, tmp_path: Path) -> Path:
    """The folder of a run whose process was killed between its result and its tracker's copy of it."""
    folder = tmp_path / searched.name
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("wandb"))
    kept = json.loads((folder / "tracking.json").read_text())
    assert kept.pop("published") == ["wandb"]
    (folder / "tracking.json").write_text(json.dumps(kept))
    return folder


def test_a_result_that_was_not_published_is_when_its_command_is_repeated_and_once(
    killed: Path, attempt: Followed, result: dict[str, Any], tmp_path: Path
) -> None:
    with as_nobody(tmp_path / "home"):
        for _ in range(2):
            publish_if_missing(OFFLINE, record_of(killed, resumed=True), print, exit_code=0)
    (again,) = followed(killed)
    assert (again.run["run_id"], again.exit_code) == (attempt.run["run_id"], 0)
    assert [alert["title"] for alert in again.records["alert"]] == [a["title"] for a in attempt.records["alert"]]
    assert [row["step"] for row in again.rows if "step" in row] == [
        row["step"] for row in attempt.rows if "step" in row
    ]
    accuracy = next(row["result/validation_accuracy"] for row in again.rows if "gap/supernet" in row)
    assert accuracy == pytest.approx(result["objective"]["validation_accuracy"], rel=1e-12)
    assert is_published(killed, "wandb")


def test_a_trial_of_a_sweep_of_wandb_that_equals_a_finished_run_is_told_its_objective(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_nobody(tmp_path / "home"):
        publish_if_missing(OFFLINE, record_of(killed), print, exit_code=0)
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
        monkeypatch.setenv("WANDB_RUN_ID", "trial456")
        for _ in range(2):
            publish_if_missing(OFFLINE, record_of(killed), print, exit_code=0)
    (trial,) = [found for found in followed(killed) if found.run["run_id"] == "trial456"]
    assert any("result/validation_accuracy" in row for row in trial.rows)


def test_a_result_counts_as_published_only_when_the_tracker_took_all_of_it(killed: Path) -> None:
    class Gone(LocalTracker):
        def finish(self, exit_code: int) -> None:
            raise ConnectionError("the service has gone")

    for tracker, mark in ((Gone(), False), (LocalTracker(), True)):
        marks: list[bool] = []
        steady = SteadyTracker(tracker, lambda line: None, delivered=lambda marks=marks: marks.append(True))
        publish_result(steady, killed)
        assert marks == []  # what is on its way may be lost yet
        steady.finish(0)
        assert marks == [True] * mark


def test_a_run_that_nobody_follows_is_published_nowhere(killed: Path, tmp_path: Path) -> None:
    publish_if_missing({"name": "local"}, record_of(killed), print, exit_code=0)
    with as_nobody(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        publish_if_missing(OFFLINE, record_of(killed), print, exit_code=0)
    assert not is_published(killed, "wandb") and not (killed / "wandb").exists()


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


# Attempts, jobs, and what is around them


def test_a_resumed_run_continues_under_its_id_and_repeats_no_row(tmp_path: Path) -> None:
    with as_nobody(tmp_path):
        first = make_tracker(OFFLINE, record_of(tmp_path / "run"), print)
        first.metrics(10, {"epoch": 1, "step": 10})
        first.finish(130)
        second = make_tracker(OFFLINE, record_of(tmp_path / "run", resumed=True), print)
        second.metrics(20, {"epoch": 2, "step": 20})
        second.metrics(20, {"epoch": 2, "step": 20})
        second.finish(0)
    attempts = followed(tmp_path / "run")
    assert [attempt.exit_code for attempt in attempts] == [130, 0]
    assert len({attempt.run["run_id"] for attempt in attempts}) == 1
    assert [[row["_step"] for row in attempt.rows] for attempt in attempts] == [[10], [20]]


def test_a_run_that_another_folder_holds_is_another_run(tmp_path: Path) -> None:
    with as_nobody(tmp_path):
        for name in ("a", "b"):
            make_tracker(OFFLINE, record_of(tmp_path / name), print).finish(0)
    (a,), (b,) = followed(tmp_path / "a"), followed(tmp_path / "b")
    assert a.run["run_id"] != b.run["run_id"]


def test_a_trial_of_a_sweep_of_wandb_takes_the_id_that_its_agent_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_nobody(tmp_path):
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
        monkeypatch.setenv("WANDB_RUN_ID", "trial456")
        make_tracker(OFFLINE, record_of(tmp_path / "run"), print).finish(0)
    assert followed(tmp_path / "run")[0].run["run_id"] == "trial456"


def test_a_long_tag_is_refused_before_any_work(tmp_path: Path) -> None:
    with as_nobody(tmp_path), pytest.raises(InvalidInputError, match="tags: W&B takes at most 64 characters"):
        prepare(tiny_config(tmp_path, *SEARCHED, "logger=wandb", f"tags=[{'x' * 65}]"))
    assert list(tmp_path.iterdir()) == []


def test_a_mangled_id_is_refused_with_its_field(tmp_path: Path) -> None:
    (tmp_path / "tracking.json").write_text('{"wandb": "../../x"}')
    with as_nobody(tmp_path), pytest.raises(InvalidInputError, match=r"tracking\.json: field 'wandb' is no id"):
        make_tracker(OFFLINE, record_of(tmp_path), print)


def test_three_jobs_are_three_runs_each_with_its_own_state_and_ask_neither_user_nor_network(tmp_path: Path) -> None:
    """A multirun whose second job diverges, with a proxy and a server of W&B that would see any request."""
    # Not asked here: onnxruntime 1.32 reports to Microsoft some seconds after its import.
    environment = nobody(tmp_path) | {"ORT_DISABLE_TELEMETRY": "1"}
    with Listener() as listener:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_BASE_URL"):
            environment[name] = f"http://127.0.0.1:{listener.port}"
        command = [SEARCH, "-m", *MOBILE, *SHORT, "strategy.pool_size=32", "optimizer.lr=0.1,1e30,0.2", "logger=wandb"]
        done = subprocess.run(
            [*command, "sweep=three"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert listener.requests == []
    assert done.returncode == 1, done.stderr
    folders = [path.parent for path in (tmp_path / "runs" / "three").glob("*/status.json")]
    states = {json.loads((folder / "status.json").read_text())["status"]: folder for folder in folders}
    attempts = {folder: followed(folder) for folder in folders}
    assert len(folders) == 3 and set(states) == {"done", "failed"}
    assert all(len(found) == 1 for found in attempts.values())
    assert sorted(found[0].exit_code for found in attempts.values()) == [0, 0, 1]
    assert attempts[states["failed"]][0].exit_code == 1
    assert len({found[0].run["run_id"] for found in attempts.values()}) == 3
    assert {found[0].run["run_group"] for found in attempts.values()} == {"three"}
    assert done.stdout.count("W&B: offline, as there is no key") == 3
    assert not any(path.name == "wandb" for path in tmp_path.iterdir() if path.name not in ("cache", "config"))
    assert service_processes(tmp_path) == []


class Listener:
    """A port of this machine that keeps the head of each request to it."""

    def __enter__(self) -> "Listener":
        self.requests: list[bytes] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._keep)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()

    def _keep(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(200))


def service_processes(home: Path) -> list[str]:
    """W&B's services that were started with this home folder and still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
        except OSError:  # it has ended, or is another user's
            continue
    return found


def test_an_infeasible_search_alerts_and_its_run_failed_with_its_exit_code(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "runs", *SEARCHED, "logger=wandb", "hardware.mid_tablet.budgets.latency_ms=1e-6")
    with as_nobody(tmp_path):
        for _ in range(2):  # the second time it is known, and nobody is told again
            with pytest.raises(BudgetInfeasibleError):
                run_search(config, lambda line: None)
    (attempt,) = followed(config.run_folder)
    (alert,) = attempt.records["alert"]
    assert alert["title"] == "infeasible" and "mid_tablet" in alert["text"]
    assert attempt.exit_code == 2


def test_an_interrupted_search_alerts_and_its_repetition_ends_the_same_run(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "runs", *SEARCHED, "logger=wandb", "trainer.checkpoint_seconds=0")
    with as_nobody(tmp_path):
        interrupt(config)
        run_search(config, lambda line: None)
    first, second = followed(config.run_folder)
    titles = [alert["title"] for attempt in (first, second) for alert in attempt.records.get("alert", [])]
    assert sorted(titles) == [*(f"budget met: {name}" for name in sorted(DEVICES)), "interrupted"]  # each once
    assert (first.exit_code, second.exit_code) == (130, 0)
    assert first.run["run_id"] == second.run["run_id"]
    told = [[row["epoch"] for row in attempt.rows if "val/acc" in row] for attempt in (first, second)]
    assert told == [[1], [1, 2, 3]]  # whole by itself: of two offline copies W&B keeps the one that it is sent last


def test_a_logger_that_a_search_is_resumed_with_hears_of_the_epochs_before(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, *SEARCHED, "logger=local", "trainer.checkpoint_seconds=0")
    interrupt(config)
    config = tiny_config(tmp_path, *SEARCHED, "logger=csv", "trainer.checkpoint_seconds=0")
    run_search(config, lambda line: None)
    with (config.run_folder / "csv" / "metrics.csv").open(newline="") as file:
        told = [line["value"] for line in csv.DictReader(file) if line["metric"] == "epoch"]
    assert told == ["1", "2", "3"]


def interrupt(config: SearchConfig) -> None:
    """Runs a search and interrupts it when its second epoch is told, which no checkpoint holds yet."""

    def interrupted(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise KeyboardInterrupt(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_search(config, interrupted)
