"""Sweeps at their edges: two in one folder, and folders and disks that take nothing."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from console import Cli, console, refused
from test_sweep import LONGER, TINY, at_work, run_folders, start

import trainers.cli.search
from trainers.cli import main as cli
from trainers.runs.state import state_of
from trainers.sweeps import sweep
from trainers.sweeps.records import FILE, NOTE, Job, read_sweeps
from trainers.sweeps.status import survey
from trainers.sweeps.sweep import begin_sweep, end_sweep, note_job

TOO_SHORT = ("-m", "trainer.steps=0,-1")  # jobs that are refused, and so cost nothing
TOLD = "; Input should be greater than or equal to 1"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps of this process leave nothing in its environment."""
    for variable in (sweep.VARIABLE, "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "")  # so that it is put back, which what is only deleted is not
        monkeypatch.delenv(variable)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(cli.SEARCH, monkeypatch, capsys, tmp_path)


# Two commands in one folder

# Begins a sweep in the folder that it is given, and does what it is told, a line at a time.
ANOTHER = """
import os, sys
from pathlib import Path
from trainers.runs.exit_status import status_with
from trainers.sweeps.sweep import begin_sweep, end_sweep, note_job
from trainers.sweeps.records import Job
begin_sweep(Path(sys.argv[1]), command="another", launcher="basic", jobs=[["seed=5"], ["seed=6"]])
job = Job(number=0, overrides=["seed=5"], state="running", pid=os.getpid(), host=os.uname().nodename)
note_job(job)
print("begun", flush=True)
input()
note_job(job.ended(status_with("done")))
end_sweep()
"""


@pytest.fixture
def another(tmp_path: Path) -> Any:
    """A process whose sweep in this folder has one job at work; a line makes it end."""
    process = subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.communicate()


def states(folder: Path) -> dict[str, list[str]]:
    """The states of the jobs of each command that `read_sweeps` tells of."""
    return {found.command: [job.state for job in found.jobs] for found in read_sweeps(folder)}


def begin_own(folder: Path) -> None:
    begin_sweep(folder, command="own", launcher="basic", jobs=[["seed=0"]])


def note_own(state: str) -> None:
    note_job(Job(number=0, overrides=["seed=0"], pid=os.getpid(), host=os.uname().nodename, state=state))


def test_two_sweeps_in_one_folder_are_both_told_of_and_each_ends_alone(
    tmp_path: Path, another: "subprocess.Popen[str]"
) -> None:
    begin_own(tmp_path)
    assert states(tmp_path) == {"another": ["running", "queued"], "own": ["queued"]}
    note_own("running")
    assert states(tmp_path) == {"another": ["running", "queued"], "own": ["running"]}
    rows, commands = survey(tmp_path)
    assert sorted(row.state for row in rows) == ["queued", "running", "running"]
    assert commands == []

    note_own("failed")
    ended = end_sweep()
    assert ended is not None and [job.state for job in ended.jobs] == ["failed"]
    assert states(tmp_path) == {"another": ["running", "queued"], "own": ["failed"]}

    another.communicate("end\n", timeout=60)
    assert another.returncode == 0
    assert states(tmp_path) == {"another": ["done", "queued"], "own": ["failed"]}
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_a_sweep_that_begins_clears_up_after_a_killed_one_and_not_after_one_that_runs(
    tmp_path: Path, another: "subprocess.Popen[str]"
) -> None:
    begin_own(tmp_path)
    note_own("running")
    own = os.environ[sweep.VARIABLE]
    another.kill()
    another.wait()
    assert states(tmp_path) == {"another": ["interrupted", "queued"], "own": ["running"]}
    begin_sweep(tmp_path, command="third", launcher="basic", jobs=[["seed=9"]])
    assert len(list(tmp_path.glob(f".jobs/*/{FILE}"))) == 2
    killed = {"another": ["interrupted", "queued"]}
    assert states(tmp_path) == {**killed, "own": ["running"], "third": ["queued"]}
    assert end_sweep() is None  # none of its jobs began
    assert states(tmp_path) == {**killed, "own": ["running"]}
    os.environ[sweep.VARIABLE] = own
    note_own("done")
    end_sweep()
    assert states(tmp_path) == {**killed, "own": ["done"]}


def test_a_command_in_the_folder_of_a_sweep_at_work_leaves_it_running_and_told_of(tmp_path: Path) -> None:
    folder, endless = tmp_path / "runs" / "both", (*LONGER, "trainer.steps=100000", "sweep=both")
    [at] = run_folders(tmp_path / "runs", *endless, seeds=1)
    first = start(*TINY, *endless, "-m", "seed=0,9", folder=tmp_path)
    try:
        at_work(at, first)
        second = start(*TINY, *TOO_SHORT, "sweep=both", folder=tmp_path)
        _, errors = second.communicate(timeout=120)
        assert second.returncode == 2, errors
        assert errors.count(TOLD) == 2
        assert sorted(states(folder).values()) == [["refused", "refused"], ["running", "queued"]]
        assert state_of(at).state == "running"
        first.terminate()
        _, errors = first.communicate(timeout=120)
    finally:
        first.kill()
    assert first.returncode == 143, errors
    assert [[job.state for job in found.jobs] for found in read_sweeps(folder)] == [["interrupted", "queued"]]
    assert not (folder / ".jobs").exists()


# Folders and disks that take nothing


def fill(disk: Path, *, but: int = 0) -> Path:
    """A file that leaves `but` bytes of a disk."""
    status = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(status.f_bavail * status.f_frsize - but))
    return disk / "filling"


