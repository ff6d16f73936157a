"""Several processes train one supernet: as one process with all their images does, resumably, and none outlives it."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from forked_processes import ForkedWorker
from interrupted_search import (
    ended,
    one_thread,  # noqa: F401  # a fixture
    outcome,
    start,
    wait,
)
from tiny_search import CELLS, MOBILE, tiny_config
from torch import Tensor, nn

import trainers.search.module
import trainers.search.processes
import trainers.search.run
import trainers.search.worker
from trainers.data.datasets import ImageData, data_config, load_data
from trainers.data.task import Classification
from trainers.runs.config import SearchConfig
from trainers.runs.state import state_of
from trainers.search.module import SearchModule
from trainers.search.processes import ProcessLostError, connect
from trainers.search.ranks import ProcessesDifferError, Ranks, ShardedTask
from trainers.search.run import run

POOL = ("strategy=pool", "strategy.pool_size=32")
TWO = ("trainer.devices=2", "trainer.batch_size=8")
SHORT = ("trainer.threads=1", "trainer.checkpoint_seconds=0", "data.limit=200", "trainer.candidates=2")
# Sums over images are made in another order. With weights in float64 losses differ by less than 1e-10 after 12 steps,
# and what comes of logits, which are float32, by its rounding. With weights in float32 batch norms of nearly constant
# channels make of 1e-7 in one step up to 1e-4 of the loss, and more later.
TOLERANCE = {"abs_tol": 1e-8, "rel_tol": 1e-6}


@pytest.fixture(autouse=True)
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers.search.processes, "Worker", ForkedWorker)


def config_of(runs: Path, *overrides: str, space: tuple[str, ...] = MOBILE) -> SearchConfig:
    return tiny_config(runs, *space, *POOL, "trainer.steps=12", *SHORT, *overrides)


def both(compute: Callable[[Ranks], Any], folder: Path) -> Any:
    """What `compute` gives in the first of two connected processes."""
    process = os.fork()
    ranks = Ranks(0 if process else 1, 2)
    try:
        connect(dist.FileStore(str(folder / "store"), 2), ranks, "cpu")
        found = compute(ranks)
    except Exception:
        if process:
            raise
    finally:
        if not process:
            os._exit(0)
        dist.destroy_process_group()
        os.waitpid(process, 0)
    return found


# What each process computes


class Odd(nn.Module):
    """Batch norms with and without scale and statistics of their own, of images and of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.linear, self.vectors = nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(self.norm(self.conv(x)).relu(), None, None, training=True)
        return self.vectors(self.linear((y * y.sigmoid()).mean((2, 3))))


def test_gradients_and_statistics_of_two_shares_are_those_of_all_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, task = Odd().double(), Classification(torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64))
    x, y = torch.randn(8, 3, 6, 6, dtype=torch.float64), torch.randint(3, (8,))
    alone = Odd().double()
    alone.load_state_dict(network.state_dict())
    loss = task.loss(alone(x), y)
    loss.backward()

    def compute(ranks: Ranks) -> float:
        own = slice(4 * ranks.number, 4 * ranks.number + 4)
        with ranks.together():
            own_loss = ShardedTask(task, ranks).loss(network(x[own]), y[own])
            own_loss.backward()
            ranks.average_gradients(network.parameters())
            return ranks.mean(float(own_loss.detach()))

    assert both(compute, tmp_path) == pytest.approx(float(loss.detach()), abs=1e-12)
    for one, other in zip(alone.parameters(), network.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-12)
    for one, other in zip(alone.buffers(), network.buffers(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_outside_of_a_step_each_process_is_alone(tmp_path: Path) -> None:
    network = nn.BatchNorm1d(2)
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])

    def compute(ranks: Ranks) -> list[Any]:
        x_own = x * (1 + ranks.number)
        generator = np.random.default_rng(0)
        drawn = ranks.draw(generator, 2)
        return [network(x_own).detach(), ranks.mean(3.0 + ranks.number), ranks.average([x_own])[0], drawn]

    normalised, mean, averaged, drawn = both(compute, tmp_path)
    assert torch.equal(normalised, nn.BatchNorm1d(2)(x).detach())
    assert (mean, drawn.tolist()) == (3.0, np.random.default_rng(0).random(2).tolist())
    assert torch.equal(averaged, x)


def test_processes_that_differ_are_found(tmp_path: Path) -> None:
    with pytest.raises(ProcessesDifferError):
        both(lambda ranks: ranks.check_alike(f"{ranks.number:02x}"), tmp_path)


def test_shares_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    data: ImageData = load_data(data_config(config_of(tmp_path).data))

    def batches(**share: int) -> list[Any]:
        return list(data.loader(batch_size=16, seed=3, epoch=lambda: 1, **share))

    whole, first, second = batches(), batches(rank=0, ranks=2), batches(rank=1, ranks=2)
    assert len(whole) == len(first) == len(second)
    for pair, one, other in zip(whole, first, second, strict=True):
        for part in (0, 1):
            for k in (0, 1):
                assert torch.equal(pair[part][k], torch.cat([one[part][k], other[part][k]]))


