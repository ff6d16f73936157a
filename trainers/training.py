"""Runs the search module under Lightning, from a plan to a trained and pruned supernet."""

import logging
import signal
import sys
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar

from hardware_models.budgets.budget_problem import Survivors
from trainers.architecture_parameters import ArchitectureParameters
from trainers.prepare import Plan, make_optimizer, make_strategy
from trainers.progress import EpochReport
from trainers.run_folder import RunFolder
from trainers.search_module import PruneRecord, Schedule, SearchModule

Report = Callable[[str], None]


def train(
    plan: Plan, starts: Sequence[Survivors], presolved: Sequence[PruneRecord], folder: RunFolder, report: Report
) -> SearchModule:
    """A searched, pruned supernet. Raises: TrainingDivergedError; KeyboardInterrupt (with its number) on a signal."""
    config, settings = plan.config, plan.config.trainer
    supernet = plan.space.supernet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = ArchitectureParameters(plan.space.num_choices, len(plan.problems), offset_decay=settings.offset_decay)
    generator = np.random.default_rng(config.seed)
    strategy = make_strategy(config.strategy, plan.problems, starts, parameters, generator)
    schedule = Schedule(
        settings.steps,
        settings.warmup_share,
        settings.arch_every,
        settings.prune_events,
        settings.prune_from,
        settings.prune_to,
    )
    module = SearchModule(
        plan.space,
        supernet,
        parameters,
        strategy,
        schedule=schedule,
        optimizer=make_optimizer(config.optimizer, "optimizer"),
        arch_optimizer=make_optimizer(config.arch_optimizer, "arch_optimizer"),
        clip_norm=settings.clip_norm,
    )
    module.prune_log += presolved
    loader = plan.data.loader(batch_size=settings.batch_size, seed=config.seed, epoch=lambda: module.current_epoch)
    epochs = -(-settings.steps // len(loader))
    trainer = _trainer(
        EpochReport(plan.data, folder.path / "metrics.csv", report, batch_size=settings.batch_size), epochs
    )
    with warnings.catch_warnings():
        # Lightning advises workers for a loader whose images are in memory already.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*IterableDataset.*")
        warnings.filterwarnings("ignore", message=".*log_every_n_steps.*")
        # Lightning 2.6 asks torch 2.13 in a way that the next one will not answer.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
        try:
            trainer.fit(module, loader)
        except SystemExit:  # how Lightning 2.6 ends on SIGTERM, with code 0, and on Ctrl-C, with code 1
            raise KeyboardInterrupt(signal.SIGTERM if trainer.received_sigterm else signal.SIGINT) from None
    return module


def _trainer(epoch_report: pl.Callback, epochs: int) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    callbacks = [epoch_report]
    terminal = sys.stdout.isatty()
    if terminal:
        callbacks.append(RichProgressBar(leave=False))
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=terminal,
        num_sanity_val_steps=0,
    )
