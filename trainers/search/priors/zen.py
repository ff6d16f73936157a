"""Zen: how far the features move with the input, the scales of batch norms put back."""

# Shapes: B batch, C channels, H height, W width.

import copy
import math

import torch
from torch import Tensor, nn

from trainers.search.priors.fresh import Fresh

STEP = 1e-2  # of the inputs, as share of a standard deviation


def zen(fresh: Fresh) -> float:
    """Logarithm of the mean move of the last map, plus the logarithms of the deviations that batch norms divided by.

    Weights and inputs are standard normal. Source: Zen-NAS, arXiv:2102.01063, algorithm 1.
    """
    network, normal = copy.deepcopy(fresh.network).train(), torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, generator=normal)
    inputs = torch.randn(fresh.inputs.shape, generator=normal)
    moved = inputs + STEP * torch.randn(fresh.inputs.shape, generator=normal)
    deviations: list[Tensor] = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, x: deviations.append(x[0].var((0, 2, 3)).mean().sqrt()))
    with torch.no_grad():
        last = _last_map(network, inputs)
        logs = sum(math.log(max(float(deviation), 1e-12)) for deviation in deviations)
        return math.log(max(float((last - _last_map(network, moved)).abs().mean()), 1e-12)) + logs


def _last_map(network: nn.Module, inputs: Tensor) -> Tensor:
    """What the last global pool of the network reads (B, C, H, W)."""
    read: list[Tensor] = []
    pools = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    handles = [pool.register_forward_pre_hook(lambda _, x: read.append(x[0])) for pool in pools]
    network(inputs)
    for handle in handles:
        handle.remove()
    return read[-1]
