"""What every remedy offers: hooks into the training of a supernet."""

# Shapes: N choices of all decisions.

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from search_spaces.registry import Registry
from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Batch, Searched


class Remedy:
    """Hooks into the training of a supernet, each of which does nothing here.

    Its keyword-only arguments are its configuration. A draw of its own takes a generator that `state_dict` holds.
    """

    needs_edges: ClassVar[bool] = False  # whether it is about operations on edges, which not every space has
    needs_mixture: ClassVar[bool] = False  # whether weights must be trained on mixtures of choices

    def __init__(self, searched: Searched) -> None:
        self.searched = searched

    @property
    def stops_architecture(self) -> bool:
        """Whether the logits stay as they are from now on."""
        return False

    def before_step(self, progress: float) -> None:
        """Before each step, when this share of all steps is done."""

    def weights_selection(self, selection: Selection) -> Selection:
        """What the weights are trained on in place of a selection of the sampler."""
        return selection

    def on_weights_gradient(
        self, weights_batch: Batch, architecture_batch: Batch, selections: Sequence[Selection]
    ) -> None:
        """After the gradients of the weights are taken on `weights_batch` at `selections`, before they are clipped."""

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
