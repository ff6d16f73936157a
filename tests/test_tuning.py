"""`espalier-tune`: real searches as trials of a study; what is told to a study, and by whom."""

import json
import math
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from console import CONF, SEARCH, TUNE, Cli, console, done, imported_by, refused
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from tiny_search import MOBILE, SHORT

from trainers.runs import state as run_state
from trainers.tuning import study_loop, turns
from trainers.tuning.studies import open_study
from trainers.tuning.study_loop import JobsLostError, run_study, usable
from trainers.tuning.trial_queue import Outcome, Turns
from trainers.tuning.tuning_config import TuningConfig, validate_tuning

SPACE = {"x": FloatDistribution(0, 1)}


def config(folder: Path, **changes: Any) -> TuningConfig:
    content = {
        **{"storage": f"{folder}/study.db", "study_name": "s", "n_trials": 9, "n_jobs": 1, "seed": 0},
        **{"timeout_s": None, "objectives": None, "constraints": {}},
        "sampler": {"name": "tpe", "startup_trials": 10},
        "pruner": {"name": "median", "metric": "val/acc", "startup_trials": 1, "warmup_epochs": 0},
    }
    found, problems = validate_tuning(content | changes, dict.fromkeys(["storage", "pruner.name"], "key"))
    assert found is not None and problems == []
    return found


def worker(settings: TuningConfig) -> Turns:
    return Turns(open_study(settings, SPACE, {}), settings, SPACE)


def ended(accuracy: float) -> Outcome:
    return Outcome("done", {"validation_accuracy": accuracy})


# The command


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(TUNE, monkeypatch, capsys, tmp_path, f"paths.runs={tmp_path}/runs")


def test_a_study_of_real_searches_goes_on_where_it_was_and_each_search_runs_alone(tune: Cli, tmp_path: Path) -> None:
    space = (*MOBILE, *SHORT, "strategy.pool_size=32", "optimizer.lr=tag(log,interval(0.003,0.3))")
    first = done(tune("study=lr.db", "trials=1", *space))
    assert "trial 0 (1/1)  done  validation_accuracy" in first
    second = done(tune("study=lr.db", "trials=2", *space))
    assert "trial 0" not in second.partition("best")[0] and "trial 1 (2/2)  done" in second
    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path}/here/lr.db")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert f"next  optuna-dashboard sqlite:///{tmp_path}/here/lr.db" in second
    for trial in study.trials:
        folder = Path(trial.user_attrs["folder"])
        result = json.loads((folder / "result.json").read_text())
        assert trial.values == [result["objective"]["validation_accuracy"]]
        assert trial.constraints == {"utilisation": result["objective"]["utilisation"] - 1}
        name, *arguments = shlex.split(result["command"])
        assert name == "espalier-search"
        assert f"finished already: {folder}" in done(tune(*arguments, app=SEARCH))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trials=0", "jobs=x", "pruner=often"), ("trials: got 0", "jobs: got 'x'", "pruner: got 'often'", "nothing")),
        (("seed=1,2", "study=here"), ("study: got 'here'",)),
        (("seed=1,2", "trials=2,3"), ("trials: got several values",)),
        (
            ("seed=1,2", "objectives={pixel6/accuracy:maximize}"),
            ("pixel6/accuracy: no such figure", "mid_tablet/gflops"),
        ),
        (("seed=1,2", "objectives={seconds:least}"), ("objectives.seconds: got 'least'",)),
        (("seed=1,2", "constraints={utilisation:.nan}"), ("constraints.utilisation",)),
        (("seed=1,2", "objectives={_target_:os.mkdir,path:made}"), ("run:\n  objectives._target_: got 'os.mkdir'",)),
        (("seed=1,2", "hydra/sweeper/sampler=cma"), ("sampler/cma", "gp, nsga2, tpe")),
        (("seed=1,2", "optimizer.rate=0.1"), ("optimizer.rate: no such key", "lr, momentum")),
        (("optimizer.lr=tag(log,interval(0,1))",), ("optimizer.lr=tag(log,interval(0,1))", "above 0")),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_study_is_refused_by_the_names_of_its_keys(
    tune: Cli, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    found = tune(*arguments)
    refused(found, "espalier-tune", *words)
    told = found[2].splitlines()
    assert len(told) == len(set(told))
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "made"] == []


def test_figures_that_may_be_objectives_are_listed_once(tune: Cli) -> None:
    found = tune("seed=1,2", "objectives={speed:maximize,size:minimize}")
    refused(found, "espalier-tune", "speed: no such figure of a search; allowed: ", "size: no such figure of a search")
    assert found[2].count("mid_tablet/gflops") == 1


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_study_import_no_optuna(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, output, packages = imported_by("tune", *arguments, folder=tmp_path)
    assert code == 0 and "study" in output
    assert packages & {"optuna", "torch", "numpy", "sqlalchemy"} == set()


def test_every_sampler_of_the_configuration_is_one_of_the_study(tmp_path: Path) -> None:
    import yaml

    for path in (CONF / "hydra" / "sweeper" / "sampler").glob("*.yaml"):
        settings = config(tmp_path, sampler=yaml.safe_load(path.read_text()))
        assert settings.sampler.name == path.stem


def test_settings_are_refused_by_the_names_that_a_user_gives_them(tmp_path: Path) -> None:
    content = config(tmp_path).model_dump()
    content |= {"n_trials": 0, "more": 1, "sampler": {"name": "gp", "startup_trials": 1, "population": 2}}
    assert validate_tuning(content, {"n_trials": "trials"}) == (
        None,
        [
            "trials: got 0; Input should be greater than or equal to 1",
            "hydra.sweeper.sampler.population: got 2; no such key",
            "hydra.sweeper.more: got 1; no such key",
        ],
    )


# Who tells


def test_a_process_that_comes_back_late_does_not_tell_a_trial_that_another_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path)
    late, other = worker(settings), worker(settings)
    late.owner["host"] = "elsewhere"
    [trial], _ = late.take(1)
    monkeypatch.setattr(run_state, "SILENCE_SECONDS", -1.0)
    [taken], _ = other.take(1)
    assert (taken.number, taken.params) == (trial.number, trial.params)
    assert late.settle(trial, ended(0.1)) is None
    told = other.settle(taken, ended(0.9))
    assert told is not None and told.values == [0.9] and told.user_attrs["attempt"] == 2


