"""Remedies: small objects that change the training of a supernet against a known failure."""

# Shapes: N choices of all decisions.

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from search_spaces.registry import Registry
from trainers.search.relaxations.relaxation import Batch, Searched


class Remedy:
    """Hooks into the training of a supernet, each of which does nothing here.

    Its keyword-only arguments are its configuration. A draw of its own takes a generator that `state_dict` holds.
    """

    def __init__(self, searched: Searched) -> None:
        self.searched = searched

    def before_step(self, progress: float) -> None:
        """Before each step, when this share of all steps is done."""

    def on_weights_gradient(self, weights_batch: Batch, architecture_batch: Batch) -> None:
        """After the gradients of the weights are taken on `weights_batch`, before they are clipped and used."""

    def architecture_loss(self, device: int, p_N: Tensor) -> Tensor:
        """What the architecture loss adds at these probabilities (N,) of a device."""
        return p_N.new_zeros(())

    def after_training(self) -> None:
        """When the supernet is trained: takes away what it has put there."""

    def state_dict(self) -> dict[str, Any]:
        """All that its next step depends on besides the search's state, of tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""


REMEDIES: Registry[type[Remedy]] = Registry("remedies")
