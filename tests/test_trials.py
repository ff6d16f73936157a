"""The trials of a study as its processes share them: taken over, run again, reported once, and given back."""

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from studies import config, ended, lose, trials_of

from search_spaces.errors import InvalidInputError
from trainers.tuning import trials as module
from trainers.tuning.study import current_trials
from trainers.tuning.study_lines import last_lines
from trainers.tuning.study_loop import MAX_ATTEMPTS, run_study, usable
from trainers.tuning.trials import PROCESS, Outcome, Trials
from trainers.tuning.tuning_config import TuningConfig

Batches = list[list[int]]  # of numbers of trials


@pytest.fixture(params=["study.db", "study.journal"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> TuningConfig:
    return config(tmp_path, storage=f"{tmp_path}/{request.param}", n_trials=3)


def run(trials: Trials, outcomes: list[Any]) -> Batches:
    """Runs a study whose jobs end so, one after the other, and then well; the batches."""
    batches = Batches()

    def launch(batch: Sequence[optuna.Trial]) -> list[Outcome]:
        batches.append([trial.number for trial in batch])
        found = [outcomes.pop(0) if outcomes else ended(0.5) for _ in batch]
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return found

    run_study(trials, launch, lambda line: None, wait=lambda seconds: None)
    return batches


def states(trials: Trials) -> list[str]:
    return [trial.state.name for trial in current_trials(trials.study)]


# Processes that share a study


def test_a_lost_trial_is_run_by_another_process_and_not_reported_by_the_first(settings: TuningConfig) -> None:
    first, second = trials_of(settings), trials_of(settings)
    [lost] = first.ask(1)
    lost.report(0.5, 1)
    [other] = second.ask(1)
    assert other.params != lost.params  # as long as the first process may be alive
    lose(lost)
    [again] = second.ask(1)
    assert (again.params, second.attempts(again)) == (lost.params, [lost.number, again.number])
    assert first.tell(lost, ended(0.1)) is None
    reported = second.tell(again, ended(0.9))
    assert reported is not None and (reported.values, reported.intermediate_values) == ([0.9], {1: 0.5})


def test_a_trial_whose_process_died_before_its_first_sign_is_run(
    settings: TuningConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = trials_of(settings)
    trials.storage.create_new_trial(trials.study._study_id)  # as `ask` begins
    monkeypatch.setattr("trainers.runs.state.SILENCE_SECONDS", -1)
    assert run(trials, []) == [[1], [2], [3]]  # the first repeats it
    assert states(trials) == ["COMPLETE"] * 3


def test_a_process_waits_for_trials_of_others_until_the_study_has_all(settings: TuningConfig) -> None:
    mine, other = trials_of(settings), trials_of(settings)
    [trial] = other.ask(1)
    waited = list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        other.tell(trial, ended(0.5))

    run_study(mine, lambda batch: [ended(0.5)] * len(batch), lambda line: None, wait=wait)
    assert len(waited) == 1
    assert states(mine) == ["COMPLETE"] * 3


def test_a_trial_is_signed_while_its_job_runs(settings: TuningConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trials, signed = trials_of(settings), threading.Event()
    [trial] = trials.ask(1)
    first, sign = trial.user_attrs[PROCESS], trials._sign
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(trials, "_sign", lambda trial: (sign(trial), signed.set()))
    with trials.alive():
        assert signed.wait(60)
    again = trials.study.trials[0].user_attrs[PROCESS]
    assert again["time"] > first["time"] and {**again, "time": 0} == {**first, "time": 0}


# Jobs that do not end


def test_an_interrupted_study_runs_its_trial_again_with_the_same_parameters(settings: TuningConfig) -> None:
    trials = trials_of(settings)
    with pytest.raises(KeyboardInterrupt):
        run(trials, [ended(0.1), KeyboardInterrupt()])
    assert states(trials) == ["COMPLETE", "WAITING"]
    interrupted = trials.study.trials[1].params
    again = trials_of(settings)
    run(again, [])
    assert states(again) == ["COMPLETE"] * 3
    assert interrupted in [trial.params for trial in current_trials(again.study)]


def test_jobs_that_are_lost_run_three_times_at_most(tmp_path: Path) -> None:
    trials = trials_of(config(tmp_path, n_trials=1))
    assert len(run(trials, [Outcome("interrupted", {})] * 9)) == MAX_ATTEMPTS
    assert states(trials) == ["FAIL"]


def test_a_failed_trial_runs_again_when_the_command_is_repeated(settings: TuningConfig) -> None:
    trials = trials_of(settings)
    run(trials, [ended(0.1), Outcome("failed", {}, error="a reason")])
    assert sorted(states(trials)) == ["COMPLETE", "COMPLETE", "FAIL"]
    failed = trials.study.trials[1].params
    again = trials_of(settings)
    batches = run(again, [])
    assert [[again.study.trials[number].params for number in batch] for batch in batches] == [[failed]]
    assert states(again) == ["COMPLETE"] * 3


def test_a_trial_whose_run_folder_is_in_use_runs_when_that_run_has_ended(tmp_path: Path) -> None:
    trials = trials_of(config(tmp_path, n_trials=2, n_jobs=2))
    assert run(trials, [Outcome("busy", {}), ended(0.1), Outcome("busy", {})]) == [[0, 1], [0], [0]]
    assert states(trials) == ["COMPLETE"] * 2


def test_a_study_all_of_whose_trials_are_refused_ends(tmp_path: Path) -> None:
    trials = trials_of(config(tmp_path))
    with pytest.raises(InvalidInputError, match="a reason"):
        run(trials, [Outcome("refused", {}, error="a reason")])
    assert len(trials.study.trials) == 1


def test_the_time_of_a_study_ends_it_between_trials(tmp_path: Path) -> None:
    assert run(trials_of(config(tmp_path, timeout_s=1e-9)), []) == []


# What is reported


@pytest.mark.parametrize(
    ("objective", "status"),
    [
        ({"a": 0.5, "b": 2}, "done"),
        ({"a": 0.5}, "refused"),
        ({"a": None, "b": 1.0}, "failed"),
        ({"a": 0.5, "b": math.inf}, "failed"),
    ],
)
def test_a_missing_number_is_an_error(objective: dict[str, Any], status: str) -> None:
    outcome = usable(Outcome("done", objective), ["a", "b"])
    assert outcome.status == status
    assert (outcome.error is None) == (status == "done")


@pytest.mark.parametrize(
    ("outcome", "state", "constraints"),
    [
        (ended(0.5, seconds=6), TrialState.COMPLETE, {"seconds": -2}),
        (ended(0.5, seconds=9), TrialState.COMPLETE, {"seconds": 1}),
        (Outcome("infeasible", {}), TrialState.PRUNED, {"budgets": 1}),
        (Outcome("stopped", {}), TrialState.PRUNED, {}),
        (Outcome("failed", {}, error="a reason"), TrialState.FAIL, {}),
    ],
    ids=["within its limits", "over a limit", "infeasible", "pruned", "failed"],
)
def test_only_a_trial_within_every_constraint_is_an_answer(
    tmp_path: Path, outcome: Outcome, state: TrialState, constraints: dict[str, float]
) -> None:
    settings = config(tmp_path, constraints={"seconds": 8})
    trials = trials_of(settings)
    [trial] = trials.ask(1)
    reported = trials.tell(trial, outcome)
    assert reported is not None and (reported.state, reported.constraints) == (state, constraints)
    is_answer = constraints == {"seconds": -2}
    assert [best.number for best in trials.study.best_trials] == [0] * is_answer
    assert any(line.startswith("no trial has ") for line in last_lines(trials.study, settings)) != is_answer
