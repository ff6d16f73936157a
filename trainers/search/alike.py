"""Keeps the processes of a training alike: what the first starts with, its random numbers, and a proof each epoch."""

import hashlib
import io
import json
from typing import Any

import pytorch_lightning as pl
import torch

from trainers.search.module import SearchModule
from trainers.search.provenance import weights_digest


def start_alike(module: SearchModule) -> None:
    """Gives all processes what the first one starts with."""
    start: dict[str, Any] = {"weights": module.state_dict()}
    module.on_save_checkpoint(start)
    start = _from_first(module, start)
    if module.ranks.number > 0:
        module.load_state_dict(start["weights"])
        module.on_load_checkpoint(start)


class StayAlike(pl.Callback):
    """After every epoch the random numbers of the first process, which alone has reported it; then all are compared.

    Raises: ProcessesDifferError, before a checkpoint is made of what no other process has.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        generator = pl_module.strategy.constraint.generator
        drawn: dict[str, Any] = {"torch": torch.get_rng_state(), "numpy": json.dumps(generator.bit_generator.state)}
        drawn = _from_first(pl_module, drawn)
        torch.set_rng_state(drawn["torch"])
        generator.bit_generator.state = json.loads(drawn["numpy"])
        pl_module.ranks.check_alike(_digest(pl_module))


def _digest(module: SearchModule) -> str:
    """sha256 of what processes must have alike."""
    digest = hashlib.sha256(weights_digest(module).encode())
    for survivors in module.state.survivors:
        digest.update(survivors.mask_N.tobytes() + repr(survivors.incumbent).encode())
    digest.update(repr((module.state.step, module.strategy.relaxation.state_dict())).encode())
    return digest.hexdigest()


def _from_first(module: SearchModule, content: dict[str, Any]) -> dict[str, Any]:
    """What the first process has, of tensors and plain values."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    found = module.ranks.from_first(buffer.getvalue())
    loaded: dict[str, Any] = torch.load(io.BytesIO(found), map_location="cpu", weights_only=True)
    return loaded
