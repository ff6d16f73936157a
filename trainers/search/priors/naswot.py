"""NASWOT: how far the activation patterns of different samples are apart."""

# Shapes: B batch.

import torch

from trainers.search.priors.fresh import Fresh, activation_signs


def naswot(fresh: Fresh) -> float:
    """Logarithm of the determinant of the kernel (B, B) of agreeing activations.

    Samples that a network cannot tell apart make it singular: minus infinity. Source: arXiv:2006.04647, eq. 2.
    """
    signs = activation_signs(fresh).double()
    kernel_BB = signs @ signs.T + (1 - signs) @ (1 - signs).T
    return float(torch.linalg.slogdet(kernel_BB).logabsdet)
