"""What logging a search costs: epochs with each logger beside epochs with none but the run folder.

    python tests/benchmarks/logger_cost.py [--batch 32] [--image 32] [--steps 4] [--rounds 30]

An epoch is `--steps` steps of the search of the tiers (weights and architecture, `SearchModule.training_step`), its row
of metrics, and logging that row and its alerts; a search has several times as many steps an epoch. All loggers are open
in one process and take turns in every round, in an order that rotates; W&B is offline. Wall time sees all that they do;
the processor time of this process, which other work on the machine moves less, sees all but W&B's service. Asked: at
most 1.02 times an epoch of logger=local.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from itertools import count
from pathlib import Path

import numpy as np
import torch
from selection import header, mobile_space, tier_table
from step_cost import Batch, random_batch, search

from trainers.loggers.alerts import epoch_alerts
from trainers.loggers.base import RunLogger, RunRecord, make_logger
from trainers.runs import metric_names
from trainers.search.module import SearchModule
from trainers.search.progress import metrics_of

ASKED = 1.02
LOGGERS: Mapping[str, Mapping[str, str | None]] = {
    "local": {},
    "csv": {},
    "tensorboard": {},
    "mlflow": {"uri": None, "experiment": "espalier"},
    "wandb": {"project": "espalier", "entity": None, "mode": "offline"},
}

# Shapes: R rounds.


def open_loggers(folder: Path) -> dict[str, RunLogger]:
    """Each logger on a run of its own below `folder`."""
    loggers = {}
    for name, more in LOGGERS.items():
        run = folder / "sweep" / name
        run.mkdir(parents=True)
        record = RunRecord(name, "sweep", "search", (), {}, run)
        loggers[name] = make_logger({"name": name, **more}, record, print)
    return loggers


class Epochs:
    """Runs epochs of one search, each logged by the logger that is given; keeps what logging took."""

    def __init__(self, module: SearchModule, batches: tuple[Batch, Batch], *, steps: int) -> None:
        self.module, self.batches, self.steps = module, batches, steps
        self.numbers, self.batch_numbers = count(1), count(1)

    def run(self, logger: RunLogger) -> tuple[float, float, float]:
        """Seconds of the epoch by the wall and by the processor, and of logging its row."""
        started, processor = time.perf_counter(), time.process_time()
        for _ in range(self.steps):
            self.module.training_step(self.batches, next(self.batch_numbers))
        epoch = next(self.numbers)
        row = {
            metric_names.EPOCH: epoch,
            metric_names.STEP: epoch * self.steps,
            metric_names.VALIDATION_LOSS: 1.0,
            metric_names.VALIDATION_ACCURACY: 0.5,
            **metrics_of(self.module),
        }
        logging = time.perf_counter()
        logger.metrics(epoch * self.steps, row)
        for title, text in epoch_alerts(row, row):
            logger.alert(title, text)
        ended = time.perf_counter()
        return ended - started, time.process_time() - processor, ended - logging


def measured(
    run: Callable[[RunLogger], tuple[float, float, float]], loggers: Mapping[str, RunLogger], rounds: int
) -> np.ndarray:
    """What `run` gives, as an array (R, loggers, 3), after a round that does not count."""
    names = list(loggers)
    taken = np.zeros((rounds, len(names), 3))
    for name in names:
        run(loggers[name])
    for r in range(rounds):
        for k in np.roll(np.arange(len(names)), r):
            taken[r, k] = run(loggers[names[k]])
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--image", type=int, default=32, help="pixels along one side")
    parser.add_argument("--steps", type=int, default=4, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # Lightning's advice about a bare loop
    torch.manual_seed(0)
    size = (arguments.batch, arguments.image)
    batches = (random_batch(*size, seed=0), random_batch(*size, seed=1))
    module = search(tier_table(mobile_space()), batches, arch_every=2, budgets=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WANDB_CACHE_DIR"] = folder
        loggers = open_loggers(Path(folder, "runs"))
        taken = measured(Epochs(module, batches, steps=arguments.steps).run, loggers, arguments.rounds)
        for logger in loggers.values():
            logger.finish(0)
    print(header(**{name: version(name) for name in ("wandb", "mlflow-skinny", "tensorboard")}))
    print(f"batch {arguments.batch}, {arguments.image} px, {arguments.steps} steps an epoch, n = {arguments.rounds}")
    show(list(loggers), taken)


def show(names: list[str], taken: np.ndarray) -> None:
    """A line per logger: its ratios to local in the same round, and what logging one row takes."""
    print(f"epoch over local in the same round, median [quartiles], asked <= {ASKED}; logging one row")
    ratios = taken / taken[:, :1]
    for k, name in enumerate(names):
        words = []
        for kind, clock in enumerate(("wall", "processor")):
            low, median, high = np.percentile(ratios[:, k, kind], [25, 50, 75])
            words.append(f"{clock} {median:.3f} [{low:.3f}, {high:.3f}]")
        epoch, logging = np.median(taken[:, k, 0]), np.median(taken[:, k, 2])
        print(f"  {name:12s} {'  '.join(words)}  {1e3 * logging:6.2f} ms of {epoch:.2f} s, {logging / epoch:.3%}")


if __name__ == "__main__":
    main()
