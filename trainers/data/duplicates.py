"""Images that a data set holds more than once where it should not: in two parts, or in two classes."""

import hashlib

import torch
from torch import Tensor

from trainers.data.image_set import ImageSet
from trainers.data.splits import Splits
from trainers.runs.result_parts import Duplicates

# Shapes: N images of the set, S images of a part, G different images.


def find_duplicates(image_set: ImageSet, splits: Splits) -> Duplicates:
    """Counts of what is the same to the last bit, as it is decoded. Training is weights and architecture split."""
    group_N, labels_N = _groups(image_set.images), image_set.labels
    trained = torch.cat([splits.weights, splits.architecture])
    first_G = torch.empty(len(group_N), dtype=torch.int64)  # the label of one image of each group
    first_G[group_N] = labels_N
    is_other_N = first_G[group_N] != labels_N
    return Duplicates(
        test_in_training=_shared(group_N, splits.test, trained),
        test_in_validation=_shared(group_N, splits.test, splits.validation),
        validation_in_training=_shared(group_N, splits.validation, trained),
        in_two_classes=_shared(group_N, torch.arange(len(group_N)), is_other_N.nonzero().squeeze(1)),
    )


def _shared(group_N: Tensor, part_S: Tensor, other_S: Tensor) -> int:
    """How many images of a part are in a group that the other has an image of."""
    is_other_G = torch.zeros(len(group_N), dtype=torch.bool)
    is_other_G[group_N[other_S]] = True
    return int(is_other_G[group_N[part_S]].sum())


def _groups(images: Tensor) -> Tensor:
    """A number for each image, int64 (N,), the same for the same pixels."""
    seen: dict[bytes, int] = {}
    digests = (hashlib.sha256(pixels).digest() for pixels in images.contiguous().numpy())
    return torch.tensor([seen.setdefault(digest, len(seen)) for digest in digests])
