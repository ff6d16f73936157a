"""A sweep's list of jobs beside its run folders: what became of each, and what is left to do."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from surroundings import clear_environment
from test_status import NOW, write_run

from trainers.runs.exit_status import RunFolderError, status_with
from trainers.runs.files import write_text
from trainers.runs.state import state_of
from trainers.sweeps import sweep
from trainers.sweeps.records import FILE, Job, read_sweep
from trainers.sweeps.survey import NEVER_BEGAN, exit_code, job_rows, summary, survey, sweep_exit_codes
from trainers.sweeps.sweep import begin_sweep, end_sweep, record_end, stop_jobs


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)


def begin(folder: Path, *, command: str = "all", seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    jobs = [Job(overrides=[f"seed={seed}"], folder=f"key{seed}") for seed in seeds]
    begin_sweep(folder, command=command, launcher="basic", jobs=jobs)


def rewrite(folder: Path, **fields: Any) -> None:
    """The list of a folder with other fields, as another process or host would have written it."""
    found = read_sweep(folder)
    assert found is not None
    write_text(folder / FILE, found.model_copy(update=fields).model_dump_json())


def states(folder: Path, *, now: datetime | None = None) -> tuple[dict[str, str], list[str], int]:
    """Each row of `espalier-status` with its state, the commands to repeat, and the exit code."""
    rows, commands = survey(folder, now=now)
    return {row.run: row.state for row in rows}, commands, exit_code(rows)


def test_jobs_are_queued_while_their_sweep_runs_and_never_began_when_it_has_ended(tmp_path: Path) -> None:
    begin(tmp_path)
    write_run(tmp_path / "key0", "done")
    write_run(tmp_path / "key1", "failed")  # by an earlier command
    assert states(tmp_path) == ({"key0": "done", "key1": "queued", "job 2": "queued"}, [], 4)
    end_sweep()
    assert states(tmp_path) == ({"key0": "done", "key1": "failed", "job 2": NEVER_BEGAN}, ["all"], 1)
    begin(tmp_path)
    for number in (1, 2):
        write_run(tmp_path / f"key{number}", "unmet", started=datetime.now(UTC).isoformat())
    end_sweep()
    assert states(tmp_path) == ({"key0": "done", "key1": "unmet", "key2": "unmet"}, [], 3)


def test_a_job_that_was_refused_is_one_with_its_reason(tmp_path: Path) -> None:
    refused = Job(overrides=["seed=x"], refused="seed: got 'x'")
    begin_sweep(tmp_path, command="all", launcher="basic", jobs=[refused, Job(overrides=["seed=1"], folder="key1")])
    write_run(tmp_path / "key1", "done")
    end_sweep()
    assert states(tmp_path) == ({"key1": "done", "job 0": "refused"}, [], 1)
    [row] = [row for row in survey(tmp_path)[0] if row.run == "job 0"]
    assert (row.reason, row.overrides) == ("seed: got 'x'", "seed=x")


def test_a_sweep_that_was_killed_leaves_its_command(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    begin(tmp_path, seeds=(0, 1))
    rewrite(tmp_path, pid=child.pid)
    assert states(tmp_path) == ({"job 0": NEVER_BEGAN, "job 1": NEVER_BEGAN}, ["all"], 1)


@pytest.mark.parametrize(("silence_s", "runs"), [(100, True), (140, False)])
def test_a_sweep_of_another_host_runs_as_long_as_a_run_gives_a_sign(tmp_path: Path, silence_s: int, runs: bool) -> None:
    begin(tmp_path, seeds=(0, 1))
    rewrite(tmp_path, host="node17", started=NOW - timedelta(hours=1))
    write_run(tmp_path / "key0", "running", host="node17")
    now = NOW + timedelta(seconds=silence_s)
    assert states(tmp_path, now=now) == (
        ({"key0": "running", "job 1": "queued"}, [], 4)
        if runs
        else ({"key0": "interrupted", "job 1": NEVER_BEGAN}, ["all"], 1)
    )


def test_a_list_of_an_earlier_version_is_passed_over_and_a_torn_one_is_a_row(tmp_path: Path) -> None:
    write_run(tmp_path / "key0", "done")
    (tmp_path / FILE).write_text('{"schema_version": 2, "sweeps": []}')
    assert states(tmp_path) == ({"key0": "done"}, [], 0)
    for torn in ("{", "[]", '{"schema_version": 3, "jobs": 1}'):
        (tmp_path / FILE).write_text(torn)
        assert states(tmp_path) == ({"key0": "done", FILE: "unreadable"}, [], 1)
    begin(tmp_path, seeds=(0,))  # which replaces it
    end_sweep()
    assert states(tmp_path) == ({"key0": "done"}, [], 0)


def test_a_reason_that_jobs_share_is_reported_once_with_those_that_it_ended(tmp_path: Path) -> None:
    jobs = [
        Job(overrides=[f"seed={n}"], refused="steps: got 0" if n < 2 else "margin:\n  got 'foo'") for n in range(12)
    ]
    begin_sweep(tmp_path, command="all", launcher="basic", jobs=[*jobs, Job(overrides=["seed=12"], folder="key12")])
    write_run(tmp_path / "key12", "failed", error="gone")
    found = read_sweep(tmp_path)
    assert found is not None
    many = ", ".join(f"seed={n}" for n in range(2, 10))
    assert summary(job_rows(found, tmp_path, running=False)) == [
        "13 jobs: 12 refused, 1 failed",
        "  refused     seed=0, seed=1: steps: got 0",
        f"  refused     {many} and 2 more: margin: got 'foo'",
        "  failed      seed=12: gone",
    ]


# What a job writes


def test_how_a_job_ended_is_written_unless_its_run_has_done_so(tmp_path: Path) -> None:
    began = NOW.replace(year=2027)
    record_end(tmp_path / "key0", status_with("refused", "no such data"), command="c", began=began)
    state = state_of(tmp_path / "key0")
    assert (state.state, state.reason, state.command, state.attempt) == ("refused", "no such data", "c", 1)
    record_end(write_run(tmp_path / "key1", "failed"), status_with("refused", "new"), command="c", began=began)
    assert (state_of(tmp_path / "key1").reason, state_of(tmp_path / "key1").attempt) == ("new", 2)
    own = {"started": began.isoformat(), "error": "of the run"}
    record_end(write_run(tmp_path / "key2", "failed", **own), status_with("failed", "x"), command="c", began=began)
    record_end(write_run(tmp_path / "key3", "done"), status_with("refused", "x"), command="c", began=began)
    assert (state_of(tmp_path / "key2").reason, state_of(tmp_path / "key3").state) == ("of the run", "done")


# Processes

SLEEPS = "import signal, sys, time; print('ready', flush=True); time.sleep(600)"


def test_jobs_in_other_processes_are_ended_with_the_sweep(tmp_path: Path) -> None:
    begin(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    try:
        stop_jobs()
        assert child.wait(timeout=30) in (0, -signal.SIGTERM)  # 0 if `stop_jobs` has collected it
    finally:
        child.kill()
        child.communicate()


# Studies, whose trials are chosen one by one


def test_the_jobs_of_a_study_are_the_runs_that_have_begun_since_it_did(tmp_path: Path) -> None:
    begin(tmp_path, seeds=())
    write_run(tmp_path / "earlier", "failed")
    now = datetime.now(UTC).isoformat()
    write_run(tmp_path / "key5", "done", started=now)
    write_run(tmp_path / "key6", "failed", started=now)
    runs = {"earlier": "failed", "key5": "done", "key6": "failed"}
    assert states(tmp_path) == (runs, ["espalier-search earlier"], 1)  # so far
    end_sweep()
    assert states(tmp_path) == (runs, ["espalier-search earlier", "all"], 1)
    found = read_sweep(tmp_path)
    assert found is not None and sweep_exit_codes(job_rows(found, tmp_path, running=False)) == [0, 1]


def test_a_study_without_a_job_leaves_nothing(tmp_path: Path) -> None:
    begin(tmp_path / "s", seeds=())
    end_sweep()
    assert list(tmp_path.iterdir()) == []


# Folders that take nothing


def test_a_file_where_a_sweep_has_a_folder_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("kept")
    with pytest.raises(RunFolderError, match=f"{tmp_path}/runs/s"):
        begin(tmp_path / "runs" / "s")
    assert sweep.VARIABLE not in os.environ
