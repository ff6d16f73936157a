"""Runs a search module under Lightning until its supernet is trained and pruned."""

import logging
import signal
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment

from trainers.runs.folder import RunFolder
from trainers.runs.state import CHECKPOINTS
from trainers.runs.versions import COMPUTING, versions
from trainers.search.callbacks import Report, SearchCallback
from trainers.search.checkpoints import EpochCheckpoint, PacedCheckpointIO, latest_checkpoint
from trainers.search.lightning_callbacks import make_callbacks
from trainers.search.module import SearchModule
from trainers.search.phases import Progress
from trainers.search.plan import Plan
from trainers.search.progress import EpochReport
from trainers.search.provenance import hashes


def train(
    plan: Plan,
    module: SearchModule,
    folder: RunFolder,
    report: Report,
    progress: Progress,
    *,
    callbacks: Sequence[SearchCallback] = (),
) -> SearchModule:
    """Trains and prunes the module, from the last whole checkpoint in `folder` on, and returns it.

    Raises: TrainingDivergedError; RunFolderError if that is none of this search; KeyboardInterrupt (with its number) on
    a signal; whatever a callback raises.
    """
    config, settings = plan.config, plan.config.trainer
    # By the module's own steps: at a resume Lightning asks for the first batches before it has counted its epochs.
    loader = plan.data.loader(
        batch_size=settings.batch_size, seed=config.seed, epoch=lambda: module.state.step // len(loader)
    )
    epochs = -(-settings.steps // len(loader))
    epoch_report = EpochReport(plan, folder, report, progress, callbacks=callbacks)
    checkpoints = folder.path / CHECKPOINTS
    origin = dict(hashes(plan)) | {name: version for name, version in versions().items() if name in COMPUTING}
    checkpoint_io = PacedCheckpointIO(origin, seconds=settings.checkpoint_seconds)
    hooks = [epoch_report, EpochCheckpoint(checkpoints, checkpoint_io), *make_callbacks(config.callbacks)]
    trainer = _trainer(epochs, hooks, checkpoint_io, folder=folder.path)
    _fit(trainer, module, loader, latest_checkpoint(checkpoints, report))
    progress.end()
    epoch_report.write_choices(module)
    return module


def _fit(trainer: pl.Trainer, module: SearchModule, loader: Iterable[Any], checkpoint: Path | None) -> None:
    """Trains, from `checkpoint` on if there is one. Raises: KeyboardInterrupt, with its number, on a signal."""
    with warnings.catch_warnings():
        # Lightning advises workers for a loader whose images are in memory already.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*IterableDataset.*")
        warnings.filterwarnings("ignore", message=".*log_every_n_steps.*")
        # Lightning 2.6 asks torch 2.13 in a way that the next one will not answer.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
        try:
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as end:  # how Lightning 2.6 ends on SIGTERM, with code 0, and on Ctrl-C, with code 1
            number = signal.SIGTERM if trainer.received_sigterm else signal.SIGINT
            known = end.__context__.args if isinstance(end.__context__, KeyboardInterrupt) else ()
            raise KeyboardInterrupt(*(known or (number,))) from None


def _trainer(
    epochs: int, callbacks: list[pl.Callback], checkpoint_io: PacedCheckpointIO, *, folder: Path
) -> pl.Trainer:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=callbacks,
        default_root_dir=folder,
        # Under SLURM Lightning would else count its processes and keep checkpoints of its own in the working folder.
        plugins=[checkpoint_io, LightningEnvironment()],
        logger=False,
        enable_checkpointing=True,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
