"""An optimizer: Lion, which steps by the sign of an interpolated momentum. Source: arXiv:2302.06675, algorithm 2."""

from collections.abc import Iterable

import torch
from torch import nn


class Lion(torch.optim.Optimizer):
    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            fast, slow = group["betas"]
            for weight in group["params"]:
                if weight.grad is not None:
                    momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                    direction = momentum.lerp(weight.grad, 1 - fast).sign()
                    weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                    momentum.lerp_(weight.grad, 1 - slow)
