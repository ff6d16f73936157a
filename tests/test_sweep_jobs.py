"""The jobs of a sweep: they lie in one folder, and those that run at once share the processors."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from console import Cli, console, refused
from test_sweep import TINY
from test_sweep_edges import TOLD, TOO_SHORT, clear_environment
from tiny_search import MOBILE, tiny_config

import trainers.cli.search
from trainers.cli import main as cli
from trainers.runs.exit_status import RunInUseError, status_with
from trainers.runs.state import this_process
from trainers.sweeps import sweep
from trainers.sweeps.records import Job, Sweep, read_sweeps, with_notes
from trainers.sweeps.sweep import begin_sweep, note_job, stop_jobs


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    clear_environment(monkeypatch)
    return console(cli.SEARCH, monkeypatch, capsys, tmp_path)


# One folder for all jobs


@pytest.mark.parametrize(
    ("argument", "key", "got"),
    [
        ("sweep=a,b", "sweep", "a,b"),
        ("paths.runs=a,b", "paths.runs", "a,b"),
        ("paths=default,default", "paths", "default,default"),
    ],
)
def test_a_folder_that_differs_between_jobs_is_refused_with_its_key(
    command: Cli, argument: str, key: str, got: str
) -> None:
    found = command("trainer.steps=0", "-m", "seed=0,1", argument)
    refused(found, "espalier-search", f"  {key}: got {got}, allowed: one, for all runs of a sweep lie in one folder")
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_that_differs_by_what_a_file_gives_the_sweeper_is_refused(command: Cli, tmp_path: Path) -> None:
    own = experiments(tmp_path, both="hydra:\n  sweeper:\n    params:\n      sweep: a,b")
    found = command(*own, "trainer.steps=0", "-m", "experiment=both")
    refused(found, "espalier-search", "  sweep: got a,b, allowed: one, for all runs of a sweep lie in one folder")
    assert list(Path.cwd().iterdir()) == []


def experiments(folder: Path, **contents: str) -> tuple[str, str]:
    """Arguments that add these files of the group `experiment`."""
    (folder / "own" / "experiment").mkdir(parents=True)
    for name, content in contents.items():
        (folder / "own" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{content}\n")
    return "--config-dir", str(folder / "own")


def test_an_experiment_that_names_a_sweep_gives_all_jobs_that_folder(command: Cli, tmp_path: Path) -> None:
    own = experiments(tmp_path, mine="sweep: mine")
    code, _, errors = command(*own, *TOO_SHORT, "experiment=mine")
    assert (code, errors.count(TOLD)) == (2, 2), errors
    assert [path.name for path in Path("runs").iterdir()] == ["mine"]
    assert [job.state for sweep in read_sweeps(Path("runs/mine")) for job in sweep.jobs] == ["refused", "refused"]


@pytest.mark.parametrize("name", ["2024", "1.5", "2024_11", "null"])
def test_a_sweep_may_have_a_name_that_means_something_else_to_hydra(command: Cli, tmp_path: Path, name: str) -> None:
    own = experiments(tmp_path, mine=f'sweep: "{name}"')
    code, _, errors = command(*own, *TOO_SHORT, "experiment=mine")
    assert (code, errors.count(TOLD), errors.count("sweep: ")) == (2, 2, 0), errors
    assert [path.name for path in Path("runs").iterdir()] == [name]


@pytest.mark.parametrize("where", ["command", "file"])
def test_a_number_is_the_name_of_a_sweep(command: Cli, tmp_path: Path, where: str) -> None:
    own = experiments(tmp_path, mine="sweep: 2024") if where == "file" else ()
    code, _, errors = command(*own, *TOO_SHORT, "experiment=mine" if where == "file" else "sweep=2024")
    assert (code, errors.count(TOLD), errors.count("sweep: ")) == (2, 2, 0), errors
    assert [path.name for path in Path("runs").iterdir()] == ["2024"]
    assert tiny_config(tmp_path, *MOBILE, "sweep=2024").run_folder.parent == tmp_path / "2024"


@pytest.mark.parametrize("flags", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
def test_a_number_that_hydra_would_write_otherwise_names_a_sweep_as_it_is_written(
    command: Cli, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    folders = list[Path]()

    def search(config: Any, *arguments: Any, **more: Any) -> dict[str, str]:
        folders.append(config.run_folder.parent)
        return {"status": "done"}

    monkeypatch.setattr(trainers.cli.search, "run_search", search)
    code, _, errors = command(*TINY, *flags, "sweep=2024_11")
    assert (code, set(folders)) == (0, {Path("runs/2024_11")}), errors
    refused(command(*TINY, *flags, "sweep=+7"), "espalier-search", "sweep: got '+7'")


def test_a_folder_that_is_no_text_is_refused_once(command: Cli) -> None:
    found = command(*TOO_SHORT, "sweep=1.5", "paths.runs=7")
    refused(found, "espalier-search", "  sweep: got 1.5; Input should be a valid string", "  paths.runs: got 7; Input")
    assert list(Path.cwd().iterdir()) == []


def test_experiments_that_name_different_sweeps_run_in_the_one_folder_of_the_command(
    command: Cli, tmp_path: Path
) -> None:
    own = experiments(tmp_path, mine="sweep: mine", yours="sweep: yours")
    code, _, errors = command(*own, *TINY, "trainer.batch_size=5000", "-m", "experiment=mine,yours")
    assert (code, errors.count("trainer.batch_size: got 5000")) == (2, 2), errors
    assert [path.name for path in Path("runs").iterdir()] == ["search"]
    [found] = read_sweeps(Path("runs/search"))
    assert [job.overrides[-1] for job in found.jobs] == ["sweep=search"] * 2


def test_a_job_whose_experiment_puts_its_run_elsewhere_is_refused_alone(
    command: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainers.cli.search, "run_search", lambda *arguments, **more: {"status": "done"})
    own = experiments(tmp_path, here="seed: 1", there="paths:\n  runs: there")
    code, output, errors = command(*own, *TINY, "-m", "experiment=here,there")
    assert code == 2
    assert "paths.runs, sweep: got there/search, but this sweep is in " in errors
    assert "set both in the command itself" in errors
    assert "2 jobs: 1 done, 1 refused" in output
    assert [path for path in Path("there").rglob("*") if path.is_file()] == []  # Hydra has made the folder


# The threads of jobs that run at once

SHOWS_THREADS = ("strategy.pool_size=${oc.env:OMP_NUM_THREADS}", "-m", "hydra/launcher=processes")
OPTUNA = ("hydra/sweeper=espalier_optuna", "hydra.sweeper.n_trials=2", "optimizer.lr=interval(0.01,0.1)")


@pytest.mark.parametrize(
    ("app", "arguments", "given", "threads"),
    [
        (cli.SEARCH, ("seed=range(2)",), None, "6"),
        (cli.SEARCH, ("seed=range(3)", "hydra.sweeper.max_batch_size=2"), None, "6"),
        (cli.SEARCH, ("seed=0",), "5", "5"),
        (cli.SEARCH, (*OPTUNA, "hydra.sweeper.n_jobs=2"), None, "6"),
        (cli.TUNE, ("jobs=2", "trials=2", "optimizer.lr=interval(0.01,0.1)"), None, "6"),
    ],
    ids=["a job each", "in batches", "as given", "optuna", "tune"],
)
def test_jobs_in_processes_of_their_own_share_the_processors(
    command: Cli,
    monkeypatch: pytest.MonkeyPatch,
    app: cli.App,
    arguments: tuple[str, ...],
    given: str | None,
    threads: str,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    command(*TINY, *SHOWS_THREADS, *arguments, "sweep=s", app=app)
    [found] = read_sweeps(Path("runs/s"))
    told = [job.reason for job in found.jobs if job.reason is not None]
    assert len(told) == len(found.jobs) > 0  # a batch that fails ends no other
    assert [reason for reason in told if f"strategy.pool_size: got {threads!r};" not in reason] == []


# Jobs that are equal


def test_a_job_whose_run_an_equal_one_is_at_takes_its_result(
    command: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int | None] = []

    def search(config: Any, *arguments: Any, **more: Any) -> dict[str, str]:
        tries.append(config.trainer.threads)
        if tries == [1, 2]:
            note_job(at_work(0, config.run_folder.name))
            raise RunInUseError("another is at it")
        return {"status": "done"}

    def notes_before_the_other_ends(notes: Path) -> Sweep | None:
        found = with_notes(notes)
        if found is not None and found.jobs[0].is_at_work:
            assert [job.state for job in found.jobs] == ["running", "busy", "queued"]
            note_job(found.jobs[0].ended(status_with("done")))
        return found

    monkeypatch.setattr(trainers.cli.search, "run_search", search)
    monkeypatch.setattr(sweep, "with_notes", notes_before_the_other_ends)
    code, output, errors = command(*TINY, "-m", "trainer.threads=1,2,3", "sweep=s")
    assert (code, errors) == (0, "")
    assert tries == [1, 2, 2, 3]
    assert "3 jobs: 3 done\n" in output


def at_work(number: int, folder: str) -> Job:
    """A job in a process of its own, as far as its note tells."""
    return Job(number=number, overrides=[], state="running", folder=folder, **this_process())


@pytest.mark.parametrize("other", [None, "busy", "failed"])
def test_a_job_whose_run_another_command_is_at_is_busy(
    command: Cli, monkeypatch: pytest.MonkeyPatch, other: str | None
) -> None:
    def search(config: Any, *arguments: Any, **more: Any) -> dict[str, str]:
        if other is not None:  # an equal job, which does not do this run either
            note_job(at_work(1, config.run_folder.name).model_copy(update={"state": other}))
        raise RunInUseError("another is at it")

    monkeypatch.setattr(trainers.cli.search, "run_search", search)
    code, _, errors = command(*TINY, "-m", "seed=0", "sweep=s")
    assert code == 1
    assert errors.count("another is at it") == 1


def test_a_job_that_waits_for_an_equal_one_is_ended_with_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear_environment(monkeypatch)
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        begin_sweep(tmp_path, command="all", launcher="joblib", jobs=[["seed=0"]])
        waiting = {"state": "busy", "pid": sleeper.pid, "pid_start": None}
        note_job(at_work(0, "key").model_copy(update=waiting))
        stop_jobs()
        assert sleeper.wait(timeout=30) == -signal.SIGTERM
    finally:
        sleeper.kill()
        sleeper.wait()
