"""SNIP: how much the loss would change without each weight."""

from trainers.search.priors.fresh import Fresh


def snip(fresh: Fresh) -> float:
    """Sum of the absolute products of weight and gradient. Source: arXiv:1810.02340, eq. 5."""
    return float(sum((weight.detach() * gradient).abs().sum() for weight, gradient in fresh.gradients()))
