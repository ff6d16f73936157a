"""How a study ends when its storage goes away or its disk is full, and what it says of trials that did not end well."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from console import TUNE, Cli, console, done, refused
from optuna.storages import JournalStorage
from postgres import postgres_url  # noqa: F401  # a fixture
from surroundings import clear_environment, fill
from test_tuning import config, ended, worker
from tiny_search import TINY

import trainers.cli.search
from trainers.runs.exit_status import RunInUseError
from trainers.tuning import study_loop, turns
from trainers.tuning.study_journal import Journal
from trainers.tuning.study_lines import last_lines
from trainers.tuning.study_loop import MAX_ATTEMPTS, run_study
from trainers.tuning.study_place import StudyError, locked, study_place
from trainers.tuning.trial_queue import Outcome

OBJECTIVE = {"validation_accuracy": 0.5, "utilisation": 0.5}
Search = Callable[..., dict[str, Any]]


def found(**more: Any) -> dict[str, Any]:
    return {"status": "done", "objective": OBJECTIVE | more}


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """`espalier-tune` over seeds, with the function that stands for a search as its first argument."""
    clear_environment(monkeypatch)
    called = console(TUNE, monkeypatch, capsys, tmp_path, f"paths.runs={tmp_path}/runs", *TINY, "seed=range(99)")

    def call(search: Search, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(trainers.cli.search, "run_search", search)
        return called("pruner=none", *arguments)

    return call


# A journal file


def test_a_full_disk_ends_a_study_in_words_and_the_same_command_finishes_it(tune: Cli, small_disk: Path) -> None:
    def search_and_fill(*arguments: Any, **more: Any) -> dict[str, Any]:
        fill(small_disk)
        return found(**{f"figure {number}": 0.5 for number in range(999)})  # more than a page of the disk

    study = small_disk / "s.journal"
    first = tune(search_and_fill, f"study={study}", "trials=2")
    refused(first, "espalier-tune", f"cannot write {study}: No space left on device; free space", code=1)
    (small_disk / "filling").unlink()
    output = done(tune(lambda *arguments, **more: found(), f"study={study}", "trials=2"))
    assert "study tune: 2 done" in output


def test_a_journal_cut_short_anywhere_goes_on_from_its_last_whole_record(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    settings = config(tmp_path, storage=str(path))
    mine = worker(settings)
    [trial], _ = mine.take(1)
    mine.settle(trial, ended(0.5))
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last) + 1):
        for fused in (b"", b'{"op_code":9}\n'):  # as another program may have added it
            path.write_bytes(whole[: len(whole) - cut] + (fused if cut < len(last) else b""))
            JournalStorage(Journal(path)).create_new_study([], f"more {cut}")
            lines = path.read_bytes().splitlines(keepends=True)
            assert b"".join(lines[:-1]) == whole[: len(whole) - len(last)]
            assert f'"study_name":"more {cut}"'.encode() in lines[-1]


def test_a_journal_torn_in_the_middle_is_told_in_words(tune: Cli, tmp_path: Path) -> None:
    study = tmp_path / "s.journal"
    done(tune(lambda *arguments, **more: found(), f"study={study}", "trials=1"))
    lines = study.read_bytes().splitlines(keepends=True)
    study.write_bytes(b"".join([*lines[:3], lines[3][:20], *lines[4:]]))
    again = tune(lambda *arguments, **more: found(), f"study={study}", "trials=2")
    refused(again, "espalier-tune", f"{study} is not whole, a line within it is no record of a study", code=1)


def test_a_file_of_somebody_else_that_holds_json_is_left_as_it_is(tune: Cli, tmp_path: Path) -> None:
    study = tmp_path / "mine.log"
    study.write_text('{"my": "thesis"}')
    refused(tune(found, f"study={study}"), "espalier-tune", f"{study} is no journal file of a study")
    assert study.read_text() == '{"my": "thesis"}'


# A database


def test_a_server_that_is_down_as_a_study_begins_is_told_in_words(tune: Cli) -> None:
    first = tune(found, "study=postgresql://me@127.0.0.1:1/base")
    refused(first, "espalier-tune", "postgresql+psycopg://me@127.0.0.1:1/base does not answer", code=1)
    assert first[2].count("\n") == 1


# `espalier-tune` with a search that removes the database of its study, and may then get a signal; its first arguments
# are a URL of the server and the number of the signal.
LOSES_ITS_DATABASE = """
import signal
import sys
import psycopg
import trainers.cli.search
from trainers.cli.tune import main

server, number = sys.argv.pop(1), int(sys.argv.pop(1))

def run_search(*arguments, **more):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE away WITH (FORCE)")
    if number:
        signal.raise_signal(number)
    return {"status": "done", "objective": {"validation_accuracy": 0.5, "utilisation": 0.5}}

