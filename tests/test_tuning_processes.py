"""Processes that share one study, on every storage, and die at it: no trial is lost, and none is run twice."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import toy_study
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from postgres import postgres_url  # noqa: F401  # a fixture

from trainers.runs.state import SILENCE_SECONDS, this_process
from trainers.tuning.study_place import open_storage, study_place
from trainers.tuning.trial_queue import is_lost

TRIALS = {"sqlite": 12, "journal": 12, "postgresql": 30}
PATIENCE_SECONDS = 120.0


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"{tmp_path}/shared.{'db' if request.param == 'sqlite' else 'journal'}"


class Workers:
    """Processes of one study in `folder`; those still alive at the end are killed."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder, self.started = folder, list[subprocess.Popen[str]]()
        self.study, self.trials = folder.name, TRIALS[study_place(storage).kind]
        self.arguments = [
            *(sys.executable, toy_study.__file__, "-m", f"paths.runs={folder}/runs", f"log={folder}/log"),
            *("x=interval(0,1)", "epoch_seconds=0.03", "hydra.sweeper.pruner.name=none"),
            *(f"hydra.sweeper.n_trials={self.trials}", f"hydra.sweeper.storage='{storage}'"),
            f"hydra.sweeper.study_name={self.study}",
        ]

    def start(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(self.arguments, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.started.append(worker)
        return worker

    def events(self) -> list[dict[str, Any]]:
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def ends(self) -> Counter[float]:
        """How many times the job of each x came to its end."""
        return Counter(event["x"] for event in self.events() if event["event"] == "end")

    def kill_at_work(self, worker: subprocess.Popen[str], *, after: int) -> float:
        """Kills a process while it is at a job, once `after` jobs have ended; the x of that job."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            os.kill(worker.pid, signal.SIGSTOP)  # so that it cannot end the job before it is killed
            os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert worker.poll() is None, worker.communicate()[0]
            own = [event for event in self.events() if event["pid"] == worker.pid]
            if sum(self.ends().values()) >= after and own and own[-1]["event"] == "epoch":
                x: float = own[-1]["x"]
                worker.kill()
                worker.wait()
                return x
            os.kill(worker.pid, signal.SIGCONT)
            time.sleep(0.02)
        raise AssertionError("it was never seen at work")


@pytest.fixture
def workers(tmp_path: Path, storage: str) -> Any:
    made = Workers(tmp_path, storage)
    yield made
    for worker in made.started:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()


def trials_of(storage: str, study: str) -> list[FrozenTrial]:
    opened = open_storage(study_place(storage))
    trials = optuna.load_study(study_name=study, storage=opened).trials
    if isinstance(opened, RDBStorage):
        opened.engine.dispose()  # its connections would warn that nobody closed them
    return trials


def test_two_processes_share_a_study_and_killed_ones_lose_no_trial(workers: Workers, storage: str) -> None:
    first, second = workers.start(), workers.start()
    lost = workers.kill_at_work(first, after=workers.trials // 4)
    lost_too = workers.kill_at_work(second, after=workers.trials // 2)
    left = workers.start()
    output, _ = left.communicate(timeout=PATIENCE_SECONDS)
    assert left.returncode == 0, output
    trials = trials_of(storage, workers.study)
    assert [trial.number for trial in trials] == list(range(workers.trials))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    ends = workers.ends()
    assert ends == {trial.params["x"]: 1 for trial in trials}, "each of them ended, and ended once"
    attempts = {trial.params["x"]: trial.user_attrs["attempt"] for trial in trials}
    assert {x for x, count in attempts.items() if count > 1} == {lost, lost_too}
    taken_over = next(event for event in workers.events() if event["event"] == "end" and event["x"] == lost)
    assert taken_over["pid"] == second.pid, "by the process that was left, without a repetition of the command"


@pytest.mark.slow
def test_processes_killed_at_any_moment_lose_no_trial(workers: Workers, storage: str) -> None:
    moments = random.Random(0)
    for _ in range(5):
        worker = workers.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=moments.uniform(1.5, 4.0))
        worker.kill()
        worker.communicate()
    output, _ = workers.start().communicate(timeout=PATIENCE_SECONDS)
    trials = trials_of(storage, workers.study)
    assert [trial.number for trial in trials] == list(range(workers.trials)), output
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    # A job that ended a moment before its process was killed is run again; in a run folder it would find its result.
    assert set(workers.ends()) == {trial.params["x"] for trial in trials}


MINE = this_process()
ELSEWHERE = {**MINE, "host": "elsewhere"}
PARENT = {**MINE, "pid": os.getppid(), "pid_start": None}  # of which only the number is known


@pytest.mark.parametrize(
    ("owner", "silent_s", "expected"),
    [
        (None, 0.0, True),  # killed while it took the trial
        (MINE, 0.0, True),  # which does not hold it
        (ELSEWHERE, SILENCE_SECONDS - 1, False),
        (ELSEWHERE, SILENCE_SECONDS + 1, True),
        (PARENT, 0.0, False),
        (PARENT, SILENCE_SECONDS + 1, True),
        ({**PARENT, "pid_start": "another"}, 0.0, True),  # had the number before
        ({**MINE, "pid_start": "another"}, 0.0, True),
        ({**MINE, "pid": 2**22 + 1}, 0.0, True),  # above the largest number of a process
    ],
)
def test_a_trial_is_lost_with_its_process_and_not_kept_by_another_of_its_number(
    owner: dict[str, Any] | None, silent_s: float, expected: bool
) -> None:
    assert is_lost({"owner": owner, "heartbeat": 1e9 - silent_s}, MINE, now=1e9) is expected
