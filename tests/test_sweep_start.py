"""Sweeps as they begin: one folder, jobs that can be used, shared processors; or refused before anything is written."""

import os
from pathlib import Path
from typing import Any

import pytest
from console import SEARCH, TUNE, App, Cli, Found, console
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from surroundings import clear_environment
from tiny_search import TINY

import trainers.cli.search
from search_spaces.errors import keys_of
from trainers.runs.state import state_of
from trainers.sweeps import sweep


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    clear_environment(monkeypatch)
    return console(SEARCH, monkeypatch, capsys, tmp_path)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The run folders of searches, which are done at once."""
    folders: list[Path] = []

    def search(config: Any, *arguments: Any, **more: Any) -> Found:
        folders.append(config.run_folder)
        return Found()

    monkeypatch.setattr(trainers.cli.search, "run_identified", search)
    return folders


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ("hydra.launcher._target_=os.system", "hydra.launcher._target_"),
        ("hydra.sweeper._target_=builtins.int", "hydra.sweeper._target_"),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=x", "hydra.launcher.n_jobs"),
        ("seed=0,1 trainer.steps=0", "trainer.steps"),
        ("trainer.steps=0,-1", "trainer.steps"),
        ("seed=0,1 trainer.stepz=1", "trainer.stepz"),
        ("optimizer.lr=interval(0,1)", "optimizer.lr"),
        ("sweep=a,b", "sweep"),
        ("paths.runs=a,b", "sweep"),
        ("seed=0,1 sweep=1.5", "sweep"),
    ],
)
def test_a_sweep_that_cannot_begin_is_refused_by_its_key_and_leaves_nothing(
    command: Cli, arguments: str, key: str
) -> None:
    code, _, errors = command("-m", *arguments.split())
    assert code == 2, errors
    assert key in keys_of(errors.removeprefix("espalier-search: ")), errors
    assert list(Path.cwd().iterdir()) == []


def test_a_job_that_is_wrong_ends_no_other_and_is_seen_as_refused(command: Cli, searched: list[Path]) -> None:
    code, output, errors = command("-m", "trainer.steps=0,9")
    assert (code, len(searched)) == (2, 1)
    assert errors.count("trainer.steps: got 0") == 1
    assert "2 jobs: 1 refused, 1 done" in output


def test_a_job_that_only_its_data_refuse_is_seen_as_refused(command: Cli) -> None:
    code, output, _ = command(*TINY, "trainer.batch_size=5000", "-m", "seed=0,1")
    assert code == 2 and "2 jobs: 2 refused" in output.splitlines()
    states = [state_of(path.parent) for path in Path("runs").rglob("status.json")]
    assert [state.state for state in states] == ["refused", "refused"]
    assert all("trainer.batch_size" in str(state.reason) for state in states)


def test_a_sweep_in_processes_says_at_once_what_follows_it(
    command: Cli, searched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "ALL_AT_ONCE", ("basic",))
    _, output, _ = command("-m", "seed=0,1", "sweep=two")
    assert output.splitlines()[0].startswith("sweep runs/two ")  # before anything is imported to check its jobs
    assert output.splitlines()[1].endswith(": espalier-status runs/two")


def test_the_command_and_each_of_its_jobs_are_composed_once(
    command: Cli, searched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    composed, load = list[Any](), ConfigLoaderImpl.load_configuration

    def counted(self: ConfigLoaderImpl, *given: Any, **named: Any) -> Any:
        composed.append(named["overrides"])
        return load(self, *given, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    code, _, errors = command("-m", "seed=0,1")
    assert (code, len(set(searched)), len(composed)) == (0, 2, 3), errors


# One folder for all jobs


def experiments(folder: Path, **contents: str) -> tuple[str, str]:
    """Arguments that add these files of the group `experiment`."""
    (folder / "own" / "experiment").mkdir(parents=True)
    for name, content in contents.items():
        (folder / "own" / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{content}\n")
    return "--config-dir", str(folder / "own")


def test_an_experiment_that_names_a_sweep_gives_all_jobs_that_folder(
    command: Cli, searched: list[Path], tmp_path: Path
) -> None:
    own = experiments(tmp_path, mine="sweep: 2024")
    code, _, errors = command(*own, "-m", "seed=0,1", "experiment=mine")
    assert (code, {folder.parent for folder in searched}) == (0, {Path("runs/2024")}), errors


@pytest.mark.parametrize("there", ["sweep: there", "paths: {runs: there}"])
def test_a_job_whose_experiment_puts_its_run_elsewhere_is_refused_alone(
    command: Cli, searched: list[Path], tmp_path: Path, there: str
) -> None:
    own = experiments(tmp_path, here="seed: 1", there=there)
    code, output, errors = command(*own, *TINY, "-m", "experiment=here,there")
    assert (code, len(searched)) == (2, 1)
    assert {line.partition("] ")[0] for line in errors.splitlines()} == {"[experiment=there"}
    assert keys_of(errors.replace("[experiment=there] ", "").removeprefix("espalier-search: "))[0] == "sweep"
    assert "2 jobs: 1 done, 1 refused" in output
    assert [path for path in Path("there").rglob("*") if path.is_file()] == []  # Hydra has made the folder


# The threads of jobs that run at once


@pytest.mark.parametrize(
    ("app", "arguments", "given", "threads"),
    [
        (SEARCH, ("seed=range(2)",), None, "6"),
        (SEARCH, ("seed=range(3)", "hydra.sweeper.max_batch_size=2"), None, "6"),
        (SEARCH, ("seed=0",), "5", "5"),
        (TUNE, ("jobs=2", "trials=2", "optimizer.lr=interval(0.01,0.1)"), None, "6"),
    ],
    ids=["a job each", "in batches", "as given", "tune"],
)
def test_jobs_in_processes_of_their_own_share_the_processors(
    command: Cli,
    monkeypatch: pytest.MonkeyPatch,
    app: App,
    arguments: tuple[str, ...],
    given: str | None,
    threads: str,
) -> None:
    def begin(*arguments: Any, **more: Any) -> None:
        raise SystemExit(9)

    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(sweep, "begin_sweep", begin)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    code, _, errors = command(*TINY, "-m", "hydra/launcher=processes", *arguments, app=app)
    assert (code, os.environ["OMP_NUM_THREADS"]) == (9, threads), errors
