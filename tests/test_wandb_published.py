"""W&B gets the result of a run that it was not told whole, once; nobody gets that of a run nobody follows."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tracked_runs import OFFLINE, Followed, as_nobody, followed, record_of, searched_offline

from trainers.loggers.identity import is_published
from trainers.loggers.logger import LocalTracker, SteadyTracker
from trainers.reports.publish import publish_if_missing, publish_result


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched_offline(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def attempt(searched: Path) -> Followed:
    (attempt,) = followed(searched)
    return attempt


@pytest.fixture
def result(searched: Path) -> dict[str, Any]:
    return json.loads((searched / "result.json").read_text())


@pytest.fixture
def killed(searched: Path, tmp_path: Path) -> Path:
    """The folder of a run whose process was killed between its result and its tracker's copy of it."""
    folder = tmp_path / searched.name
    shutil.copytree(searched, folder, ignore=shutil.ignore_patterns("wandb"))
    kept = json.loads((folder / "tracking.json").read_text())
    assert kept.pop("published") == ["wandb"]
    (folder / "tracking.json").write_text(json.dumps(kept))
    return folder


def test_a_result_that_was_not_published_is_when_its_command_is_repeated_and_once(
    killed: Path, attempt: Followed, result: dict[str, Any], tmp_path: Path
) -> None:
    with as_nobody(tmp_path / "home"):
        for _ in range(2):
            publish_if_missing(OFFLINE, record_of(killed, resumed=True), print, exit_code=0)
    (again,) = followed(killed)
    assert (again.run["run_id"], again.exit_code) == (attempt.run["run_id"], 0)
    assert [alert["title"] for alert in again.records["alert"]] == [a["title"] for a in attempt.records["alert"]]
    assert [row["step"] for row in again.rows if "step" in row] == [
        row["step"] for row in attempt.rows if "step" in row
    ]
    accuracy = next(row["result/validation_accuracy"] for row in again.rows if "gap/supernet" in row)
    assert accuracy == pytest.approx(result["objective"]["validation_accuracy"], rel=1e-12)
    assert is_published(killed, "wandb")


def test_a_trial_of_a_sweep_of_wandb_that_equals_a_finished_run_is_told_its_objective(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_nobody(tmp_path / "home"):
        publish_if_missing(OFFLINE, record_of(killed), print, exit_code=0)
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
        monkeypatch.setenv("WANDB_RUN_ID", "trial456")
        for _ in range(2):
            publish_if_missing(OFFLINE, record_of(killed), print, exit_code=0)
    (trial,) = [found for found in followed(killed) if found.run["run_id"] == "trial456"]
    assert any("result/validation_accuracy" in row for row in trial.rows)


def test_a_result_counts_as_published_only_when_the_tracker_took_all_of_it(killed: Path) -> None:
    class Gone(LocalTracker):
        def finish(self, exit_code: int) -> None:
            raise ConnectionError("the service has gone")

    for tracker, mark in ((Gone(), False), (LocalTracker(), True)):
        marks: list[bool] = []
        steady = SteadyTracker(tracker, lambda line: None, delivered=lambda marks=marks: marks.append(True))
        publish_result(steady, killed)
        assert marks == []  # what is on its way may be lost yet
        steady.finish(0)
        assert marks == [True] * mark


def test_a_run_that_nobody_follows_is_published_nowhere(killed: Path, tmp_path: Path) -> None:
    publish_if_missing({"name": "local"}, record_of(killed), print, exit_code=0)
    with as_nobody(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        publish_if_missing(OFFLINE, record_of(killed), print, exit_code=0)
    assert not is_published(killed, "wandb") and not (killed / "wandb").exists()
