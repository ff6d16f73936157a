"""`espalier-export` of a training: its best seed's network as files, with what they do, and a card of the training."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from console import EXPORT, Cli, console, done, refused
from elsewhere import right_of_folder, stored_test_images
from tiny_search import composed

from trainers.data.datasets import data_config, load_data
from trainers.deploy.retrain import retrain
from trainers.deploy.retrain_config import validate
from trainers.deploy.retrain_job import identified
from trainers.deploy.retrain_result import RESULT, RetrainResult
from trainers.runs.exports import read_export
from trainers.runs.files import read_as

CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
SPACE = (f'arch="{CELL}"', "space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=16")
ASKED = (*SPACE, "data.limit=430", "batch_size=32", "steps=16", "threads=1", "seeds=2", "joined=true")


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(EXPORT, monkeypatch, capsys, tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = identified(validate(composed(*ASKED, f"paths.runs={tmp_path_factory.mktemp('runs')}", app="retrain")))
    retrain(job, lambda line: None)
    return job.run_folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the training that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def test_the_files_of_a_training_are_its_best_seeds_and_do_what_is_recorded_elsewhere(
    export: Cli, copied: Path, tmp_path: Path
) -> None:
    result = read_as(copied / RESULT, RetrainResult)
    done(export(f"run={copied}", "calibration_images=16", "repeats=1", "limits.accuracy_drop=1"))
    folder = copied / "export"
    assert {path.name for path in folder.iterdir()} == {
        *("export.json", "network.md", "network.onnx", "network.int8.onnx")
    }
    found = read_export(folder / "export.json")
    assert found.run == copied.name and list(found.devices) == ["network"]
    network = found.devices["network"]
    fp32, int8 = network.files
    best = next(seed for seed in result.seeds if seed.seed == result.best_seed)
    assert fp32.accuracy == result.deployed.accuracy
    assert abs(network.accuracy - best.test.accuracy) * best.test.images < 1.5  # sums in another order may break a tie
    assert (folder / fp32.path).read_bytes() == (copied / result.file.path).read_bytes()
    assert fp32.largest_difference < 1e-3 * network.largest_output
    assert int8.largest_difference > fp32.largest_difference
    config = yaml.safe_load((copied / "config.yaml").read_text(encoding="utf-8"))
    images = stored_test_images(load_data(data_config(config["data"])), tmp_path / "images")
    for file in network.files:
        right, count = right_of_folder(folder / file.path, images, "L")
        assert count == file.images == result.data.images.test and right == round(file.accuracy * count)


def test_the_card_of_a_training_has_its_figures_and_no_budget(export: Cli, copied: Path) -> None:
    result = read_as(copied / RESULT, RetrainResult)
    done(export(f"run={copied}", "precisions=[fp32]", "repeats=1"))
    card = (copied / "export" / "network.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (validation|test) \| (\S+ \| \S+) \|$", card, re.MULTILINE))
    spreads = {"validation": result.validation_accuracy, "test": result.test_accuracy}
    assert rows == {name: f"{each.mean:.4f} | {each.deviation:.4f}" for name, each in spreads.items()}
    assert CELL in card and "## Budgets" not in card and "network.onnx" in card
    assert f"{result.params_m:.4g} million" in card


def test_where_the_file_is_gone_it_is_made_again_of_the_weights(export: Cli, copied: Path) -> None:
    result = read_as(copied / RESULT, RetrainResult)
    (copied / result.file.path).unlink()
    done(export(f"run={copied}", "precisions=[fp32]", "repeats=1"))
    (file,) = read_export(copied / "export" / "export.json").devices["network"].files
    assert file.accuracy == result.deployed.accuracy


def test_what_a_training_has_not_is_refused_by_its_key(export: Cli, copied: Path) -> None:
    assert refused(export(f"run={copied}", "devices=[mid_tablet]"), "espalier-export") == ("devices",)
    result, status = copied / "result.json", copied / "status.json"
    written, state = result.read_text(encoding="utf-8"), status.read_text(encoding="utf-8")
    result.write_text(json.dumps(json.loads(written) | {"best_seed": 7}), encoding="utf-8")
    assert refused(export(f"run={copied}"), "espalier-export") == ("run",)
    result.unlink()
    status.write_text(json.dumps(json.loads(state) | {"status": "interrupted"}), encoding="utf-8")
    assert refused(export(f"run={copied}"), "espalier-export", json.loads(state)["command"]) == ("run",)
    assert not (copied / "export").exists()
