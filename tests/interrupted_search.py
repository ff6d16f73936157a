"""Searches that end in the middle, each in a process of its own that shares this one's imports and so starts fast."""

import csv
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_search import MOBILE, tiny_config

import trainers.reports.report  # noqa: F401  # a search imports it when it ends
from tests.reported_runs import draw_nothing
from trainers.cli.search import run_search
from trainers.runs.config import SearchConfig

# Five epochs of nine steps, with pruning in the second half and a checkpoint at the end of each.
SEARCH = (
    *(*MOBILE, "trainer.steps=42", "trainer.candidates=2"),
    *("trainer.threads=1", "trainer.checkpoint_seconds=0"),
)
POOL = ("strategy=pool", "strategy.pool_size=32")
CLOCKS = {"time/step_s"}  # the one metric that no two runs share


def search_config(runs: Path, *overrides: str) -> SearchConfig:
    return tiny_config(runs, *SEARCH, *(overrides or POOL))


def start(
    config: SearchConfig,
    *,
    before: Callable[[], object] = lambda: None,
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Number of a process that runs the search, after `before`: 0 if it ends well, else 1."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        torch.set_num_threads(1)  # the parent's threads are not here, and waiting for them would not end
        draw_nothing(pytest.MonkeyPatch())  # of a process that ends here
        before()
        run_search(config, report)
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def wait(process: int) -> int:
    """Exit code of a process, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def ended(process: int) -> bool:
    """Whether a process has ended by itself."""
    return os.waitpid(process, os.WNOHANG)[0] != 0


def interrupted(config: SearchConfig, *, after_epoch: int) -> None:
    """Runs the search and kills it once that epoch has left its checkpoint."""
    process = start(config)
    while not list((config.run_folder / "checkpoints").glob(f"epoch-{after_epoch:06d}-*.ckpt")):
        assert not ended(process)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    assert wait(process) == -signal.SIGKILL


def append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be the same of a run that was interrupted and of one that was not."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    with np.load(folder / "alphas.npz", allow_pickle=False) as arrays:
        alphas = {name: arrays[name].tolist() for name in arrays.files}
    return {
        "devices": result["devices"],
        "transfer": result["transfer"],
        "steps": result["search"]["steps"],
        "metrics": [{name: row[name] for name in row if name not in CLOCKS} for row in rows],
        "alphas": alphas,
        "prunes": (folder / "prune.csv").read_text(encoding="utf-8"),
        "lineage": json.loads((folder / "lineage.json").read_text(encoding="utf-8")),  # has hashes of all weights
    }


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Processes are forked here, which is sound only while nothing else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
