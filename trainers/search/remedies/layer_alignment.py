"""Layers of a cell that ask for the same operations."""

# Shapes: L layers, N choices of all decisions.

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from search_spaces.space import Selection
from trainers.search.relaxations.relaxation import Batch, Searched
from trainers.search.remedies.remedy import Remedy


class LayerAlignment(Remedy):
    """Trains the weights for layers whose gradients of the shared mixture point the same way, too.

    The mean cosine of all pairs of layers is raised, `strength` times, by finite differences: gradients of the weights
    at mixtures of each layer moved by `nudge` along the derivative of that mean. The strength rises linearly. Source:
    Lambda-DARTS, arXiv:2210.07998; 0.125 and 1e-4 as in its runs of NAS-Bench-201 on CIFAR-10.
    """

    needs_edges = True
    needs_mixture = True

    def __init__(
        self,
        searched: Searched,
        *,
        strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.125,
        nudge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4,
    ) -> None:
        super().__init__(searched)
        self.strength, self.nudge = strength, nudge

    def on_weights_gradient(
        self, weights_batch: Batch, architecture_batch: Batch, selections: Sequence[Selection]
    ) -> None:
        layers = self.searched.supernet.layers
        if len(layers) < 2:
            return
        weights = [weight for weight in self.searched.supernet.parameters() if weight.requires_grad]
        num_choices = int(self.searched.state.table.first_choice[-1])
        at_LN = torch.zeros(len(layers), num_choices, requires_grad=True)
        average = self.searched.ranks.average
        (gradients_LN,) = average(torch.autograd.grad(self._loss(weights_batch, selections[0], at_LN), at_LN))
        assert gradients_LN is not None
        direction_LN = alignment_slope(gradients_LN)
        length = float(direction_LN.norm())
        if length == 0:
            return
        nudge = self.nudge / length
        share = self.strength * self.searched.state.progress / (2 * nudge)
        for sign in (1.0, -1.0):
            loss = self._loss(weights_batch, selections[0], sign * nudge * direction_LN)
            gradients = average(torch.autograd.grad(loss, weights, allow_unused=True))
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None and weight.grad is not None:
                    weight.grad -= sign * share * gradient

    def _loss(self, batch: Batch, selection: Selection, moved_LN: Tensor) -> Tensor:
        """The loss with each layer's mixture moved by its own weights (L, N)."""
        with self._moved(moved_LN):
            return self.searched.task.loss(self.searched.supernet(batch[0], selection), batch[1])

    @contextmanager
    def _moved(self, moved_LN: Tensor) -> Iterator[None]:
        layers = self.searched.supernet.layers
        hooks = [
            layer.register_forward_pre_hook(self._mover(moved_N))
            for layer, moved_N in zip(layers, moved_LN, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _mover(self, moved_N: Tensor) -> Callable[[nn.Module, Any], Any]:
        def move(layer: nn.Module, given: Any) -> Any:
            x, selection, *others = given
            devices = (s.device for s in selection.values() if isinstance(s, Tensor))
            by_decision = self.searched.selection(moved_N.to(next(devices, moved_N.device)))
            mixed = {n: s if isinstance(s, int) else s + by_decision[n] for n, s in selection.items()}
            return (x, mixed, *others)

        return move


def alignment(gradients_LN: Tensor) -> Tensor:
    """Mean cosine of all pairs of layers."""
    units_LN = gradients_LN / gradients_LN.norm(dim=1, keepdim=True).clamp(min=1e-12)
    cosines_LL = units_LN @ units_LN.T
    num = len(units_LN)
    return (cosines_LL.sum() - cosines_LL.diagonal().sum()) / (num * (num - 1))


def alignment_slope(gradients_LN: Tensor) -> Tensor:
    """The derivative (L, N) of `alignment`."""
    at_LN = gradients_LN.detach().clone().requires_grad_()
    slope_LN: Tensor = torch.autograd.grad(alignment(at_LN), at_LN)[0]
    return slope_LN
