"""ZiCo: gradients that are large and alike over batches."""

import torch

from trainers.search.priors.fresh import Fresh

PARTS = 2  # of the batch, each a batch of its own


def zico(fresh: Fresh) -> float:
    """Sum over layers of the logarithm of the sum of mean absolute gradients over their deviations.

    Source: arXiv:2301.11300, eq. 17.
    """
    size = len(fresh.inputs) // PARTS
    parts = [fresh.gradients(slice(part * size, (part + 1) * size)) for part in range(PARTS)]
    score = 0.0
    for layer in zip(*parts, strict=True):
        gradients = torch.stack([gradient for _, gradient in layer]).double()
        deviation = gradients.std(0, correction=0)
        ratios = gradients.abs().mean(0)[deviation > 0] / deviation[deviation > 0]
        if len(ratios):
            score += float(ratios.sum().log())
    return score
