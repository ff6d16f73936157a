"""SynFlow: the flow through the absolute weights, without data."""

import copy

import torch

from trainers.search.priors.fresh import Fresh, layer_weights


def synflow(fresh: Fresh) -> float:
    """Logarithm of the sum of weight times gradient at an input of ones, in the network of absolute weights.

    Batch norms that have seen no batch are identities in eval mode. Source: arXiv:2006.05467, eq. 5.
    """
    network = copy.deepcopy(fresh.network).double().eval()
    weights = layer_weights(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    output = network(torch.ones_like(fresh.inputs[:1], dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(output, weights, allow_unused=True)
    flow = sum((w.detach() * g).sum() for w, g in zip(weights, gradients, strict=True) if g is not None)
    return float(torch.as_tensor(flow).clamp(min=torch.finfo(torch.float64).tiny).log())
