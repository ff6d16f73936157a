"""Labelled images in memory, and the data sets by name: each a function in one file that returns them."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search_spaces.errors import InvalidInputError
from search_spaces.registry import Registry

# Shapes: N images, C channels, H height, W width.

# A function of what it needs of `root` (a folder), `image_size` (height, width) and `subset` (which images to read).
DATASETS: "Registry[Callable[..., ImageSet]]" = Registry("datasets")


class DataError(InvalidInputError):
    """A data set is missing, damaged, or too small for what is asked of it."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Labelled images: `images` uint8 (N, C, H, W), `labels` int64 (N,), `is_test` bool (N,) or None if undivided."""

    name: str
    images: Tensor
    labels: Tensor
    num_classes: int
    is_test: Tensor | None
    origin: str
    task: str = "classification"  # by its name in the registry of tasks

    def __post_init__(self) -> None:
        """Raises: DataError for tensors of other shapes or types."""
        count = len(self.labels)
        kinds = {"images": (self.images, torch.uint8, 4), "labels": (self.labels, torch.int64, 1)}
        kinds |= {} if self.is_test is None else {"is_test": (self.is_test, torch.bool, 1)}
        for name, (tensor, dtype, num_axes) in kinds.items():
            if tensor.dtype != dtype or tensor.ndim != num_axes or len(tensor) != count:
                got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
                raise DataError(f"{self.origin}: {name} must be {dtype} of {num_axes} axes, one per label, got {got}")

    def digest(self) -> str:
        """sha256 of the images' shape and bytes and of the labels, as hex."""
        content = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        content.update(self.images.numpy().tobytes())
        content.update(self.labels.numpy().astype("<i8").tobytes())
        return content.hexdigest()

    def content(self) -> str:
        """sha256 of all that figures depend on, as hex: images, labels, and which of them are for testing."""
        is_test = b"" if self.is_test is None else self.is_test.numpy().tobytes()
        return hashlib.sha256(self.digest().encode() + is_test).hexdigest()


@dataclass(frozen=True, slots=True)
class Subset:
    """Which images of a set to read: at most `train` and `test` of them, stratified by label, a function of `seed`.

    `test` counts images of the set's own test part; in a set without one, `train` counts all images.
    """

    train: int | None = None
    test: int | None = None
    seed: int = 0

    def indices(self, labels_N: Tensor, is_test_N: Tensor | None) -> Tensor:
        """Positions of the images chosen, ascending. A larger limit contains a smaller one's images."""
        if is_test_N is None:
            if self.test is not None:
                raise DataError(
                    f"data.limit_test={self.test} on a set that has no test part of its own; leave it null, use limit"
                )
            is_test_N = torch.zeros_like(labels_N, dtype=torch.bool)
        parts = ((self.train, ~is_test_N, "limit"), (self.test, is_test_N, "limit_test"))
        return torch.cat([self._part(labels_N, *part) for part in parts]).sort().values

    def of(self, image_set: ImageSet) -> ImageSet:
        """The images chosen."""
        indices = self.indices(image_set.labels, image_set.is_test)
        is_test = None if image_set.is_test is None else image_set.is_test[indices]
        return replace(image_set, images=image_set.images[indices], labels=image_set.labels[indices], is_test=is_test)

    def _part(self, labels_N: Tensor, limit: int | None, mask_N: Tensor, name: str) -> Tensor:
        indices = mask_N.nonzero().squeeze(1)
        quantiles = class_quantiles(labels_N[indices], key_generator("subset", name, self.seed))
        return indices[quantiles.argsort(stable=True)[:limit]]


EVERYTHING = Subset()


def key_generator(*key: int | str) -> torch.Generator:
    """A generator that is a function of `key` alone, whatever the global state."""
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little"))


def class_quantiles(labels_N: Tensor, generator: torch.Generator) -> Tensor:
    """Each image's place in a random order of its own class, float64 in (0, 1): parts cut there are stratified."""
    shuffled = torch.randperm(len(labels_N), generator=generator)
    by_class = shuffled[labels_N[shuffled].argsort(stable=True)]
    counts = labels_N.bincount()
    rank = torch.arange(len(labels_N)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    quantiles_N = torch.empty(len(labels_N), dtype=torch.float64)
    quantiles_N[by_class] = (rank + 0.5) / counts.repeat_interleave(counts).double()
    return quantiles_N


def image_set(
    name: str,
    labels_N: np.ndarray,
    is_test_N: np.ndarray | None,
    num_classes: int,
    origin: str,
    subset: Subset,
    decode: Callable[[np.ndarray], np.ndarray],
) -> ImageSet:
    """Checks all labels, then decodes the images of `subset` alone."""
    labels = torch.from_numpy(labels_N.astype(np.int64))
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        allowed = f"allowed: 0..{num_classes - 1}; correct it or download it again"
        raise DataError(f"{origin}: {len(outside)} labels out of range, first {int(outside[0])}; {allowed}")
    is_test = None if is_test_N is None else torch.from_numpy(is_test_N)
    counts = (labels if is_test is None else labels[~is_test]).bincount(minlength=num_classes)
    if not counts.all():
        empty = (counts == 0).nonzero().squeeze(1).tolist()
        raise DataError(f"{origin}: classes {empty} of {num_classes} have no training image; each needs one or more")
    indices = subset.indices(labels, is_test)
    images = torch.from_numpy(decode(indices.numpy()))
    return ImageSet(name, images, labels[indices], num_classes, None if is_test is None else is_test[indices], origin)


def require_folder(root: Path) -> None:
    if not os.path.isdir(root):
        raise DataError(
            f"data folder {root} does not exist or is no folder; set paths.data (or data.root) to one that does"
        )
