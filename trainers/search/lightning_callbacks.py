"""Callbacks of Lightning's trainer, of plug-ins."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl

from trainers.deploy.optimizers import make_object


def make_callbacks(contents: Sequence[Mapping[str, Any]]) -> list[pl.Callback]:
    """The callbacks of Lightning's trainer that a configuration names."""
    return [make_object(content, f"callbacks[{k}]", pl.Callback) for k, content in enumerate(contents)]
