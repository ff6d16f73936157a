"""Records of sweeps: who is still at work, and what is left to do, whatever else ends in the same folder."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from console import console
from test_status import NOW, write_run
from test_sweep_edges import clear_environment

import trainers.cli.search
import trainers.runs.folder
import trainers.tuning.study_loop
from trainers.cli import main as cli
from trainers.runs.exit_status import status_of, status_with
from trainers.runs.state import this_process
from trainers.sweeps import sweep
from trainers.sweeps.records import FILE, Job, ended_sweeps, read_sweeps, summary
from trainers.sweeps.status import exit_code, survey
from trainers.sweeps.sweep import begin_sweep, end_sweep, note_job, stop_jobs


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with any sweep."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def begin(folder: Path, *, command: str = "all", seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    begin_sweep(folder, command=command, launcher="basic", jobs=[[f"seed={seed}"] for seed in seeds])


def job(number: int, *, seed: int | None = None, **fields: Any) -> Job:
    overrides = [f"seed={number if seed is None else seed}"]
    return Job(**{**this_process(), "number": number, "overrides": overrides, **fields})


def done(folder: Path, number: int, *, seed: int) -> Job:
    """A job that is done, with its run folder."""
    if not (folder / f"key{seed}").exists():
        write_run(folder / f"key{seed}", "done")
    return job(number, seed=seed, folder=f"key{seed}").ended(status_with("done"))


def told(folder: Path) -> tuple[dict[str, str], list[str], int]:
    """Each row of `espalier-status` with its state, the commands to repeat, and the exit code."""
    rows, commands = survey(folder, now=NOW)
    return {row.run: row.state for row in rows}, commands, exit_code(rows)


# Who is at work


def test_a_process_with_the_number_of_a_killed_job_is_not_ended_with_the_sweep(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    begin(tmp_path)
    note_job(job(0, state="running", pid=sleeper.pid))  # with the start of another process
    stop_jobs()
    assert sleeper.poll() is None
    ended = end_sweep()
    assert ended is not None and ended.jobs[0].state == "interrupted"
    assert ended.jobs[0].reason == f"process {sleeper.pid} is gone: killed, or out of memory"


def test_a_job_that_does_not_end_with_its_sweep_is_settled_in_words(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    begin(tmp_path)
    note_job(job(0, state="running", pid=sleeper.pid, pid_start=None))
    ended = end_sweep()
    assert ended is not None and (ended.jobs[0].state, ended.jobs[0].code) == ("interrupted", 1)
    assert ended.jobs[0].reason == "its sweep ended before it; its run folder tells more"


def move_elsewhere(folder: Path, *, host: str, sign: datetime, **more: Any) -> None:
    """Makes the sweep in a folder, which this process has begun, one of another host or process, last seen then."""
    [record] = folder.glob(f".jobs/*/{FILE}")
    other = Path(shutil.copytree(record.parent, folder / ".jobs" / ("0" * 12)))  # this process touches its own alone
    shutil.rmtree(record.parent)
    for path in other.iterdir():
        path.write_text(json.dumps(json.loads(path.read_text()) | {"host": host, **more}))
    os.utime(other / FILE, times=(sign.timestamp(),) * 2)


@pytest.mark.parametrize("silence_s", [100, 140])
def test_a_sweep_of_another_host_is_over_after_two_minutes_of_silence(tmp_path: Path, silence_s: int) -> None:
    begin(tmp_path)
    sign = NOW - timedelta(seconds=silence_s)
    write_run(tmp_path / "key0", "running", host="node17", heartbeat=sign.isoformat())
    note_job(job(0, state="running", folder="key0"))
    move_elsewhere(tmp_path, host="node17", sign=sign)
    if silence_s < 120:
        assert told(tmp_path) == ({"key0": "running", "job 1": "queued", "job 2": "queued"}, [], 4)
        return
    left = {"key0": "interrupted", "job 1": "never began", "job 2": "never began"}
    assert told(tmp_path) == (left, ["all"], 1)
    begin(tmp_path, command="another")  # which clears up
    [cleared] = ended_sweeps(tmp_path)
    assert [job.state for job in cleared.jobs] == ["interrupted", "queued", "queued"]
    assert cleared.reason is not None and cleared.reason.startswith(f"no sign of process {os.getpid()} on node17 for ")


def test_a_sweep_whose_number_another_process_has_is_over(tmp_path: Path) -> None:
    begin(tmp_path)
    note_job(job(0, state="running"))
    move_elsewhere(tmp_path, host=os.uname().nodename, sign=NOW, pid_start="another")
    assert told(tmp_path) == (
        dict.fromkeys(("job 0", "job 1", "job 2"), "never began") | {"job 0": "interrupted"},
        ["all"],
        1,
    )


def test_a_sweep_that_waits_gives_a_sign_until_it_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "HEARTBEAT_SECONDS", 0.01)
    begin(tmp_path)
    [record] = tmp_path.glob(f".jobs/*/{FILE}")
    os.utime(record, times=(0, 0))
    until = time.monotonic() + 30
    while record.stat().st_mtime == 0:
        assert time.monotonic() < until
        time.sleep(0.01)
    end_sweep()
    assert list(tmp_path.iterdir()) == []


# What is left to do


def test_jobs_that_never_began_are_told_of_until_their_command_is_repeated(tmp_path: Path) -> None:
    begin(tmp_path, seeds=(0, 1, 2, 3))
    note_job(done(tmp_path, 0, seed=0))
    end_sweep(status_of(KeyboardInterrupt(signal.SIGINT)))
    open_jobs = dict.fromkeys(("job 1", "job 2", "job 3"), "never began")
    assert told(tmp_path) == ({"key0": "done", **open_jobs}, ["all"], 1)

    begin(tmp_path, command="others", seeds=(7, 0))
    for number, seed in enumerate((7, 0)):
        note_job(done(tmp_path, number, seed=seed))
    end_sweep()
    assert told(tmp_path) == ({"key0": "done", "key7": "done", **open_jobs}, ["all"], 1)

    begin(tmp_path, command="one of them", seeds=(2,))
    note_job(done(tmp_path, 0, seed=2))
    end_sweep()
    open_jobs.pop("job 2")
    assert told(tmp_path) == ({"key0": "done", "key2": "done", "key7": "done", **open_jobs}, ["all"], 1)

    begin(tmp_path, seeds=(0, 1, 2, 3))
    for seed in range(4):
        note_job(done(tmp_path, seed, seed=seed))
    end_sweep()
    assert told(tmp_path)[1:] == ([], 0)
    assert [sweep.command for sweep in ended_sweeps(tmp_path)] == ["all"]


def test_a_sweep_with_nothing_to_repeat_makes_room_for_the_next(tmp_path: Path) -> None:
    begin(tmp_path, command="wrong", seeds=(0,))
    note_job(job(0).ended(status_with("refused", "seed: got x")))
    end_sweep()
    begin(tmp_path, command="right", seeds=(0,))
    note_job(done(tmp_path, 0, seed=0))
    end_sweep()
    assert [sweep.command for sweep in ended_sweeps(tmp_path)] == ["right"]


def test_the_folder_is_held_while_the_end_of_a_sweep_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path)
    note_job(done(tmp_path, 0, seed=0))

    def write(path: Path, content: str) -> None:
        another = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(another)
        path.write_text(content)

    monkeypatch.setattr(sweep, "write_text", write)
    end_sweep()
    assert [job.state for job in read_sweeps(tmp_path)[0].jobs] == ["done", "queued", "queued"]


# What is told at the end


def test_a_reason_that_jobs_share_is_told_once_with_those_that_it_ended(tmp_path: Path) -> None:
    few, many = status_with("refused", "steps: got 0"), status_with("refused", "margin:\n  got 'foo'")
    begin(tmp_path, seeds=tuple(range(16)))
    for number in range(15):
        note_job(job(number).ended(status_with("failed", "gone") if number == 2 else few if number < 5 else many))
    ended = end_sweep()
    assert ended is not None and summary(ended.jobs) == [
        "16 jobs: 14 refused, 1 failed, 1 queued",
        *("  refused     4 jobs: steps: got 0", "              seed=0, seed=1, seed=3, seed=4"),
        "  failed      seed=2: gone",
        "  refused     10 jobs: margin: got 'foo'",
        "              seed=5, seed=6, seed=7, seed=8, seed=9, seed=10, seed=11, seed=12 and 2 more",
        "  queued      seed=15: never began",
    ]


# Studies, whose trials are thought of one by one


@pytest.mark.parametrize("how", ["killed", "ended by SIGTERM", "OSError: gone"])
def test_a_study_that_was_cut_short_between_trials_is_interrupted_until_it_has_come_to_its_end(
    tmp_path: Path, how: str
) -> None:
    begin(tmp_path, seeds=())
    note_job(done(tmp_path, 0, seed=5))
    assert told(tmp_path) == ({"key5": "done"}, [], 0)  # so far
    if how == "killed":
        move_elsewhere(tmp_path, host=os.uname().nodename, sign=NOW, pid_start="another")
    else:
        end_sweep(status_of(KeyboardInterrupt(signal.SIGTERM) if "SIGTERM" in how else OSError("gone")))
    assert told(tmp_path) == ({"key5": "done", "command": "interrupted"}, ["all"], 1)
    [row] = [row for row in survey(tmp_path, now=NOW)[0] if row.run == "command"]
    assert row.reason == (f"process {os.getpid()} is gone: killed, or out of memory" if how == "killed" else how)

    begin(tmp_path, command="another")
    end_sweep()
    assert told(tmp_path)[1:] == (["all"], 1)
    begin(tmp_path, seeds=())  # and all trials have been run
    end_sweep()
    assert told(tmp_path) == ({"key5": "done"}, [], 0)


@pytest.mark.parametrize("later", ["killed", "whole"])
def test_a_study_that_one_process_has_ended_is_whole_though_another_was_killed_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    moments = {"killed": "2026-01-01T00:00:00+00:00", "whole": "2026-01-01T00:00:00+00:00"}
    moments[later] = "2026-01-01T00:01:00+00:00"
    monkeypatch.setattr(sweep, "_now", lambda: moments["killed"])
    begin(tmp_path, seeds=())
    note_job(done(tmp_path, 0, seed=0))
    write_run(tmp_path / "key1", "done")  # by the other, in the end
    note_job(job(1, folder="key1", state="running"))
    move_elsewhere(tmp_path, host=os.uname().nodename, sign=NOW, pid_start="another")
    [killed] = (tmp_path / ".jobs").iterdir()
    killed.rename(tmp_path / "aside")
    monkeypatch.setattr(sweep, "_now", lambda: moments["whole"])
    begin(tmp_path, seeds=())
    (tmp_path / "aside").rename(killed)
    note_job(done(tmp_path, 0, seed=1))
    note_job(done(tmp_path, 1, seed=2))
    end_sweep()
    for _ in ("once", "when all has been tried"):
        rows = survey(tmp_path, now=NOW)[0]
        assert {row.run: row.overrides for row in rows} == {f"key{seed}": f"seed={seed}" for seed in range(3)}
        assert told(tmp_path)[1:] == ([], 0)
        begin(tmp_path, seeds=())
        end_sweep()


def test_a_sweep_all_of_whose_jobs_are_done_is_not_cut_short(tmp_path: Path) -> None:
    begin(tmp_path, seeds=(0,))
    note_job(done(tmp_path, 0, seed=0))
    end_sweep(status_of(KeyboardInterrupt(signal.SIGINT)))
    assert told(tmp_path) == ({"key0": "done"}, [], 0)


def test_a_signal_between_two_trials_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def search(config: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
        write_run(config.run_folder, "done")
        return {"status": "done", "objective": {"validation_accuracy": 0.5, "utilisation": 0.5}}

    def interrupt(*arguments: Any) -> str:
        raise KeyboardInterrupt(signal.SIGTERM)

    monkeypatch.setattr(trainers.cli.search, "run_search", search)
    monkeypatch.setattr(trainers.tuning.study_loop, "trial_line", interrupt)
    tune = console(cli.TUNE, monkeypatch, capsys, tmp_path)
    code, _, errors = tune("trials=3", "optimizer.lr=interval(0.01,0.1)", "pruner=none")
    assert (code, "Traceback" in errors) == (143, False), errors
    rows, commands = survey(Path("runs/tune"), now=NOW)
    assert [row.state for row in rows] == ["done", "interrupted"]
    assert commands == ["espalier-tune --multirun trials=3 'optimizer.lr=interval(0.01,0.1)' pruner=none"]
