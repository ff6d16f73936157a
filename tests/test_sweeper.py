"""The Optuna sweeper, through a real Hydra application of cheap jobs and real studies on disk."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import toy_study
from hydra.core.global_hydra import GlobalHydra
from optuna.trial import FrozenTrial, TrialState

from search_spaces.errors import InvalidInputError
from trainers.tuning.study import attempts_before, current_trials

Toy = Callable[..., "Ended"]


class Ended:
    """What a command of the toy left: its lines, the trials of its study, and what its jobs wrote."""

    def __init__(self, output: str, folder: Path, storage: str | None) -> None:
        self.lines = output.splitlines()
        self.study = optuna.load_study(study_name="toy", storage=storage or f"sqlite:///{folder}/runs/toy/study.db")
        self.trials: list[FrozenTrial] = self.study.trials
        log = folder / "log"
        self.events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def count(self, event: str) -> int:
        return sum(entry["event"] == event for entry in self.events)

    def states(self) -> Counter[str]:
        return Counter(trial.state.name for trial in self.trials)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Toy:
    """Runs the toy as a sweep of this process."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def call(*arguments: str, storage: str | None = None) -> Ended:
        GlobalHydra.instance().clear()
        own = [f"paths.runs={tmp_path}/runs", f"log={tmp_path}/log"]
        monkeypatch.setattr(sys, "argv", ["toy_study.py", "-m", *own, *arguments])
        toy_study.job()
        return Ended(capsys.readouterr().out, tmp_path, storage)

    return call


# Before any work


def test_a_setting_is_refused_by_its_key_before_a_study_is_made(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        toy("x=0.1", "hydra.sweeper.n_trials=0", "hydra.sweeper.sampler.startup_trials=0")
    assert refusal.value.fields == ("hydra.sweeper.n_trials", "hydra.sweeper.sampler.startup_trials")
    assert not (tmp_path / "runs").exists()


def test_an_objective_that_no_job_returns_ends_the_study(toy: Toy) -> None:
    with pytest.raises(InvalidInputError, match="accuracy: "):
        toy("x=interval(0,1)", "hydra.sweeper.objectives={accuracy:maximize}")


# Through a study


def test_choices_reach_the_job_as_they_were_written(toy: Toy) -> None:
    ended = toy("curve=choice([1,2],[3,'a b'])", "x=interval(0,1)", "hydra.sweeper.n_trials=4")
    assert {trial.params["curve"] for trial in ended.trials} <= {"[1,2]", "[3,'a b']"}
    assert ended.states() == {"COMPLETE": 4}


def test_the_same_command_with_more_trials_goes_on_as_one_command_would_have(toy: Toy, tmp_path: Path) -> None:
    space = ("x=interval(0,1)", "n=range(1,9)", "kind=plain,fancy", "hydra.sweeper.sampler.startup_trials=2")
    toy(*space, "hydra.sweeper.n_trials=3")
    pieces = toy(*space, "hydra.sweeper.n_trials=6")
    assert pieces.count("begin") == 6
    whole = toy(*space, "hydra.sweeper.n_trials=6", "sweep=whole", "hydra.sweeper.study_name=toy",
                storage=f"sqlite:///{tmp_path}/runs/whole/study.db")  # fmt: skip
    assert [trial.params for trial in pieces.trials] == [trial.params for trial in whole.trials]


def test_the_others_go_on_after_a_failed_job_and_the_same_command_runs_it_again(toy: Toy) -> None:
    command = ("x=range(0.0,1.0,0.1)", "fails_above=0.45", "hydra.sweeper.n_trials=5")
    first = toy(*command)
    failed = [trial for trial in first.trials if trial.state == TrialState.FAIL]
    assert failed and first.states()["COMPLETE"] == 5 - len(failed) and len(first.trials) == 5
    assert all("is too large" in trial.user_attrs["error"] for trial in failed)
    second = toy(*command)
    again = second.trials[5:]
    assert [trial.params for trial in again] == [trial.params for trial in failed]
    assert second.count("begin") - first.count("begin") == len(again)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "gp"])
def test_the_front_of_every_sampler_is_that_of_its_trials_within_every_limit(toy: Toy, sampler: str) -> None:
    ended = toy(
        "x=interval(0,1)",
        "n=range(1,7)",
        "infeasible_above=0.6",
        f"hydra/sweeper/sampler={sampler}",
        "hydra.sweeper.n_trials=12",
        "hydra.sweeper.objectives={validation_accuracy:maximize,seconds:minimize}",
        "hydra.sweeper.constraints={utilisation:0.7}",
    )
    for trial in ended.trials:
        infeasible = trial.params["x"] > 0.6
        assert trial.state == (TrialState.PRUNED if infeasible else TrialState.COMPLETE)
        assert infeasible == (trial.constraints == {"budgets": 1.0})
    within = [t.values for t in ended.trials if t.state == TrialState.COMPLETE and t.params["n"] / 6 <= 0.7]
    front = [
        (a, s) for a, s in within if not any(b >= a and t <= s and (b, t) != (a, s) for b, t in within)
    ]  # as its definition says
    assert sorted(tuple(trial.values) for trial in ended.study.best_trials) == sorted(front)


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_trials_are_pruned_and_the_best_is_not(toy: Toy, pruner: str) -> None:
    ended = toy("x=interval(0,1)", f"hydra.sweeper.pruner.name={pruner}", "epochs=5", "hydra.sweeper.n_trials=14")
    stopped = [trial for trial in ended.trials if trial.state == TrialState.PRUNED]
    assert stopped and ended.count("epoch") <= 5 * 14 - 2 * len(stopped)
    assert all(trial.user_attrs["status"] == "stopped" for trial in stopped)
    accuracies = {trial.number: toy_study.objective(trial.params["x"], 3, "plain") for trial in ended.trials}
    best = max(accuracies, key=lambda number: accuracies[number]["validation_accuracy"])
    assert ended.study.best_trials[0].number == best


@pytest.mark.slow
def test_a_batch_whose_worker_is_killed_runs_again(toy: Toy, tmp_path: Path) -> None:
    ended = toy(
        "x=interval(0,1)",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.n_trials=4",
        f"kills_itself={tmp_path}/killed",
    )
    assert (tmp_path / "killed").exists()
    assert [trial.state.name for trial in current_trials(ended.study)] == ["COMPLETE"] * 4
    assert any(attempts_before(trial) for trial in ended.trials)


@pytest.mark.slow
def test_results_of_submitit_jobs_are_reported_to_the_study(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the processes of its jobs find the toy
    ended = toy(
        "x=interval(0,1)", "hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2"
    )
    assert ended.states() == {"COMPLETE": 2}


def test_lines_tell_each_trial_and_how_to_look_at_the_study(toy: Toy, tmp_path: Path) -> None:
    ended = toy("n=range(1,9)", "hydra.sweeper.n_trials=3")
    assert sum(line.startswith("trial ") and "(" in line for line in ended.lines) == 3
    assert ended.lines[-1] == f"next  optuna-dashboard sqlite:///{tmp_path}/runs/toy/study.db"
