"""A further process of a training: `python -m trainers.search.worker`, started and ended by the first one.

It computes as the first does, on its share of the images, and writes nothing.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from search_spaces.errors import InvalidInputError
from trainers.runs.config import validate
from trainers.runs.plugins import import_plugins
from trainers.search.computing import device_of
from trainers.search.module import make_module
from trainers.search.plan import prepare
from trainers.search.processes import STORE, connect, end_with_parent, ready
from trainers.search.provenance import computed_here, hashes
from trainers.search.search_state import SearchState
from trainers.search.training import follow


def work(job: Mapping[str, Any]) -> None:
    """Trains beside the first process, as its job says. Raises: InvalidInputError if it would not compute the same."""
    meeting, rank = Path(job["meeting"]), job["rank"]
    end_with_parent(job["parent"], meeting)
    import_plugins(job["config"]["plugins"], folders=job["plugin_folders"])
    config = validate(job["config"])
    torch.set_num_threads(job["threads"])
    pl.seed_everything(config.seed, verbose=False)
    torch.use_deterministic_algorithms(True, warn_only=True)
    plan = prepare(config)
    found = hashes(plan).model_dump()
    if found != job["hashes"]:
        raise InvalidInputError(f"process {rank} has other hashes than process 0: {found}, there {job['hashes']}")
    if config.trainer.accelerator == "gpu":
        torch.cuda.set_device(device_of(config.trainer, rank))
    starts = [problem.start()[0] for problem in plan.problems]
    state = SearchState(plan.problems, starts, steps=config.trainer.steps)
    module = make_module(plan, state, computed_here(plan), rank=rank)
    store = dist.FileStore(os.path.join(meeting, STORE), config.trainer.devices)
    store.set(ready(rank), "")
    connect(store, module.ranks, config.trainer.accelerator)
    follow(plan, module, None if job["checkpoint"] is None else Path(job["checkpoint"]))
    dist.destroy_process_group()


def main() -> None:
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    work(json.load(sys.stdin))


if __name__ == "__main__":
    main()
