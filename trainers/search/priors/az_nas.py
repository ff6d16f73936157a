"""AZ-NAS: expressivity, progressivity and trainability of the blocks of a network.

Source: AZ-NAS, arXiv:2403.19232, eqs. 1-8.
"""

# Shapes: B batch, C channels, H height, W width, P positions of a batch of maps.

from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.search.priors.fresh import Fresh, recorded_maps

SMALLEST = 1e-8  # share of an eigenvalue below which it adds nothing to an entropy


def expressivity(fresh: Fresh) -> float:
    """Sum over blocks of the entropy, in nats, of the principal components of their outputs."""
    return float(sum(_entropies(fresh)))


def progressivity(fresh: Fresh) -> float:
    """The smallest step by which that entropy grows from one block to the next."""
    entropies = _entropies(fresh)
    return min(after - before for before, after in pairwise(entropies))


def trainability(fresh: Fresh) -> float:
    """Mean over blocks of 2 - s - 1/s, s the largest singular value of how a block passes gradients back.

    It is largest, 0, where gradients keep their size. The gradients that enter a block are random signs.
    """
    scores = []
    with recorded_maps(fresh.network) as maps, torch.enable_grad():
        fresh.network(fresh.inputs.clone().requires_grad_())
    signs = torch.Generator().manual_seed(0)
    for before, after in pairwise(maps):
        outer = torch.randint(0, 2, after.shape, generator=signs).to(after) * 2 - 1
        (inner,) = torch.autograd.grad(after, before, outer, retain_graph=True, allow_unused=True)
        scores.append(-float("inf") if inner is None else _isometry(inner, outer))
    return sum(scores) / len(scores)


@lru_cache(maxsize=1)  # two scores of the same network read them
def _entropies(fresh: Fresh) -> tuple[float, ...]:
    with torch.no_grad(), recorded_maps(fresh.network) as maps:
        fresh.network(fresh.inputs)
    return tuple(_entropy(_positions(each)) for each in maps)


def _entropy(x_PC: Tensor) -> float:
    x_PC = x_PC.double() - x_PC.double().mean(0)
    shares_C = torch.linalg.eigvalsh(x_PC.T @ x_PC / len(x_PC)).clamp(min=0)
    total = shares_C.sum()
    if total <= 0:
        return 0.0
    shares_C = shares_C / total
    shares_C = shares_C[shares_C > SMALLEST]
    return float(-(shares_C * shares_C.log()).sum())


def _isometry(inner: Tensor, outer: Tensor) -> float:
    if inner.shape[-2:] != outer.shape[-2:]:  # a block of a stride: the pixels that become one are channels of it
        stride = inner.shape[-1] // outer.shape[-1]
        height, width = (side * stride for side in outer.shape[-2:])
        inner = F.pixel_unshuffle(inner[..., :height, :width], stride)
    inner_PC, outer_PC = _positions(inner), _positions(outer)
    largest = float(torch.linalg.matrix_norm(inner_PC.T @ outer_PC / len(outer_PC), ord=2))
    return -float("inf") if largest == 0 else 2 - largest - 1 / largest


def _positions(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) as rows of channels (P, C)."""
    return maps.movedim(1, -1).flatten(0, -2)
