"""Small searches of each space by each strategy, whole: what they were asked, what they left and said."""

import csv
import dataclasses
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from tiny_search import CELLS, MOBILE, tiny_config
from torch import nn

import trainers.search.run
from search_spaces.architecture import build_network, read_architecture
from trainers.cli.search import run_search
from trainers.search.module import SearchModule
from trainers.search.plan import Plan

SPACES = {
    # Every network uses over 80 % of the tablet's latency, and none over 80 % of the terminal's budget.
    "mobile": (
        *MOBILE,
        "hardware.mid_tablet.budgets={latency_ms: 9, gflops: null}",
        "hardware.iot_terminal.budgets={latency_ms: null, gflops: 0.005}",
    ),
    "nasbench201": (*CELLS, "hardware.nb201_pixel3.budgets.latency_ms=5", "hardware.mid_tablet.budgets.gflops=0.0006"),
}


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished search: what it was asked, what it left and said, and its module as it ended."""

    plan: Plan
    result: dict[str, Any]
    folder: Path
    module: SearchModule
    lines: list[str]

    @property
    def devices(self) -> list[str]:
        return list(self.result["devices"])


@contextmanager
def no_network() -> Iterator[None]:
    """Connecting to anything but this machine fails."""
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a search connected to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", only_here)
        yield


def run(runs: Path, *overrides: str, has_report: bool = False) -> Run:
    """A search; its report takes longer to draw than its supernet to train."""
    config, lines, kept = tiny_config(runs, *overrides), list[str](), list[tuple[Plan, SearchModule]]()
    train = trainers.search.run.train

    def train_and_keep(plan: Plan, *arguments: Any, **more: Any) -> SearchModule:
        kept.append((plan, train(plan, *arguments, **more)))
        return kept[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers.search.run, "train", train_and_keep)
        search = run_search if has_report else trainers.search.run.run
        result = search(config, lines.append).model_dump()
    plan, module = kept[0]
    return Run(plan, result, config.run_folder, module, lines)


def assert_most_expensive_of_the_best(plan: Plan, devices: dict[str, Any]) -> None:
    """Of all networks compared, for whichever device, each device has the most expensive of those within its
    budgets and a standard error of the best, which is taken with one image more right and one more wrong."""
    rows = [row for device in devices.values() for row in device["candidates"]]
    accuracies = {plan.space.indices(plan.space.parse(row["notation"])): row["validation_accuracy"] for row in rows}
    for problem, device in zip(plan.problems, devices.values(), strict=True):
        images = device["validation"]["images"]
        used = {n: max(problem.utilisation(n).values()) for n in accuracies if problem.is_feasible(np.array([n]))[0]}
        best = max(accuracies[network] for network in used)
        share = (best * images + 1) / (images + 2)
        least = best - (share * (1 - share) / images) ** 0.5
        largest = max(used[network] for network in used if accuracies[network] >= least)
        taken = plan.space.indices(plan.space.parse(device["notation"]))
        assert accuracies[taken] >= least
        assert used[taken] == largest


def overrides_of(space: str, strategy: str) -> tuple[str, ...]:
    pool = ("strategy.pool_size=32",) if strategy in ("pool", "random") else ()
    return (*SPACES[space], f"strategy={strategy}", *pool)


def network_of(search: Run, device: str) -> nn.Module:
    """The network of a device as its files give it."""
    network = build_network(read_architecture(search.folder / "architectures" / f"{device}.json"))
    network.load_state_dict(safetensors.torch.load_file(search.folder / "weights" / f"{device}.safetensors"))
    return network.eval()


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
