"""What a search goes on from: its whole state at the end of an epoch, in files that prove that they are whole."""

import hashlib
import io
import pickle
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import AsyncCheckpointIO, CheckpointIO

from trainers.runs.exit_status import RunFolderError
from trainers.runs.files import write_bytes

NAME = re.compile(r"epoch-(\d{6})-([0-9a-f]{16})\.ckpt")
KEPT = 2  # so that one is left if the newest is torn


class HashedCheckpointIO(CheckpointIO):
    """Checkpoints named by epoch and content, of which the last few are kept. Nothing in them is executed.

    `origin` is what they depend on besides the configuration; one of another origin is refused.
    """

    def __init__(self, origin: Mapping[str, str]) -> None:
        self.origin = dict(origin)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes `checkpoint` into the folder of `path` and then removes what is older than the last two."""
        buffer = io.BytesIO()
        torch.save({**checkpoint, "origin": self.origin}, buffer)
        content = buffer.getvalue()
        target = Path(path).with_name(f"{Path(path).stem}-{_digest(content)}.ckpt")
        write_bytes(target, content)
        for older in sorted(p for p in target.parent.glob("*.ckpt") if NAME.fullmatch(p.name))[:-KEPT]:
            self.remove_checkpoint(older)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Raises: RunFolderError if it is torn, of another origin, or holds other than tensors and plain values."""
        try:
            content: dict[str, Any] = torch.load(io.BytesIO(_whole(Path(path))), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise RunFolderError(
                f"{path} holds other than tensors and plain values; delete it, and repeat the command"
            ) from error
        before = content["origin"]
        changed = [key for key in {**self.origin, **before} if before.get(key) != self.origin.get(key)]
        if changed:
            changes = "; ".join(f"{key} was {before.get(key)}, is {self.origin.get(key)}" for key in changed)
            raise RunFolderError(
                f"{path} cannot be resumed: {changes}; put back what it was, or delete the run folder to start again"
            )
        return content

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class PacedCheckpointIO(AsyncCheckpointIO):
    """Writes a checkpoint, beside the training, if the last one is `seconds` old; one that is not it holds in memory.

    A disk may take seconds for a large supernet.
    """

    def __init__(self, origin: Mapping[str, str], *, seconds: float) -> None:
        super().__init__(HashedCheckpointIO(origin))
        self.seconds = seconds
        self._written = time.monotonic()
        self._held: tuple[dict[str, Any], Any] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if time.monotonic() - self._written >= self.seconds:
            self._held = None
            super().save_checkpoint(checkpoint, path)
            self._written = time.monotonic()
        else:
            self._held = (apply_to_collection(checkpoint, torch.Tensor, torch.clone), path)

    def write_held(self) -> None:
        """Writes what is held."""
        if self._held is not None:
            held, self._held = self._held, None
            assert self.checkpoint_io is not None
            self.checkpoint_io.save_checkpoint(*held)


class EpochCheckpoint(Checkpoint):
    """A checkpoint at the end of each epoch; the last of them is written however the training ends."""

    def __init__(self, folder: Path, checkpoint_io: PacedCheckpointIO) -> None:
        self.folder, self.checkpoint_io = folder, checkpoint_io

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.folder / f"epoch-{trainer.current_epoch + 1:06d}.ckpt")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.checkpoint_io.write_held()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        with suppress(RunFolderError):  # which may be what ends it
            self.checkpoint_io.write_held()


def latest_checkpoint(folder: Path, report: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint in `folder`, or none. A torn one is reported and passed over."""
    for path in sorted(folder.glob("*.ckpt"), reverse=True):
        try:
            _whole(path)
        except RunFolderError as error:
            report(f"{error}; an earlier one is taken")
            continue
        return path
    return None


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a run that is finished; of a folder that is a link, which leads out of it, none."""
    if folder.is_symlink():
        return
    for path in folder.glob("*.ckpt"):
        if NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _whole(path: Path) -> bytes:
    """The bytes of a checkpoint. Raises: RunFolderError unless they are those that its name promises."""
    named = NAME.fullmatch(path.name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    if named is None or _digest(content) != named[2]:
        raise RunFolderError(f"the checkpoint {path} is not whole: its content is not what its name says")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
