"""Where a search computes and in which precision: a GPU that is not there is refused, one that is there is used."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_search import CELLS, MOBILE, tiny_config
from torch import nn

from search_spaces.errors import InvalidInputError
from trainers.cli.search import run_search
from trainers.data.datasets import data_config, load_data
from trainers.runs.config import SearchConfig
from trainers.search.computing import compute_in_bf16, take_selections
from trainers.search.plan import prepare

TWO = ("trainer.devices=2", "trainer.batch_size=8")


def config_of(runs: Path, *overrides: str, space: tuple[str, ...] = MOBILE) -> SearchConfig:
    short = ("strategy.pool_size=32", "trainer.threads=1", "trainer.checkpoint_seconds=0", "data.limit=200")
    return tiny_config(runs, *space, *short, *overrides)


def test_auto_is_the_cpu_where_there_is_no_gpu_and_gpu_is_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    auto, cpu = (config_of(tmp_path, f"trainer.accelerator={name}") for name in ("auto", "cpu"))
    assert auto == cpu and auto.trainer.accelerator == "cpu"
    gpu = config_of(tmp_path, "trainer.accelerator=gpu")
    with pytest.raises(InvalidInputError) as caught:
        run_search(gpu, lambda line: None)
    assert "trainer.accelerator" in str(caught.value) and not gpu.run_folder.exists()


def test_more_gpus_than_there_are_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = config_of(tmp_path, "trainer.devices=4", "trainer.batch_size=4")
    assert config.trainer.accelerator == "gpu"
    with pytest.raises(InvalidInputError) as caught:
        prepare(config)
    assert "trainer.devices" in str(caught.value)


def test_training_in_bf16_gives_float32_and_evaluation_is_not_in_bf16(tmp_path: Path) -> None:
    config = config_of(tmp_path, "trainer.precision=bf16-mixed", "trainer.steps=2", space=CELLS)
    supernet, seen = prepare(config).searched.supernet(), set()
    compute_in_bf16(supernet)
    supernet.register_forward_hook(lambda module, given, output: seen.add(output.dtype))
    conv = next(module for module in supernet.modules() if isinstance(module, nn.Conv2d))
    conv.register_forward_hook(lambda module, given, output: seen.add((torch.is_grad_enabled(), output.dtype)))
    selection = {decision.name: 0 for decision in prepare(config).space.decisions}
    x = torch.randn(2, 1, 16, 16)
    supernet(x, selection)
    with torch.no_grad():
        supernet(x, selection)
    assert seen == {torch.float32, (True, torch.bfloat16), (False, torch.float32)}
    assert run_search(config, lambda line: None).search.precision == "bf16-mixed"


def test_a_selection_is_sent_as_it_is_with_its_gradients(tmp_path: Path) -> None:
    plan = prepare(config_of(tmp_path, space=CELLS))
    supernet, x = plan.searched.supernet().eval(), torch.randn(2, 1, 16, 16)
    weights = [torch.rand(len(decision.choices), requires_grad=True) for decision in plan.space.decisions]
    selection = {decision.name: each for decision, each in zip(plan.space.decisions, weights, strict=True)}
    expected = torch.autograd.grad(supernet(x, selection).square().sum(), weights)
    take_selections(supernet)
    found = torch.autograd.grad(supernet(x, selection).square().sum(), weights)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_search_on_a_gpu_ends_with_networks_within_budget(precision: str, tmp_path: Path) -> None:
    overrides = ("trainer.accelerator=gpu", f"trainer.precision={precision}", "trainer.deploy=true")
    config = config_of(
        tmp_path, *overrides, "remedy=[lambda,oles]", "relaxation=mixture", "sampler=mixture", space=CELLS
    )
    result = run_search(config, lambda line: None)
    assert result.status == "done" and result.search.accelerator == "gpu"
    assert result.search.peak_gpu_memory_mb
    assert all(device.accuracy.deployed is not None for device in result.devices.values())


@pytest.mark.gpu
@needs_gpu
def test_a_search_on_a_gpu_that_was_killed_goes_on(tmp_path: Path) -> None:
    config = config_of(tmp_path, "trainer.accelerator=gpu", "trainer.steps=60")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + KILLED]
    killed = subprocess.run([*command, config.model_dump_json()])
    assert killed.returncode == -signal.SIGKILL
    assert run_search(config, lambda line: None).search.steps == 60


KILLED = """
import json, os, signal
from trainers.cli.search import LogRun, run_search
from trainers.runs.config import validate
LogRun.on_epoch = lambda self, rows: len(rows) == 3 and os.kill(os.getpid(), signal.SIGKILL)
run_search(validate(json.loads(sys.argv[1])), print)
"""


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_gpus_find_one_architecture(tmp_path: Path) -> None:
    result = run_search(config_of(tmp_path, "trainer.accelerator=gpu", *TWO), lambda line: None)
    assert result.status == "done" and result.search.processes == 2


@pytest.mark.gpu
@needs_gpu
def test_images_on_a_gpu_are_augmented_as_on_the_cpu(tmp_path: Path) -> None:
    data = load_data(data_config(config_of(tmp_path).data))

    def batches() -> list[torch.Tensor]:
        return [x for x, _ in data.batches("weights", batch_size=16, seed=0, epoch=0, augment=True)]

    on_cpu = batches()
    data.reside_on(torch.device("cuda", 0))
    for x, expected in zip(batches(), on_cpu, strict=True):
        assert x.is_cuda and torch.allclose(x.cpu(), expected, rtol=0, atol=1e-5)
