"""The epochs of a trial: they are told to its study once, and a hopeless search is stopped."""

import json
import math
from pathlib import Path

import pytest
from optuna.trial import TrialState
from test_tuning import config, ended, worker
from tiny_search import MOBILE, tiny_config

from trainers.cli.search import run_search
from trainers.runs.exit_status import SearchStoppedError
from trainers.tuning.trial import watcher
from trainers.tuning.trial_queue import Outcome


def test_a_hopeless_search_is_stopped_at_once_and_keeps_no_checkpoint(tmp_path: Path) -> None:
    settings = config(tmp_path)
    first = worker(settings)
    [good], _ = first.take(1)
    for epoch in range(2, 20):
        good.report(1.0, epoch)  # no search can be as good
    first.settle(good, ended(1.0))
    [hopeless], _ = first.take(1)
    trial = {"storage": settings.place.url, "study": "s", "number": hopeless.number, "metric": "val/acc"}
    search = tiny_config(
        tmp_path / "runs", *MOBILE, "strategy.pool_size=32", "trainer.steps=40", "trainer.checkpoint_seconds=0"
    )
    search = search.model_validate({**search.model_dump(), "trial": trial})
    kept: list[bool] = []

    def seen(line: str) -> None:
        if line.startswith("epoch 2/"):
            kept.append(any((search.run_folder / "checkpoints").glob("*.ckpt")))

    with pytest.raises(SearchStoppedError, match=r"trial 1 of study s is stopped after epoch 2"):
        run_search(search, seen)
    assert kept == [True]
    assert not (search.run_folder / "checkpoints").exists()
    assert json.loads((search.run_folder / "status.json").read_text())["status"] == "stopped"
    told = first.settle(hopeless, Outcome("stopped", {}))
    assert told is not None
    assert (told.state, list(told.intermediate_values)) == (TrialState.PRUNED, [1, 2])


def test_epochs_that_an_interrupted_attempt_told_are_not_told_again(tmp_path: Path) -> None:
    settings = config(tmp_path)
    mine = worker(settings)
    [trial], _ = mine.take(1)
    where = {"storage": settings.place.url, "study": "s", "number": trial.number}
    watcher(**where)({"epoch": 1, "val/acc": 0.5})
    again = watcher(**where)
    again({"epoch": 1, "val/acc": 0.9})
    again({"epoch": 2, "val/loss": 0.1})  # an epoch without the metric
    again({"epoch": 3, "val/acc": 0.7})
    assert mine.study.trials[0].intermediate_values == {1: 0.5, 3: 0.7}


def test_a_search_that_diverges_is_stopped(tmp_path: Path) -> None:
    settings = config(tmp_path)
    [trial], _ = worker(settings).take(1)
    with pytest.raises(SearchStoppedError):
        watcher(storage=settings.place.url, study="s", number=trial.number)({"epoch": 1, "val/acc": math.nan})


@pytest.mark.parametrize("file", ["study.db", "study.journal"])
def test_a_storage_that_is_away_for_some_epochs_is_told_once_and_ends_no_search(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    settings = config(home, storage=f"{home}/{file}")
    mine = worker(settings)
    [trial], _ = mine.take(1)
    watch = watcher(storage=settings.place.url, study="s", number=trial.number)
    watch({"epoch": 1, "val/acc": 0.1})
    home.rename(away)
    watch({"epoch": 2, "val/acc": 0.2})
    watch({"epoch": 3, "val/acc": 0.3})
    with pytest.raises(SearchStoppedError):
        watch({"epoch": 4, "val/acc": math.nan})
    away.rename(home)
    watch({"epoch": 5, "val/acc": 0.5})
    assert worker(settings).study.trials[0].intermediate_values == {1: 0.1, 5: 0.5}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("study s does not hear of epoch 2; the search goes on: ")
