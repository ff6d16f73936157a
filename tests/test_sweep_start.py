"""Sweeps that are none: refused before anything is written, once for all their jobs."""

from pathlib import Path
from typing import Any

import pytest
from console import Cli, console, refused
from test_sweep_edges import clear_environment

import trainers.cli.search
from trainers.cli import main as cli
from trainers.sweeps import sweep


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    clear_environment(monkeypatch)
    return console(cli.SEARCH, monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("hydra.launcher._target_=os.system", "hydra.launcher._target_: not to be set here"),
        ("hydra.sweeper._target_=builtins.int", "hydra.sweeper._target_: not to be set here"),
        ("hydra.sweeper.params={seed:x}", "hydra.sweeper.params: got a mapping where none can be put"),
        ("hydra.sweeper.max_batch_size=0 margin=foo,bar", "hydra.sweeper.max_batch_size: got 0; allowed: 1 or more"),
        (
            "hydra/launcher=joblib hydra.launcher.n_jobs=x",
            "hydra.launcher.n_jobs: Value 'x' of type 'str' could",
        ),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=0", "hydra.launcher.n_jobs: got 0; allowed: 1 or more"),
        ("seed=glob(*)", "seed: got glob(*), which is no value; name some"),
    ],
)
def test_a_sweep_that_cannot_begin_is_refused_by_its_key_and_leaves_nothing(
    command: Cli, arguments: str, words: str
) -> None:
    refused(command("-m", *arguments.split()), "espalier-search", words)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("swept", ["seed=0,1", "debug=one_epoch,one_epoch"])
def test_what_is_wrong_with_every_job_refuses_the_sweep_once(command: Cli, swept: str) -> None:
    found = command("-m", swept, "trainer.steps=0", "margin=foo")
    refused(found, "espalier-search", "trainer.steps: got 0", "margin: got 'foo'")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("launcher", [(), ("hydra.sweeper.max_batch_size=1",)], ids=["all at once", "one by one"])
def test_what_is_wrong_with_one_job_is_told_without_a_word_of_hydra_and_ends_no_other(
    command: Cli, monkeypatch: pytest.MonkeyPatch, launcher: tuple[str, ...]
) -> None:
    def search(config: Any, *arguments: Any, **more: Any) -> dict[str, str]:
        return {"status": "done"}

    monkeypatch.setattr(trainers.cli.search, "run_search", search)
    code, output, errors = command("-m", "trainer.steps=0,9", *launcher)
    assert code == 2
    assert errors.count("trainer.steps: got 0") == 1
    assert "Error executing job" not in errors
    assert "2 jobs: 1 refused, 1 done" in output


def test_a_sweep_in_processes_tells_at_once_what_follows_it(command: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "ALL_AT_ONCE", ("basic",))
    _, output, _ = command("-m", "trainer.steps=0,-1", "sweep=two")
    assert output.startswith("2 jobs begin; this follows them: espalier-status runs/two\n")