def test_twins_wait_for_each_other_and_are_told_as_one(tmp_path: Path) -> None:
    settings = config(tmp_path)
    mine = worker(settings)
    for _ in range(2):
        mine.study.enqueue_trial({"x": 0.25})
    [first], told = mine.take(1)
    assert told == []
    [third], told = mine.take(1)  # the second waits for the first
    assert (first.number, third.number, told) == (0, 2, [])
    mine.settle(first, ended(0.5))
    _, told = mine.take(1)
    assert [(trial.number, trial.values, trial.user_attrs["same_as"]) for trial in told] == [(1, [0.5], 0)]


def test_a_number_told_with_other_last_digits_is_the_same_point(tmp_path: Path) -> None:
    space, settings = {"x": FloatDistribution(0, 0.6, step=0.3)}, config(tmp_path)
    mine = Turns(open_study(settings, space, {}), settings, space)
    found = []
    for x in (0.3, 0.1 + 0.2, 0.6, 0.0):
        mine.study.enqueue_trial({"x": x})
        mine.take(1)
        found.append(mine.tried_all())
    assert found == [False, False, False, True]


def test_jobs_of_which_nothing_is_heard_run_three_times_at_most(tmp_path: Path) -> None:
    mine, batches, lines = worker(config(tmp_path, n_trials=2, n_jobs=2)), list[list[int]](), list[str]()

    def launch(trials: Sequence[optuna.Trial]) -> list[Outcome]:
        batches.append([trial.number for trial in trials])
        raise JobsLostError("a worker was killed")

    run_study(mine, launch, lines.append)
    assert batches == [[0, 1]] * 3
    assert [trial.state for trial in mine.study.trials] == [TrialState.FAIL] * 2
    assert sum("a worker was killed" in line for line in lines) >= 3


def test_waiting_for_another_process_at_a_run_is_no_attempt_and_asks_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = [0.0], list[float]()
    own = SimpleNamespace(  # of the study alone: other threads of this process sleep as well
        time=time.time,
        monotonic=lambda: clock[0],
        sleep=lambda seconds: clock.append(clock.pop() + seconds),
    )
    for module in (study_loop, turns):
        monkeypatch.setattr(module, "time", own)
    mine = worker(config(tmp_path, n_trials=1))
    outcomes = [*[Outcome("busy", {})] * 9, *[Outcome("interrupted", {})] * 2, ended(0.5)]

    def launch(trials: Sequence[optuna.Trial]) -> list[Outcome]:
        asked.append(clock[0])
        return [outcomes.pop(0)]

    run_study(mine, launch, lambda line: None)
    assert asked == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 243, 243]
    assert [(trial.values, trial.user_attrs["attempt"]) for trial in mine.study.trials] == [([0.5], 3)]


def test_other_trials_run_while_one_waits_for_another_process(tmp_path: Path) -> None:
    mine, launched = worker(config(tmp_path, n_trials=3)), list[int]()

    def launch(trials: Sequence[optuna.Trial]) -> list[Outcome]:
        launched.extend(trial.number for trial in trials)
        return [Outcome("busy", {}) if launched == [0] else ended(0.5)]

    run_study(mine, launch, lambda line: None)
    assert launched == [0, 1, 2, 0]


def test_an_interrupted_process_gives_its_trials_back(tmp_path: Path) -> None:
    mine = worker(config(tmp_path))

    def launch(trials: Sequence[optuna.Trial]) -> list[Outcome]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(mine, launch, lambda line: None)
    assert [trial.state for trial in mine.study.trials] == [TrialState.WAITING]


@pytest.mark.parametrize(
    ("objective", "status", "error"),
    [
        ({"a": 0.5, "b": 2}, "done", None),
        ({"a": 0.5}, "refused", "b: no such figure of a job; allowed: a"),
        ({"a": None, "b": 1.0}, "failed", "a is no number: None"),
        ({"a": 0.5, "b": math.inf}, "failed", "b is no number: inf"),
    ],
)
def test_a_missing_number_is_an_error(objective: dict[str, Any], status: str, error: str | None) -> None:
    outcome = usable(Outcome("done", objective), ["a", "b"])
    assert (outcome.status, outcome.error) == (status, error)


# Looking at a study


def test_a_study_opens_in_optuna_dashboard(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="pip install optuna-dashboard")
    settings = config(tmp_path)
    mine = worker(settings)
    [trial], _ = mine.take(1)
    mine.settle(trial, ended(0.5))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).parent / "optuna-dashboard", "--port", str(port), settings.place.url]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        answer = _answer(f"http://127.0.0.1:{port}/api/studies", server)
    finally:
        server.terminate()
        server.wait()
    assert [summary["study_name"] for summary in answer["study_summaries"]] == ["s"]


def _answer(url: str, server: "subprocess.Popen[bytes]") -> Any:
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url) as response:
                return json.load(response)
        except urllib.error.URLError:
            assert server.poll() is None and time.monotonic() < end
            time.sleep(0.1)
