"""Attempts and jobs at W&B: which run each is, how it ended, and that nothing else is asked or left around them."""

import csv
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_search import MOBILE, SHORT, tiny_config
from tracked_runs import DEVICES, OFFLINE, SEARCHED, as_nobody, followed, nobody, record_of

from hardware_models.infeasible import BudgetInfeasibleError
from search_spaces.errors import InvalidInputError
from trainers.cli.search import run_search
from trainers.loggers.logger import make_tracker
from trainers.runs.config import SearchConfig

SEARCH = Path(sys.executable).parent / "espalier-search"


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
        run_search(tiny_config(tmp_path, *SEARCHED, "logger=wandb", f"tags=[{'x' * 65}]"), print)
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
