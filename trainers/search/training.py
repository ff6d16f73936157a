"""Runs a search module under Lightning until its supernet is trained and pruned."""

import logging
import signal
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.plugins.io import CheckpointIO

from trainers.runs.folder import RunFolder
from trainers.runs.state import CHECKPOINTS
from trainers.runs.versions import COMPUTING, versions
from trainers.search.alike import StayAlike, start_alike
from trainers.search.callbacks import Report, SearchCallback
from trainers.search.checkpoints import EpochCheckpoint, HashedCheckpointIO, PacedCheckpointIO, latest_checkpoint
from trainers.search.computing import device_of
from trainers.search.lightning_callbacks import make_callbacks
from trainers.search.module import SearchModule
from trainers.search.phases import Progress
from trainers.search.plan import Plan
from trainers.search.processes import processes
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

    Raises: TrainingDivergedError; ProcessLostError; RunFolderError if that is none of this search; KeyboardInterrupt
    (with its number) on a signal; whatever a callback raises.
    """
    config, settings = plan.config, plan.config.trainer
    epoch_report = EpochReport(plan, folder, report, progress, callbacks=callbacks)
    checkpoints = folder.path / CHECKPOINTS
    checkpoint_io = PacedCheckpointIO(_origin(plan), seconds=settings.checkpoint_seconds)
    hooks = [epoch_report, EpochCheckpoint(checkpoints, checkpoint_io), *make_callbacks(config.callbacks)]
    checkpoint = latest_checkpoint(checkpoints, report)
    job = {
        "config": config.model_dump(mode="json"),
        "hashes": hashes(plan).model_dump(),
        "threads": torch.get_num_threads(),
        "checkpoint": None if checkpoint is None else str(checkpoint.absolute()),
    }
    others = processes(module.ranks, job, accelerator=settings.accelerator, plugins=config.plugins, log=folder.log)
    with others:
        _fit(plan, module, hooks, checkpoint_io, checkpoint, folder=folder.path)
    progress.end()
    epoch_report.write_choices(module)
    return module


def follow(plan: Plan, module: SearchModule, checkpoint: Path | None) -> None:
    """Trains as `train` does, beside the process that does; it writes nothing."""
    _fit(plan, module, [], HashedCheckpointIO(_origin(plan)), checkpoint, folder=None)


def _origin(plan: Plan) -> dict[str, str]:
    """What a checkpoint depends on besides the configuration."""
    return dict(hashes(plan)) | {name: version for name, version in versions().items() if name in COMPUTING}


def _fit(
    plan: Plan,
    module: SearchModule,
    hooks: Sequence[pl.Callback],
    checkpoint_io: CheckpointIO,
    checkpoint: Path | None,
    *,
    folder: Path | None,
) -> None:
    """Trains, from `checkpoint` on if there is one. Raises: KeyboardInterrupt, with its number, on a signal."""
    settings, ranks = plan.config.trainer, module.ranks
    device = device_of(settings, ranks.number)
    plan.data.reside_on(device)
    # By the module's own steps: at a resume Lightning asks for the first batches before it has counted its epochs.
    loader = plan.data.loader(
        batch_size=settings.step_images,
        seed=plan.config.seed,
        epoch=lambda: module.state.step // len(loader),
        rank=ranks.number,
        ranks=ranks.size,
    )
    if ranks.size > 1:
        start_alike(module)
        hooks = [*hooks, StayAlike()]
    trainer = _trainer(-(-settings.steps // len(loader)), hooks, checkpoint_io, device=device, folder=folder)
    with warnings.catch_warnings():
        # Lightning advises workers for a loader whose images are in memory already.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*IterableDataset.*")
        warnings.filterwarnings("ignore", message=".*log_every_n_steps.*")
        if folder is None:  # where the callbacks are not that its checkpoints are of
            warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")
        # Lightning 2.6 asks torch 2.13 in a way that the next one will not answer.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated", category=FutureWarning)
        try:
            trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
        except SystemExit as end:  # how Lightning 2.6 ends on SIGTERM, with code 0, and on Ctrl-C, with code 1
            number = signal.SIGTERM if trainer.received_sigterm else signal.SIGINT
            known = end.__context__.args if isinstance(end.__context__, KeyboardInterrupt) else ()
            raise KeyboardInterrupt(*(known or (number,))) from None


def _trainer(
    epochs: int,
    callbacks: Sequence[pl.Callback],
    checkpoint_io: CheckpointIO,
    *,
    device: torch.device,
    folder: Path | None,
) -> pl.Trainer:
    """A trainer of one process, whatever others there are; it keeps no checkpoints without a `folder`."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return pl.Trainer(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        max_epochs=epochs,
        callbacks=list(callbacks),
        default_root_dir=folder,
        # Under SLURM Lightning would else count its processes and keep checkpoints of its own in the working folder.
        plugins=[checkpoint_io, LightningEnvironment()],
        logger=False,
        enable_checkpointing=folder is not None,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )
