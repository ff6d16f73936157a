"""Weights that the output depends on."""

from trainers.search.priors.fresh import Fresh, layer_weights


def live_parameters(fresh: Fresh) -> float:
    """How many weights the convolutions and linear layers have; a stand-alone network has no dead ones.

    Source: a baseline that few training-free scores beat, White et al., "A deeper look at zero-cost proxies".
    """
    return float(sum(weight.numel() for weight in layer_weights(fresh.network)))
