"""W&B: in which mode it is used, and what it is sent offline, read back by its own reader from its own files."""

import io
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from logged_runs import OFFLINE, ROWS, SVG, Attempt, as_nobody, attempts_at, log_all, nobody, record_of
from PIL import Image
from tiny_search import MOBILE, SHORT

import trainers.loggers.wandb
from search_spaces.errors import InvalidInputError
from trainers.loggers.base import LocalRunLogger, check_logger, make_logger
from trainers.loggers.wandb import decide_mode

SEARCH = Path(sys.executable).parent / "espalier-search"


# Which mode


@pytest.mark.parametrize(
    ("explicit", "environment", "has_key", "mode"),
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
def test_the_explicit_mode_decides_then_the_environment_then_the_key(
    explicit: Any, environment: str | None, has_key: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    surround(environment, has_key, monkeypatch)
    assert decide_mode(explicit) == mode


@pytest.mark.parametrize(
    ("explicit", "environment", "field"),
    [("online", None, "logger.mode"), (None, "online", "WANDB_MODE"), (None, "quiet", "WANDB_MODE")],
)
def test_an_unknown_mode_and_online_without_a_key_are_refused(
    explicit: Any, environment: str | None, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    surround(environment, False, monkeypatch)
    with pytest.raises(InvalidInputError) as error:
        decide_mode(explicit)
    assert error.value.fields == (field,)


def surround(environment: str | None, has_key: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers.loggers.wandb, "has_key", lambda: has_key)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)


def test_a_long_tag_is_refused_before_any_work() -> None:
    with pytest.raises(InvalidInputError) as error:
        check_logger(OFFLINE, tags=["paper", "x" * 65])
    assert error.value.fields == ("tags",)


def test_a_disabled_wandb_logs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with as_nobody(tmp_path):
        monkeypatch.setenv("WANDB_MODE", "disabled")
        assert isinstance(make_logger(OFFLINE, record_of(tmp_path / "run"), print), LocalRunLogger)
    assert list((tmp_path / "run").iterdir()) == []


# What it is sent


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two attempts at a run, the first of which was interrupted; all that W&B wrote lies in it."""
    home = tmp_path_factory.mktemp("home")
    with as_nobody(home):
        first = make_logger(OFFLINE, record_of(home / "run"), print)
        first.metrics(*ROWS[0])
        first.metrics(*ROWS[0])
        first.finish(130)
        log_all(make_logger(OFFLINE, record_of(home / "run"), print), home / "run")
    return home


@pytest.fixture(scope="module")
def attempts(home: Path) -> list[Attempt]:
    return attempts_at(home / "run")


def test_attempts_are_one_run_with_their_exit_codes_and_each_row_once(attempts: list[Attempt]) -> None:
    assert [attempt.exit_code for attempt in attempts] == [130, 0]
    assert len({attempt.run["run_id"] for attempt in attempts}) == 1
    # Each is whole by itself: of two offline copies W&B keeps the one that it is sent last.
    assert [[row["step"] for row in attempt.rows if "epoch" in row] for attempt in attempts] == [[10], [10, 20]]


def test_the_run_is_named_grouped_and_tagged_and_drawn_over_updates_of_weights(attempts: list[Attempt]) -> None:
    run, records = attempts[-1].run, attempts[-1].records
    assert (run["display_name"], run["run_group"], run["job_type"]) == ("key", "sweep", "search")
    assert (run["tags"], run["project"]) == (["paper"], "espalier")
    assert {"seed": 0, "trainer": {"steps": 20}}.items() <= run["config"]["update"].items()
    assert {"glob_name": "*", "step_metric": "step"}.items() <= records["metric"][-1].items()


def test_metrics_tables_pictures_alerts_and_artifacts_arrive(attempts: list[Attempt]) -> None:
    last = attempts[-1]
    rows = [{key: value for key, value in row.items() if not key.startswith("_")} for row in last.rows[:2]]
    assert rows == [{**values, "step": step} for step, values in ROWS]
    table = json.loads(last.media("prune/events"))
    assert (table["columns"], table["data"]) == (["step", "choice"], [[4.0, "k|5"], [None, "k7"]])
    assert Image.open(io.BytesIO(last.media("arch/alphas"))).size == (6, 4)
    assert last.media("architecture/phone").decode() == SVG
    assert [alert["title"] for alert in last.records["alert"]] == ["collapse: entropy"]
    (artifact,) = [a for a in last.records["artifact"] if a["type"] != "run_table"]
    assert (artifact["name"], artifact["type"]) == ("result-key", "result")
    assert json.loads(artifact["metadata"]) == {"parents": ["supernet-key"]}
    (entry,) = artifact["manifest"]["contents"]
    assert entry["path"] == "result.json"
    assert Path(entry["local_path"]).stat().st_size == int(entry["size"])  # where a sync will look for it


def test_nothing_of_it_lies_outside_the_run_folder_and_no_link_leads_out(home: Path, attempts: list[Attempt]) -> None:
    assert [path for path in home.rglob("*") if path.is_symlink()] == []
    # W&B's service logs to the cache, once per process that starts it.
    assert {path.name for path in home.iterdir()} - {"cache"} == {"run"}


@pytest.mark.slow
def test_a_trial_of_a_sweep_of_wandb_takes_the_id_that_its_agent_gave_it_and_another_folder_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_nobody(tmp_path):
        make_logger(OFFLINE, record_of(tmp_path / "a"), print).finish(0)
        make_logger(OFFLINE, record_of(tmp_path / "b"), print).finish(0)
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
        monkeypatch.setenv("WANDB_RUN_ID", "trial456")
        make_logger(OFFLINE, record_of(tmp_path / "c"), print).finish(0)
    a, b, c = (attempts_at(tmp_path / name)[0].run["run_id"] for name in "abc")
    assert a != b and c == "trial456"


# Whole searches


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


def processes_with(home: Path) -> list[str]:
    """Those that were started with this home folder and still run, as W&B's service."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_text())
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.slow
def test_three_jobs_are_three_runs_each_with_its_own_state_and_ask_neither_user_nor_network(tmp_path: Path) -> None:
    """A multirun whose second job diverges, with a proxy and a server of W&B that would see any request."""
    # Not asked here: onnxruntime 1.32 reports to Microsoft some seconds after its import.
    environment = nobody(tmp_path) | {"ORT_DISABLE_TELEMETRY": "1"}
    command = [SEARCH, "-m", *MOBILE, *SHORT, "strategy.pool_size=32", "optimizer.lr=0.1,1e30,0.2", "logger=wandb"]
    with Listener() as listener:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "WANDB_BASE_URL"):
            environment[name] = f"http://127.0.0.1:{listener.port}"
        places: dict[str, Any] = {"cwd": tmp_path, "env": environment, "stdin": subprocess.DEVNULL}
        done = subprocess.run([*command, "sweep=three"], **places, capture_output=True, text=True)
        assert listener.requests == []
    assert done.returncode == 1, done.stderr
    folders = [path.parent for path in (tmp_path / "runs" / "three").glob("*/status.json")]
    found = {folder: attempts_at(folder) for folder in folders}
    assert [len(attempts) for attempts in found.values()] == [1, 1, 1]
    ends = [(json.loads((f / "status.json").read_text())["status"], found[f][0].exit_code) for f in folders]
    assert sorted(ends) == [("done", 0), ("done", 0), ("failed", 1)]
    assert len({attempts[0].run["run_id"] for attempts in found.values()}) == 3
    assert {attempts[0].run["run_group"] for attempts in found.values()} == {"three"}
    assert done.stdout.count("W&B: offline, as there is no key") == 3
    assert not any(path.name == "wandb" for path in tmp_path.iterdir())
    assert processes_with(tmp_path) == []