# Whole searches


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Supernets are trained in float64."""
    make = trainers.search.module.make_module

    def doubled(supernet: nn.Module, given: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        x, selection = given
        return x.double(), {n: w.double() if isinstance(w, Tensor) else w for n, w in selection.items()}

    def make_double(*arguments: Any, **more: Any) -> SearchModule:
        module = make(*arguments, **more)
        module.supernet.double().register_forward_pre_hook(doubled)
        return module

    monkeypatch.setattr(trainers.search.run, "make_module", make_double)
    monkeypatch.setattr(trainers.search.worker, "make_module", make_double)


def same_within(one: Any, other: Any) -> bool:
    """Whether two outcomes are the same, numbers within the tolerance; of weights no hashes."""
    if isinstance(one, dict):
        names = [name for name in one if name not in ("lineage", "id", "weights_sha256", "evidence", "agreement")]
        return set(one) == set(other) and all(same_within(one[name], other[name]) for name in names)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_within, one, other))
    try:
        return math.isclose(float(one), float(other), **TOLERANCE)
    except (TypeError, ValueError):
        return bool(one == other)


EQUAL = {
    "pool": (CELLS, ()),
    "mobile": (MOBILE, ()),
    "drop_path": (CELLS, ("remedy=[drop_path]", "remedy.drop_path.most=0.5", "sampler=mixture", "relaxation=mixture")),
    "second_order": (CELLS, ("relaxation=mixture", "relaxation.order=second", "sampler=mixture", "remedy=[oles]")),
    "dirichlet": (CELLS, ("relaxation=drnas", "sampler=mixture", "remedy=[lambda]", "data.class_weights=balanced")),
    "sandwich": (CELLS, ("relaxation=gdas", "sampler=sandwich", "remedy=[stop_early]", "remedy.stop_early.every=2")),
}


@pytest.mark.parametrize("case", [pytest.param(name, marks=[pytest.mark.slow] * (name != "pool")) for name in EQUAL])
@pytest.mark.usefixtures("in_float64")
def test_two_processes_find_what_one_does_with_twice_the_batch(case: str, tmp_path: Path) -> None:
    space, overrides = EQUAL[case]
    found = []
    for name, own in (("two", TWO), ("one", ("trainer.batch_size=16",))):
        config = config_of(tmp_path / name, *own, *overrides, space=space)
        assert run(config, lambda line: None).search.processes == (2 if name == "two" else 1)
        found.append(outcome(config.run_folder))
    two, one = found
    assert same_within(two["metrics"], one["metrics"]) and same_within(two["alphas"], one["alphas"])
    assert two["prunes"].count("\n") == one["prunes"].count("\n")
    for device in one["devices"]:
        assert two["devices"][device]["id"] == one["devices"][device]["id"]
        assert same_within(two["devices"][device]["candidates"], one["devices"][device]["candidates"])


# However it ends


LONG = ("trainer.steps=24", *TWO)  # of 4 steps an epoch, pruned in the second half


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a search of two processes ends with that nothing interrupts."""
    config = config_of(tmp_path_factory.mktemp("whole"), *LONG, space=CELLS)
    assert wait(begin(config)) == 0
    return outcome(config.run_folder)


def begin(config: SearchConfig) -> int:
    """Number of a process that runs the search, whose other process is a fork of it."""

    def fork() -> None:
        trainers.search.processes.Worker = ForkedWorker  # type: ignore[misc]

    return start(config, before=fork)


def other_of(process: int, config: SearchConfig, *, after_epoch: int) -> psutil.Process:
    """The other process of a search, once that epoch has left its checkpoint."""
    while not list((config.run_folder / "checkpoints").glob(f"epoch-{after_epoch:06d}-*.ckpt")):
        assert not ended(process)
        time.sleep(0.005)
    (other,) = psutil.Process(process).children()
    return other


def is_gone(process: psutil.Process) -> bool:
    gone, _ = psutil.wait_procs([process], timeout=60)
    return bool(gone)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["other", "first", "interrupted"])
def test_a_search_whose_process_was_ended_leaves_none_and_goes_on_to_the_same_bits(
    killed: str, whole: dict[str, Any], tmp_path: Path
) -> None:
    config = config_of(tmp_path, *LONG, space=CELLS)
    process = begin(config)
    other = other_of(process, config, after_epoch=2)
    os.kill(other.pid if killed == "other" else process, signal.SIGINT if killed == "interrupted" else signal.SIGKILL)
    assert wait(process) == (-signal.SIGKILL if killed == "first" else 1)
    assert is_gone(other)
    state = state_of(config.run_folder)
    expected = {"other": "process 1 of the training", "first": "", "interrupted": "ended by SIGINT"}
    assert state.state == ("failed" if killed == "other" else "interrupted")
    assert expected[killed] in (state.reason or "") and (killed != "other" or "SIGKILL" in (state.reason or ""))
    assert wait(begin(config)) == 0
    assert outcome(config.run_folder) == whole


def test_why_a_process_could_not_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: SearchConfig) -> None:
        raise MemoryError("of this process alone")

    monkeypatch.setattr(trainers.search.worker, "prepare", fail)
    config, before = config_of(tmp_path, *TWO, space=CELLS), set(psutil.Process().children())
    with pytest.raises(ProcessLostError, match="of this process alone"):
        run(config, lambda line: None)
    assert state_of(config.run_folder).state == "failed"
    assert set(psutil.Process().children()) <= before


@pytest.mark.slow
def test_the_command_starts_its_processes_and_ends_them_on_a_signal(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("IMPORTED = True\n", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("espalier-search")), "plugins=beside", *MOBILE, *POOL, *LONG, *SHORT]
    command += ["data.limit=400", "trainer.steps=100000", f"paths.runs={tmp_path / 'runs'}", "trainer.deploy=false"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    with process.stdout as stdout:
        said = [next(line for line in stdout if line.startswith("epoch 1/"))]
        (other,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        said += stdout.readlines()
    assert process.wait() == 143, said
    assert is_gone(other)
