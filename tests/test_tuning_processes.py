"""Processes that share one study, on every storage, and die at it: no trial is lost."""

import contextlib
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
import toy_study
from optuna.trial import FrozenTrial
from postgres import postgres_url  # noqa: F401  # a fixture

from trainers.tuning.study import attempts_before, current_trials
from trainers.tuning.study_storage import open_storage, storage_url

TRIALS = {"sqlite": 8, "journal": 8, "postgresql+psycopg": 20}


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        url: str = request.getfixturevalue("postgres_url")
        return url
    return f"{tmp_path}/shared.{'db' if request.param == 'sqlite' else 'journal'}"


class Workers:
    """Processes of one study in `folder`; those alive at the end are killed."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder, self.storage, self.started = folder, storage, list[subprocess.Popen[bytes]]()
        self.trials = TRIALS[storage_url(storage).partition(":")[0]]
        self.arguments = [
            *(sys.executable, toy_study.__file__, "-m", f"paths.runs={folder}/runs", f"log={folder}/log"),
            *("x=interval(0,1)", "epoch_seconds=0.03", "hydra.sweeper.pruner.name=none"),
            *(f"hydra.sweeper.n_trials={self.trials}", f"hydra.sweeper.storage='{storage}'"),
            f"hydra.sweeper.study_name={folder.name}",
        ]

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / f"output{len(self.started)}").open("w") as output:
            worker = subprocess.Popen(self.arguments, stdout=output, stderr=subprocess.STDOUT)
        self.started.append(worker)
        return worker

    def output(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("output*")))

    def ends(self) -> Counter[float]:
        """How many times the job of each x came to its end."""
        log = self.folder / "log"
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return Counter(event["x"] for event in events if event["event"] == "end")

    def study(self) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """The trials of the study, and all attempts at them."""
        opened = open_storage(storage_url(self.storage))
        study = optuna.load_study(study_name=self.folder.name, storage=opened)
        found = current_trials(study), study.trials
        if hasattr(opened, "engine"):
            opened.engine.dispose()  # its connections would warn that nobody closed them
        return found


@pytest.fixture
def workers(tmp_path: Path, storage: str) -> Any:
    made = Workers(tmp_path, storage)
    yield made
    for worker in made.started:
        if worker.poll() is None:
            worker.kill()
        worker.wait()


@pytest.mark.slow
def test_processes_that_begin_together_share_a_study_and_take_over_from_one_that_is_killed(workers: Workers) -> None:
    workers.arguments.append(f"kills_itself={workers.folder}/killed")  # the first job kills its process
    codes = sorted(worker.wait() for worker in [workers.start() for _ in range(3)])
    assert codes == [-signal.SIGKILL, 0, 0], workers.output()
    trials, attempts = workers.study()
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert workers.trials <= len(trials) <= workers.trials + 2, "processes that ask at once may each have one more"
    assert set(workers.ends()) == {trial.params["x"] for trial in trials}
    assert any(attempts_before(trial) for trial in attempts)


@pytest.mark.slow
def test_processes_killed_at_any_moment_lose_no_trial(workers: Workers) -> None:
    moments = random.Random(0)
    for _ in range(5):
        worker = workers.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=moments.uniform(1.5, 8.0))
        worker.kill()
        worker.wait()
    assert workers.start().wait() == 0, workers.output()
    trials, _ = workers.study()
    assert len(trials) == workers.trials
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    # A job that ended a moment before its process was killed runs again; in a run folder it would find its result.
    assert set(workers.ends()) == {trial.params["x"] for trial in trials}