trainers.cli.search.run_search = run_search
main()
"""


def study_that_loses_its_database(url: str, folder: Path, *, number: int) -> "subprocess.CompletedProcess[str]":
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE away")
    study = url.removesuffix("postgres") + "away"
    # In a process of its own, whose connections nobody closes.
    command = [sys.executable, "-c", LOSES_ITS_DATABASE, url, str(number), *TINY, "seed=1,2", f"study={study}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_a_database_that_goes_away_during_a_trial_is_told_in_words(
    postgres_url: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    ended = study_that_loses_its_database(postgres_url, tmp_path, number=0)
    result = ended.returncode, ended.stdout, ended.stderr
    refused(result, "espalier-tune", "/away does not answer: ", "; the same command continues", code=1)
    assert ended.stderr.count("\n") == 1
    assert "1 job: 1 done" in ended.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_database_is_away_ends_a_study_as_one(
    postgres_url: str,  # noqa: F811
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    ended = study_that_loses_its_database(postgres_url, tmp_path, number=number)
    assert ended.returncode == code
    assert ended.stderr.startswith("espalier-tune: interrupted; ")
    assert "1 job: 1 interrupted" in ended.stdout


def lose(url: str, *, state: str) -> None:
    """Ends the connection that has asked for the lock of a place and is in this state, as soon as there is one."""
    which = "query LIKE 'SELECT pg_advisory_xact_lock%%' AND state = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        end = time.monotonic() + 60
        while not connection.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}", [state]
        ).fetchall():
            assert time.monotonic() < end
            time.sleep(0.02)


def test_a_connection_lost_while_it_waits_for_the_lock_or_holds_it_is_told_in_words(
    postgres_url: str,  # noqa: F811
) -> None:
    place = study_place(postgres_url)

    def wait() -> None:
        with locked(place):
            raise AssertionError("it never had the lock")

    def hold() -> None:
        with ThreadPoolExecutor(1) as threads, locked(place):
            waiting = threads.submit(wait)
            lose(postgres_url, state="active")
            with pytest.raises(StudyError, match=r"does not answer: .*; the same command continues"):
                waiting.result(timeout=60)
            lose(postgres_url, state="idle in transaction")

    with pytest.raises(StudyError, match=r"does not answer: .*; the same command continues"):
        hold()


# Trials that did not end well


def test_a_trial_given_back_on_a_signal_has_its_attempts_left(tmp_path: Path) -> None:
    settings = config(tmp_path, n_trials=1)

    def interrupt(trials: Any) -> list[Outcome]:
        raise KeyboardInterrupt

    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            run_study(worker(settings), interrupt, lambda line: None)
    mine, outcomes = worker(settings), [*[Outcome("interrupted", {})] * (MAX_ATTEMPTS - 1), ended(0.5)]
    run_study(mine, lambda trials: [outcomes.pop(0)], lambda line: None)
    assert [(trial.values, trial.user_attrs["attempt"]) for trial in mine.study.trials] == [([0.5], MAX_ATTEMPTS)]


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome("failed", {}, error="a reason"), "no trial has come to its end"),
        (Outcome("stopped", {}), "no trial has come to its end"),
        (Outcome("infeasible", {}), "no trial has met every constraint"),
        (Outcome("done", {"validation_accuracy": 0.5, "seconds": 9}), "no trial has met every constraint"),
    ],
    ids=lambda value: value.status if isinstance(value, Outcome) else "",
)
def test_what_a_study_without_a_best_trial_lacks_is_told(tmp_path: Path, outcome: Outcome, told: str) -> None:
    settings = config(tmp_path, constraints={"seconds": 8})
    mine = worker(settings)
    [trial], _ = mine.take(1)
    mine.settle(trial, outcome)
    assert last_lines(mine.study, settings)[2:-1] == [told]


def test_a_study_ends_as_the_last_attempts_at_its_trials_did(tune: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "FIRST_PAUSE_SECONDS", 0.0)
    outcomes: list[Any] = [RunInUseError("another process is at it"), found(), found()]

    def search(*arguments: Any, **more: Any) -> dict[str, Any]:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    code, output, _ = tune(search, "trials=2")
    assert (code, outcomes) == (0, [])
    assert "study tune: 2 done" in output and "2 jobs: 2 done" in output


def test_a_fault_while_a_study_runs_is_no_wrong_configuration(tune: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> str:
        raise ValueError("a wrong line")

    monkeypatch.setattr(study_loop, "trial_line", fail)
    code, output, errors = tune(lambda *arguments, **more: found())
    assert (code, errors.splitlines()[0]) == (1, "Traceback (most recent call last):")
    assert errors.endswith("\nespalier-tune: ValueError: a wrong line; internal error, please report it\n")
    assert "1 job: 1 done" in output
