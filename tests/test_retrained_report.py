"""The report and the check of a folder of `espalier-retrain`: true to its files, and false once they change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from report_marks import assert_true_to_files
from tiny_search import composed

from trainers.cli.report_command import DONE, FAILED, run
from trainers.deploy.retrain import retrain
from trainers.deploy.retrain_config import validate
from trainers.deploy.retrain_job import identified
from trainers.reports.check import Check
from trainers.reports.report import write_report
from trainers.reports.verify import verify_run

CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
SPACE = (f'arch="{CELL}"', "space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=16")
ASKED = (*SPACE, "data.limit=300", "batch_size=32", "epochs=2", "threads=1", "seeds=2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = identified(validate(composed(*ASKED, f"paths.runs={tmp_path_factory.mktemp('runs')}", app="retrain")))
    retrain(job, lambda line: None)
    return job.run_folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished training, to change."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


def failed(folder: Path) -> list[Check]:
    return [check for check in verify_run(folder) if check.outcome == "FAILED"]


def test_a_training_as_it_is_passes_and_all_but_clocks_and_origin_is_checked(finished: Path) -> None:
    checks = verify_run(finished)
    assert [check for check in checks if check.outcome == "FAILED"] == []
    assert {field for check in checks if check.outcome == "not checked" for field in check.fields} == {
        *("seeds.*.train_seconds", "threads", "processors", "versions", "data.origin")
    }
    assert run(["verify", str(finished)]) == DONE


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    edit(content)
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("gflops",), 1.0),
        (("params_m",), 1.0),
        (("steps",), 3),
        (("best_seed",), 7),
        (("input_size",), [16, 17]),
        (("seeds", 1, "train_loss"), 0.5),
        (("seeds", 0, "test", "accuracy"), 1.0),
        (("seeds", 0, "test", "loss"), 1e-3),
        (("seeds", 1, "validation", "balanced_accuracy"), 1.0),
        (("test_accuracy", "deviation"), 0.5),
        (("validation_accuracy", "mean"), 0.999),
        (("deployed", "accuracy"), 0.999),
        (("deployed", "images"), 3),
        (("file", "bytes"), 3),
        (("data", "majority", "share"), 0.99),
        (("data", "images", "test"), 3),
    ],
)
def test_a_figure_that_is_not_of_the_files_fails_by_its_field(
    folder: Path, path: tuple[str | int, ...], value: Any
) -> None:
    def edit(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        assert content[path[-1]] != value
        content[path[-1]] = value

    change(folder, edit)
    fields = [field for check in failed(folder) for field in check.fields]
    named = ".".join(map(str, path))
    assert any(field == named or field.startswith(f"{named}.") for field in fields), fields


def test_weights_of_another_training_fail_by_their_hash_and_by_their_accuracy(folder: Path) -> None:
    path = folder / "weights" / "seed0.safetensors"
    weights = {name: torch.zeros_like(value) for name, value in safetensors.torch.load_file(path).items()}
    id = json.loads((folder / "result.json").read_text(encoding="utf-8"))["id"]
    safetensors.torch.save_file(weights, path, {"architecture": id})
    fields = [field for check in failed(folder) for field in check.fields]
    assert "files.weights/seed0.safetensors" in fields and "seeds.0.test.loss" in fields
    assert run(["verify", str(folder)]) == FAILED


def test_the_page_is_whole_and_every_figure_in_it_is_that_of_its_file(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    fields = assert_true_to_files(page, folder)
    assert {"test_accuracy.mean", "seeds.1.test.accuracy", "deployed.accuracy", "asked.batch_size", "val/acc"} <= set(
        fields
    )
    assert "<script" not in page and "<svg" in page
    assert len(page.encode()) < 500_000
