"""The mixture of all choices at their probabilities: DARTS, of first or second order, on two levels or on one."""

# Shapes: n decisions, N choices of all decisions.

from typing import Literal

import torch
from torch import Tensor, nn

from search_spaces.errors import InvalidInputError
from trainers.search.relaxations.relaxation import Batch, Relaxation, Searched, Update

NUDGE = 0.01  # of the weights over the length of the gradient, as `architect.py` of DARTS has it


class Mixture(Relaxation):
    """Forward and backward at the probabilities of all choices.

    The second order takes the loss after one step of the weights, and its gradient through that step by finite
    differences: the Hessian-vector product at weights moved by 0.01 / |v| along v, the gradient of the weights.
    `single_level` trains the logits on the batch of the weights. Source: DARTS, arXiv:1806.09055, eq. 7-8.
    """

    def __init__(
        self, searched: Searched, *, order: Literal["first", "second"] = "first", single_level: bool = False
    ) -> None:
        super().__init__(searched)
        self.order, self.single_level = order, single_level

    def weights(self, device: int, path: tuple[int, ...], p_N: Tensor) -> Tensor:
        return p_N

    def batch(self, update: Update) -> Batch:
        return update.weights_batch if self.single_level else update.architecture_batch

    def update(self, update: Update) -> Tensor:
        return self._second_order(update) if self.order == "second" else super().update(update)

    def _second_order(self, update: Update) -> Tensor:
        searched, device = self.searched, update.device
        path = searched.constraint.draw(device)  # one network for all passes of this update
        weights = [weight for weight in searched.supernet.parameters() if weight.requires_grad]
        before = [weight.detach().clone() for weight in weights]
        rate = self._step_of_weights(update, weights, path)
        p_N = searched.constraint.probabilities(device)
        loss = self.batch_loss(update, update.architecture_batch, p_N, path)
        loss = loss + self._hard_decisions_term(device, float(loss.detach()), p_N, path)
        update.optimizer.zero_grad(set_to_none=True)
        kept = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        with update.timed():
            update.backward(self.total(update, loss, p_N))
        vector = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        for weight, gradient in zip(weights, kept, strict=True):
            weight.grad = gradient
        length = torch.stack([v.square().sum() for v in vector]).sum().sqrt()
        if float(length) > 0:
            self._subtract_product(update, path, weights, before, vector, NUDGE / float(length), rate)
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
        searched.constraint.modify_gradient(device)
        update.optimizer.step()
        return p_N.detach()

    def _step_of_weights(self, update: Update, weights: list[nn.Parameter], path: tuple[int, ...]) -> float:
        """One step of the weights as their optimizer would take it on their batch; its learning rate."""
        optimizer = update.weights_optimizer
        if optimizer is None:
            raise InvalidInputError("relaxation.order: second needs the optimizer of the weights; choose first")
        optimizer = getattr(optimizer, "optimizer", optimizer)  # Lightning wraps it
        with torch.no_grad():
            p_N = self.searched.constraint.probabilities(update.device)
        loss = self.batch_loss(update, update.weights_batch, p_N, path)
        with update.timed():
            gradients = self.searched.ranks.average(torch.autograd.grad(loss, weights, allow_unused=True))
        group = optimizer.param_groups[0]
        rate, momentum, decay = (float(group.get(key, 0.0)) for key in ("lr", "momentum", "weight_decay"))
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    moving = optimizer.state[weight].get("momentum_buffer")
                    step = gradient + decay * weight
                    weight.sub_(rate * (step if moving is None else step + momentum * moving))
        return rate

    def _subtract_product(
        self,
        update: Update,
        path: tuple[int, ...],
        weights: list[nn.Parameter],
        before: list[Tensor],
        vector: list[Tensor],
        nudge: float,
        rate: float,
    ) -> None:
        """Takes rate times the product of the mixed second derivative and `vector` off the gradients of the logits."""
        logits = [parameter for parameter in self.searched.logits.parameters() if parameter.grad is not None]
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for weight, value, v in zip(weights, before, vector, strict=True):
                    weight.copy_(value + sign * nudge * v)
            with self.searched.frozen_weights():
                p_N = self.searched.constraint.probabilities(update.device)
                loss = self.batch_loss(update, update.weights_batch, p_N, path)
                with update.timed():
                    moved = self.searched.ranks.average(torch.autograd.grad(loss, logits, allow_unused=True))
            for parameter, gradient in zip(logits, moved, strict=True):
                if gradient is not None and parameter.grad is not None:
                    parameter.grad -= sign * rate * gradient / (2 * nudge)
