"""SWAP: how many different patterns units show over the samples of a batch."""

# Shapes: B batch.

import torch

from trainers.search.priors.fresh import Fresh, activation_signs

MOST_SAMPLES = 62  # bits of an integer; more samples would tell all units apart


def swap(fresh: Fresh) -> float:
    """The number of distinct sample-wise activation patterns. Source: SWAP-NAS, arXiv:2403.04161, eq. 6."""
    signs = activation_signs(fresh)[:MOST_SAMPLES]
    powers_B = 2 ** torch.arange(len(signs), dtype=torch.int64)
    return float((signs.long() * powers_B[:, None]).sum(0).unique().numel())
