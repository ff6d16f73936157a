"""Where a result comes from, by content: hashes of what went in and of what came out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from hardware_models.measuring.runner import cpu_model
from trainers.data.known_files import state_of_files
from trainers.runs.code import Code
from trainers.runs.plugins import code_of
from trainers.runs.result import Hashes
from trainers.runs.versions import versions
from trainers.search.plan import Plan


@dataclass
class Computed:
    """What has computed a search: the threads of torch, and the processors and code of all attempts, the running last.

    Sums are split among threads and by instruction set, so the same bits need the same of both.
    """

    threads: int
    processors: list[str]
    code: list[Code]

    def join(self, threads: int, processors: Sequence[str], code: Sequence[Code]) -> None:
        """Goes on from an earlier attempt, with its threads."""
        self.threads = threads
        self.processors = list(dict.fromkeys([*processors, *self.processors]))
        running = self.code[-1]
        self.code = [*(each for each in code if each.content != running.content), running]


def computed_here(plan: Plan) -> Computed:
    code = code_of(plan.config.model_dump(mode="json"))
    return Computed(torch.get_num_threads(), [cpu_model()], [code])


def hashes(plan: Plan) -> Hashes:
    """sha256 of what a result depends on: the configuration, the prices made of it, which images are in which split."""
    return Hashes(config=plan.config.digest, cost_table=plan.table.digest, data_split=plan.data.splits.hash)


def origin(plan: Plan) -> dict[str, Any]:
    """What an attempt at a search starts from: its hashes, the code that runs, versions, and its data."""
    code = vars(code_of(plan.config.model_dump(mode="json")))
    # Read since this process began, so that only files that have not changed since then are known to be those read.
    files = state_of_files(plan.config.data, unchanged_since=psutil.Process().create_time())
    data = {"content": plan.config.data["content"], "files": files}
    return {"hashes": hashes(plan).model_dump(), "code": code, "versions": versions(), "data": data}


def weights_digest(module: torch.nn.Module) -> str:
    """sha256 of the names and values of all weights and statistics of a module."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