@pytest.mark.parametrize("pages", [0, 2, 6], ids=["none left", "enough for notes", "enough for some jobs"])
def test_a_disk_that_is_full_as_a_sweep_begins_is_a_clear_error(command: Cli, small_disk: Path, pages: int) -> None:
    filling = fill(small_disk, but=pages * os.sysconf("SC_PAGE_SIZE"))
    code, _, errors = command(*TOO_SHORT, f"paths.runs={small_disk}", "sweep=s")
    assert code in (1, 2)
    assert "No space left on device" in errors
    assert "Traceback" not in errors
    if not pages:
        refused((code, "", errors), "espalier-search", f"cannot write {small_disk}/s/", "; free space or allow")
        assert errors.count("\n") == 1
    filling.unlink()
    code, output, errors = command(*TOO_SHORT, f"paths.runs={small_disk}", "sweep=s")
    assert (code, errors.count(TOLD)) == (2, 2)
    assert "2 jobs: 2 refused" in output


def test_a_disk_that_takes_no_writing_refuses_a_sweep(command: Cli, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    found = command(*TOO_SHORT, f"paths.runs={small_disk}", "sweep=s")
    refused(found, "espalier-search", f"cannot write {small_disk}/s/", "Read-only file system; free space or allow")
    assert found[2].count("\n") == 1


@pytest.mark.parametrize("file", ["runs", "runs/s", "runs/s/.jobs"])
def test_a_file_where_a_sweep_has_a_folder_is_told_with_its_path(command: Cli, tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("kept")
    found = command(*TOO_SHORT, f"paths.runs={tmp_path}/runs", "sweep=s")
    refused(found, "espalier-search", f"cannot write {tmp_path}/runs/s/.jobs/", "; free space or allow writing there")
    assert found[2].count("\n") == 1
    assert (tmp_path / file).read_text() == "kept"


def test_a_disk_that_is_full_as_a_sweep_ends_is_told_and_its_notes_stay(
    command: Cli, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search_and_fill(*arguments: Any, **more: Any) -> dict[str, str]:
        fill(small_disk)
        return {"status": "done"}

    monkeypatch.setattr(trainers.cli.search, "run_search", search_and_fill)
    code, output, errors = command(*TINY, "-m", "seed=0", f"paths.runs={small_disk}", "sweep=s")
    assert code == 1, errors
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("espalier-search: ")]
    assert [line.partition(": No space left on device; free space")[1] != "" for line in lines] == [True, True], errors
    assert lines[-1].startswith(f"espalier-search: cannot write {small_disk}/s/sweep.json")
    assert "1 job: 1 interrupted\n" in output
    assert "its end could not be written down; its run folder tells more" in output
    assert list(small_disk.glob(f"s/.jobs/*/{FILE}")) != []

    monkeypatch.setattr(trainers.cli.search, "run_search", lambda *arguments, **more: {"status": "done"})
    (small_disk / "filling").unlink()
    code, output, errors = command(*TINY, "-m", "seed=0", f"paths.runs={small_disk}", "sweep=s")
    assert (code, errors) == (0, "")
    assert "1 job: 1 done\n" in output


def test_an_end_that_cannot_be_written_down_keeps_the_notes_and_the_exit_code_says_so(command: Cli, runs: Path) -> None:
    (runs / "s" / "sweep.json").mkdir(parents=True)
    code, output, errors = command(*TOO_SHORT, f"paths.runs={runs}", "sweep=s")
    assert code == 1, errors
    assert "Traceback" not in errors
    assert f"cannot write {runs}/s/sweep.json: Is a directory; free space or allow writing there" in errors
    assert "2 jobs: 2 refused" in output
    [record] = runs.glob(f"s/.jobs/*/{FILE}")
    assert len(list(record.parent.glob(NOTE))) == 2
