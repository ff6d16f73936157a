"""The jobs of a sweep: they lie in one folder, and those that run at once share the processors."""

import os
from pathlib import Path

import pytest
from console import Cli, console, refused
from test_sweep import TINY
from test_sweep_edges import TOLD, TOO_SHORT, clear_environment
from tiny_search import MOBILE, tiny_config

import trainers.search
from trainers import cli
from trainers.sweep_records import read_sweeps


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
    monkeypatch.setattr(trainers.search, "run_search", lambda *arguments, **more: {"status": "done"})
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
    told = [job.reason for job in found.jobs if job.reason is not None]  # after a batch that fails no other begins
    assert len(told) == (2 if given is None else 1)
    assert [reason for reason in told if f"strategy.pool_size: got {threads!r};" not in reason] == []
