"""`espalier-tune`: what it refuses, what it is continued with, how it ends, and who can open its study."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from console import SEARCH, TUNE, Cli, console, done, imported_by, refused
from optuna.trial import TrialState
from postgres import postgres_url  # noqa: F401  # a fixture
from surroundings import clear_environment
from tiny_search import TINY

import trainers.cli.tune
from search_spaces.errors import keys_of
from trainers.runs.exit_status import RunInUseError
from trainers.tuning import study_loop

FOUND = {"status": "done", "objective": {"validation_accuracy": 0.5, "utilisation": 0.5}}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    clear_environment(monkeypatch)
    return console(TUNE, monkeypatch, capsys, tmp_path, f"paths.runs={tmp_path}/runs", *TINY)


@pytest.fixture
def tune(command: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`espalier-tune` whose searches end at once, as `outcomes` say one after the other; well, if they say nothing."""

    def call(*arguments: str, outcomes: list[Any] | None = None) -> tuple[int, str, str]:
        def search(*given: Any) -> dict[str, Any]:
            outcome = outcomes.pop(0) if outcomes else FOUND
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(trainers.cli.tune, "work", search)
        return command("pruner=none", *arguments)

    return call


# Real searches


@pytest.mark.slow
def test_a_study_of_real_searches_goes_on_where_it_was_and_each_search_runs_alone(command: Cli, tmp_path: Path) -> None:
    space = "optimizer.lr=tag(log,interval(0.003,0.3))"
    done(command("study=lr.db", "trials=1", space))
    assert "(2/2)  done  validation_accuracy" in done(command("study=lr.db", "trials=2", space))
    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path}/here/lr.db")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    for trial in study.trials:
        folder = Path(trial.user_attrs["folder"])
        result = json.loads((folder / "result.json").read_text())
        assert trial.values == [result["objective"]["validation_accuracy"]]
        assert trial.constraints == {"utilisation": result["objective"]["utilisation"] - 1}
        name, *arguments = shlex.split(result["command"])
        assert name == "espalier-search"
        assert f"finished already: {folder}" in done(command(*arguments, app=SEARCH))


# What is refused


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("trials=0", "jobs=x", "pruner=often"), ("trials: ", "jobs: ", "pruner: ", "nothing to search over")),
        (("seed=1,2", "study=here"), ("study: ",)),
        (("seed=1,2", "trials=2,3"), ("trials: ",)),
        (("seed=1,2", "objectives={pixel6/accuracy:maximize}"), ("pixel6/accuracy: ", "mid_tablet/gflops")),
        (("seed=1,2", "objectives={seconds:least}"), ("objectives.seconds: ",)),
        (("seed=1,2", "constraints={utilisation:.nan}"), ("constraints.utilisation: ",)),
        (("seed=1,2", "objectives={_target_:os.mkdir,path:made}"), ("objectives._target_: ",)),
        (("seed=1,2", "hydra/sweeper/sampler=cma"), ("sampler: got cma", "gp, nsga2, tpe")),
        (("seed=1,2", "optimizer.rate=0.1"), ("optimizer.rate: ",)),
        (("optimizer.lr=tag(log,interval(0,1))",), ("optimizer.lr=tag(log,interval(0,1)): ",)),
        (("seed=1,2", "trials=-1", "margin=lower"), ("trials: ", "margin: ")),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_study_is_refused_by_the_names_of_its_keys_before_anything_is_made(
    command: Cli, tmp_path: Path, arguments: tuple[str, ...], keys: tuple[str, ...]
) -> None:
    refused(command(*arguments), "espalier-tune", *keys)
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name == "made"] == []


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_study_import_no_optuna(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, output, packages = imported_by("tune", *arguments, folder=tmp_path)
    assert code == 0 and "study" in output
    assert packages & {"optuna", "torch", "numpy", "sqlalchemy"} == set()


# What a study is continued with


def test_a_study_goes_on_with_the_values_it_was_begun_with_and_is_refused_with_others(tune: Cli) -> None:
    searched = "optimizer=sgd,adamw"
    done(tune(searched, "optimizer.lr=0.05", "trials=1"))
    no_matter = ("trainer.threads=1", "logger=csv", "tags=[again]")  # no result depends on them
    assert "(2/2)  done" in done(tune(searched, "optimizer.lr=0.05", "trials=2", *no_matter))
    code, _, errors = tune(searched, "optimizer.lr=0.5", "trials=3")
    assert (code, keys_of(errors)[-1]) == (2, "optimizer.lr"), errors


# How a study ends


def test_a_study_ends_as_the_last_attempts_at_its_trials_did(tune: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_loop, "BUSY_SECONDS", 0.0)
    outcomes: list[Any] = [RunInUseError("another process is at it"), FOUND, FOUND]
    code, output, _ = tune("seed=range(99)", "trials=2", outcomes=outcomes)
    assert (code, outcomes) == (0, [])
    assert "study tune: 2 done" in output


def test_an_interrupted_study_is_continued_by_the_same_command(tune: Cli) -> None:
    command = ("seed=range(99)", "trials=2")
    assert tune(*command, outcomes=[FOUND, KeyboardInterrupt(signal.SIGTERM)])[0] == 143
    assert "study tune: 2 done" in done(tune(*command))


def test_an_internal_error_is_no_wrong_configuration(tune: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> str:
        raise ValueError("a wrong line")

    monkeypatch.setattr(study_loop, "trial_line", fail)
    code, _, errors = tune("seed=range(99)")
    assert (code, errors.splitlines()[0]) == (1, "Traceback (most recent call last):")


def test_a_server_that_is_down_as_a_study_begins_is_one_line(tune: Cli) -> None:
    first = tune("seed=range(99)", "study=postgresql://me@127.0.0.1:1/base")
    refused(first, "espalier-tune", "postgresql+psycopg://me@127.0.0.1:1/base", code=1)
    assert first[2].count("\n") == 1


# `espalier-tune` with a search that removes the database of its study, and may then get a signal; its first arguments
# are a URL of the server and the number of the signal.
LOSES_ITS_DATABASE = """
import signal
import sys
import psycopg
import trainers.cli.tune

server, number = sys.argv.pop(1), int(sys.argv.pop(1))

def search(*arguments):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE away WITH (FORCE)")
    if number:
        signal.raise_signal(number)
    return {"status": "done", "objective": {"validation_accuracy": 0.5, "utilisation": 0.5}}

trainers.cli.tune.work = search
trainers.cli.tune.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(0, 1), (signal.SIGTERM, 143)])
def test_a_database_that_goes_away_during_a_trial_is_an_error_and_hides_no_signal(
    postgres_url: str,  # noqa: F811
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE away")
    study = postgres_url.removesuffix("postgres") + "away"
    # In a process of its own, whose connections nobody closes.
    command = [sys.executable, "-c", LOSES_ITS_DATABASE, postgres_url, str(number), *TINY, "seed=1,2", f"study={study}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith("espalier-tune: ")
    assert ("/away: " in ended.stderr) == (number == 0)
    assert "Traceback" not in ended.stderr
