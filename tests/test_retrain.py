"""A network trained again: what it leaves, how it goes on after kill -9, seeds and their mean, and what is refused."""

import csv
import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import onnxruntime
import pytest
import safetensors.torch
import torch
from data_files import real
from tiny_search import composed

import trainers.deploy.retrain_training
from hardware_models.measuring.measure import export
from search_spaces.architecture import architecture_of, build_network, read_architecture
from search_spaces.blocks import without_resize
from search_spaces.errors import InvalidInputError
from search_spaces.nasbench201.space import NasBench201Space
from trainers.data.datasets import data_config, load_data
from trainers.deploy.retrain import retrain
from trainers.deploy.retrain_config import validate
from trainers.deploy.retrain_job import Job, fitted, identified
from trainers.deploy.retrain_plan import prepare
from trainers.deploy.retrain_result import RetrainResult, SeedResult, best_of, finished_in
from trainers.deploy.retrain_training import DivergedError, Training
from trainers.deploy.standalone import score
from trainers.runs.exit_status import RunFolderError
from trainers.runs.folder import RunFolder
from trainers.sweeps.survey import survey

CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
SMALL = ("data.limit=300", "batch_size=32", "epochs=2", "threads=1")
TINY = (f'arch="{CELL}"', "space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=16", *SMALL)
ALL = ("label_smoothing=0.1", "mixup=0.2", "cutout=4", "ema=0.9", "clip_norm=0.1")
CLOCKS = {"time/step_s"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Processes are forked here, which is sound only while nothing else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def job_of(runs: Path, *overrides: str) -> Job:
    return identified(validate(composed(*TINY, *overrides, f"paths.runs={runs}", app="retrain")))


def trained(runs: Path, *overrides: str) -> tuple[RetrainResult, Path]:
    job = job_of(runs, *overrides)
    return retrain(job, lambda line: None), job.run_folder


def seed_of(runs: Path, *overrides: str) -> SeedResult:
    """A training of one seed, without its file, which takes longer to make."""
    job = job_of(runs, *overrides)
    folder = RunFolder(job.run_folder, command="")
    (found,) = Training(prepare(job, lambda line: None), folder, lambda line: None).run().finished
    return SeedResult.model_validate(found)


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[RetrainResult, Path]:
    return trained(tmp_path_factory.mktemp("three"), "seeds=3", "seed=5")


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be the same of a training that was interrupted and of one that was not."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    clocked = {"train_seconds": None}
    return {
        "seeds": [{**each, **clocked} for each in result["seeds"]],
        "weights": {name: digest for name, digest in result["files"].items() if name.startswith("weights/")},
        "file": result["files"]["network.onnx"],
        "deployed": result["deployed"],
        "metrics": [{name: row[name] for name in row if name not in CLOCKS} for row in rows],
    }


def test_a_training_leaves_its_network_weights_metrics_and_file(three_seeds: tuple[RetrainResult, Path]) -> None:
    result, folder = three_seeds
    assert finished_in(folder) == result
    assert not (folder / "state.ckpt").exists()
    architecture = read_architecture(folder / "architecture.json")
    assert result.id == architecture.id and result.notation == CELL
    assert result.data.images.architecture == 0 and result.steps == 2 * (result.data.images.weights // 32)
    rows = list(csv.DictReader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["seed"], row["epoch"]) for row in rows] == [(str(s), str(e)) for s in (5, 6, 7) for e in (1, 2)]
    assert [float(row["train/lr"]) for row in rows[:2]] == pytest.approx([0.1, 0.05])  # a cosine over two epochs
    job = job_of(folder.parent.parent, "seeds=3", "seed=5")
    data = load_data(data_config(job.config.data), image_size=(16, 16), joined=True)
    for each in result.seeds:
        network = without_resize(build_network(architecture))
        network.load_state_dict(safetensors.torch.load_file(folder / each.weights))
        for split, recorded in (("validation", each.validation), ("test", each.test)):
            found = score(network, data, split, images=None, batch_size=32)
            assert (found.accuracy, found.images) == (recorded.accuracy, recorded.images)


def test_the_file_is_that_of_the_best_seed_by_validation(three_seeds: tuple[RetrainResult, Path]) -> None:
    result, folder = three_seeds
    best = next(each for each in result.seeds if each.seed == result.best_seed)
    assert best.validation.accuracy == max(each.validation.accuracy for each in result.seeds)
    data = load_data(data_config(job_of(folder, "data.limit=300").config.data), image_size=(16, 16))
    session = onnxruntime.InferenceSession(folder / result.file.path)
    right = [session.run(None, {"image": x})[0].argmax() == y for x, y in data.stored("test")]
    assert result.deployed.accuracy == pytest.approx(mean(map(float, right)))
    # Digits are of 8 pixels and stretched to 16 in both, once in whole levels: few images may be judged otherwise.
    assert abs(result.deployed.accuracy - best.test.accuracy) * len(right) <= 3


def test_the_best_of_seeds_of_one_accuracy_is_the_one_of_least_loss(three_seeds: tuple[RetrainResult, Path]) -> None:
    def seed(number: int, accuracy: float, loss: float) -> SeedResult:
        one = three_seeds[0].seeds[0]
        validation = one.validation.model_copy(update={"accuracy": accuracy, "loss": loss})
        return one.model_copy(update={"seed": number, "validation": validation})

    assert best_of([seed(0, 0.5, 0.1), seed(1, 0.6, 0.9), seed(2, 0.6, 0.8), seed(3, 0.6, 0.8)]).seed == 2


def test_mean_and_deviation_over_seeds_are_those_of_single_runs(
    three_seeds: tuple[RetrainResult, Path], tmp_path: Path
) -> None:
    result, _ = three_seeds
    alone = [seed_of(tmp_path, f"seed={seed}") for seed in (5, 6, 7)]
    assert [each.train_loss for each in alone] == [each.train_loss for each in result.seeds]
    for kind, found in (("validation", result.validation_accuracy), ("test", result.test_accuracy)):
        figures = [getattr(each, kind).accuracy for each in alone]
        assert (found.mean, found.deviation) == pytest.approx((mean(figures), stdev(figures)))
    assert len({each.train_loss for each in result.seeds}) == 3


def test_the_same_command_is_the_same_run_and_a_finished_one_trains_nothing(
    three_seeds: tuple[RetrainResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, folder = three_seeds
    monkeypatch.setattr(trainers.deploy.retrain, "prepare", None)
    lines: list[str] = []
    assert retrain(job_of(folder.parent.parent, "seeds=3", "seed=5"), lines.append) == result
    assert "finished already" in lines[0]
    for other in ("seed=6", "mixup=0.1", "optimizer.lr=0.2", "joined=false", "data.limit=280", "space.width=8"):
        assert job_of(folder.parent.parent, "seeds=3", "seed=5", other).run_key != folder.name
    same = job_of(folder.parent.parent, "seeds=3", "seed=5", "threads=2", "paths.data=elsewhere")
    assert same.run_folder == folder


def test_the_test_images_are_scored_once_at_the_end_of_each_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[str] = []

    def spy(network: Any, data: Any, split: Any, **settings: Any) -> Any:
        scored.append(split)
        return score(network, data, split, **settings)

    monkeypatch.setattr(trainers.deploy.retrain_training, "score", spy)
    result, _ = trained(tmp_path, "seeds=2", "steps=10", "epochs=50")
    assert scored == ["validation", "validation", "test"] * 2  # seven batches an epoch
    assert result.steps == 10


def test_the_status_of_a_folder_tells_of_trainings_beside_searches(
    three_seeds: tuple[RetrainResult, Path], tmp_path: Path
) -> None:
    result, folder = three_seeds
    copy = tmp_path / "retrain" / folder.name
    shutil.copytree(folder, copy)
    (row,), commands = survey(tmp_path)
    assert (row.state, row.accuracy, row.met) == ("done", result.validation_accuracy.mean, None)
    assert (row.epoch, row.epochs, commands) == (6, 6, [])
    (copy / "network.onnx").unlink()
    (row,), _ = survey(tmp_path)
    assert (row.state, row.reason) == ("unreadable", "missing: network.onnx")


# Resuming


def interrupted(job: Job, *, rows: int) -> None:
    """Trains in a process that is killed once metrics.csv has so many rows."""
    process = os.fork()
    if not process:
        try:
            torch.set_num_threads(1)
            retrain(job, lambda line: None)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    metrics = job.run_folder / "metrics.csv"
    while not metrics.exists() or len(metrics.read_text(encoding="utf-8").splitlines()) <= rows:
        assert os.waitpid(process, os.WNOHANG)[0] == 0
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def test_a_killed_training_ends_with_the_same_bits(three_seeds: tuple[RetrainResult, Path], tmp_path: Path) -> None:
    teacher = f"distill.teacher={three_seeds[1] / 'network.onnx'}"
    every = (*ALL, teacher, "seeds=2", "epochs=3", "optimizer=adamw", "data.sampling=balanced")
    _, whole = trained(tmp_path / "whole", *every)
    job = job_of(tmp_path / "killed", *every)
    interrupted(job, rows=1)  # in the first seed
    assert finished_in(job.run_folder) is None
    interrupted(job, rows=4)  # in the second
    assert [path.name for path in (job.run_folder / "weights").iterdir()] == ["seed0.safetensors"]
    result = retrain(job, lambda line: None)
    assert outcome(job.run_folder) == outcome(whole)
    assert result.attempts == 3


def test_each_element_of_the_protocol_changes_what_is_trained(tmp_path: Path) -> None:
    plain = seed_of(tmp_path, "epochs=1").validation
    for element in (*ALL, "joined=false", "schedule=constant", "optimizer.nesterov=false"):
        assert seed_of(tmp_path, "epochs=1", element).validation != plain, element


def test_a_state_that_is_torn_or_of_other_versions_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path)
    interrupted(job, rows=1)
    state = job.run_folder / "state.ckpt"
    content = state.read_bytes()
    with monkeypatch.context() as changed:
        changed.setattr("trainers.deploy.retrain_state.versions", lambda: {"torch": "1.0"})
        with pytest.raises(RunFolderError, match=r"torch was .* is 1\.0"):
            retrain(job, lambda line: None)
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(RunFolderError):
        retrain(job, lambda line: None)
    assert json.loads((job.run_folder / "status.json").read_text(encoding="utf-8"))["status"] == "failed"


def test_a_loss_that_is_no_number_ends_the_training_by_its_seed(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="seed 0"):
        trained(tmp_path, "optimizer.lr=1e30")


# Weights and teachers of others


def test_a_training_goes_on_from_weights(three_seeds: tuple[RetrainResult, Path], tmp_path: Path) -> None:
    result, folder = three_seeds
    best = next(each for each in result.seeds if each.seed == result.best_seed)
    gone_on, _ = trained(tmp_path, f"weights={folder / best.weights}", "optimizer.lr=1e-9", "steps=1")
    # The weights are the same; one batch has moved the statistics of the norms.
    assert gone_on.seeds[0].train_loss < seed_of(tmp_path, "steps=1").train_loss
    assert gone_on.test_accuracy.deviation is None  # of one seed
    own = (f"weights={folder / best.weights}", "optimizer.lr=1e-9", "steps=1")
    file = f"architecture={folder / 'architecture.json'}"
    content = composed(*SMALL, file, *own, f"paths.runs={tmp_path}", app="retrain")
    assert identified(validate(content)).run_folder == job_of(tmp_path, *own).run_folder  # it is the same network


def test_a_network_is_fitted_to_the_classes_and_channels_of_the_data() -> None:
    space = NasBench201Space.small()
    given = architecture_of(space, space.parse(CELL))
    made, note = fitted(given, num_classes=7, channels=1)
    assert made.spec == {**given.spec, "num_classes": 7, "channels": 1} and made.choices == given.choices
    assert made.input_shape == (1, 8, 8) and note is not None
    assert fitted(given, num_classes=4, channels=3) == (given, None)


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (("arch=null",), {"architecture"}),
        (
            ("seeds=0", "mixup=-1", "label_smoothing=1", "ema=1", "cutout=-1"),
            {"seeds", "mixup", "label_smoothing", "ema", "cutout"},
        ),
        (("batch_size=1", "epochs=0", "steps=0", "clip_norm=0"), {"batch_size", "epochs", "steps", "clip_norm"}),
        (("distill.weight=2", "distill.temperature=0"), {"distill.weight", "distill.temperature"}),
        (("weights=nowhere", "distill.teacher=nowhere"), {"weights", "distill.teacher"}),
        (("optimizer.lr=-1",), {"optimizer"}),
        (("data.shift=100", "data.image_size=[8,8]"), {"data"}),
    ],
)
def test_wrong_values_are_refused_together_by_their_keys(
    tmp_path: Path, overrides: tuple[str, ...], keys: set[str]
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        job_of(tmp_path, *overrides)
    assert set(refused.value.fields) == keys


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("batch_size=1000",), "batch_size"),
        (("cutout=16",), "cutout"),
        (("weights={weights}", "space.width=8"), "weights"),
        (("weights={onnx}",), "weights"),
        (("distill.teacher={weights}",), "distill.teacher"),
        (("distill.teacher={bare}",), "distill.teacher"),
    ],
)
def test_what_only_files_and_data_show_is_refused_before_a_folder_is_made(
    three_seeds: tuple[RetrainResult, Path], tmp_path: Path, overrides: tuple[str, ...], key: str
) -> None:
    folder, bare = three_seeds[1], tmp_path / "bare.onnx"
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))  # which takes no image as it is stored
    bare.write_bytes(export(linear, (1, 8, 8)).SerializeToString())
    files = {"weights": folder / "weights/seed5.safetensors", "onnx": folder / "network.onnx", "bare": bare}
    with pytest.raises(InvalidInputError) as refused:
        trained(tmp_path / "runs", *(override.format(**files) for override in overrides))
    assert refused.value.fields == (key,)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_cell_learns_cifar10_with_three_seeds(tmp_path: Path) -> None:
    root = real("cifar10")
    own = ("data=cifar10", f"paths.data={root}", "data.limit=4000", "data.limit_test=1000", "space.image_size=32")
    result, _ = trained(tmp_path, *own, "epochs=4", "seeds=3", "label_smoothing=0.1", "ema=0.95")
    assert result.test_accuracy.mean > 0.2  # a tenth by chance
    assert result.test_accuracy.deviation is not None and result.test_accuracy.deviation < 0.1
    assert abs(result.deployed.accuracy - result.seeds[result.best_seed].test.accuracy) < 0.01
