"""The order of a training pass in which every class comes as often as any other."""

# Shapes: S images of a split, K classes that have some.

import torch
from torch import Tensor


def balanced_order(labels_S: Tensor, generator: torch.Generator) -> Tensor:
    """Positions (S,): any K in a row from a multiple of K on are one of each class.

    Images of a class come in turn, each pass over them in a new order, so a rare one's are repeated.
    """
    num_images, classes = len(labels_S), labels_S.unique()
    num_rounds = -(-num_images // len(classes))
    drawn_S = torch.rand(num_rounds, len(classes), generator=generator).argsort(1).flatten()[:num_images]
    positions_S = torch.empty(num_images, dtype=torch.int64)
    for index, label in enumerate(classes):
        own, places = (labels_S == label).nonzero().squeeze(1), (drawn_S == index).nonzero().squeeze(1)
        num_passes = -(-len(places) // len(own))
        passes = [own[torch.randperm(len(own), generator=generator)] for _ in range(num_passes)]
        positions_S[places] = torch.cat(passes)[: len(places)]
    return positions_S
