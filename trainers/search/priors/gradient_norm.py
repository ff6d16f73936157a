"""The length of the gradient."""

from trainers.search.priors.fresh import Fresh


def gradient_norm(fresh: Fresh) -> float:
    """Sum over layers of the Euclidean length of their gradients. Source: arXiv:2101.08134, section 3.1."""
    return float(sum(gradient.norm() for _, gradient in fresh.gradients()))
