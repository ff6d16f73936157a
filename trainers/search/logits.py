"""What `arch_optimizer` trains: one utility per choice, shared by all devices, and each device's deviation from it."""

# Shapes: D devices, N choices of all decisions.

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class ArchitectureParameters(nn.Module):
    """Logits of device d: shared (N,) plus offsets (D, N), the offsets drawn to zero.

    The loss does not know the device, only the feasible set does; offsets absorb what is best among small networks.
    """

    def __init__(self, num_choices: int, num_devices: int, *, offset_decay: float) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(num_choices))
        self.offsets = nn.Parameter(torch.zeros(num_devices, num_choices))
        self.offset_decay = offset_decay

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Stays on the CPU, where masks and cost tables are, when a module that holds it is moved."""
        return self

    @torch.no_grad()
    def start_at(self, logits_N: Tensor) -> None:
        """Gives all devices these logits (N,)."""
        self.shared.copy_(logits_N)

    def forward(self, device: int) -> Tensor:
        """Logits (N,) of one device."""
        return self.shared + self.offsets[device]

    def penalty(self, device: int) -> Tensor:
        """`offset_decay` times the squared length of the device's offsets."""
        return self.offset_decay * self.offsets[device].square().sum()
