"""Labelled images in memory, and the data sets by name: each a function in one file that returns them."""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search_spaces.errors import InvalidInputError
from search_spaces.registry import Registry

# Shapes: N images, C channels, H height, W width.

# A function of what it needs of `root` (a folder), `image_size` (height, width), `subset` (which images to read) and
# `storage` (where to keep them).
DATASETS: "Registry[Callable[..., ImageSet]]" = Registry("datasets")


class DataError(InvalidInputError):
    """A data set is missing, damaged, or too small for what is asked of it."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Labelled images: `images` uint8 (N, C, H, W), `labels` int64 (N,), `is_test` bool (N,) or None if undivided.

    `is_validation` bool (N,) marks those of a validation part of its own, if it has one. `left_out` counts images that
    lie beside these and were not read, by the reason. `classes` are the names of the classes, their numbers by default.
    """

    name: str
    images: Tensor
    labels: Tensor
    num_classes: int
    is_test: Tensor | None
    origin: str
    task: str = "classification"  # by its name in the registry of tasks
    is_validation: Tensor | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    original: Callable[[int], np.ndarray] | None = None  # an image of several sizes before scaling, uint8 (H, W, C)

    def __post_init__(self) -> None:
        """Raises: DataError for tensors of other shapes or types, and for names that are not one for each class."""
        if not self.classes:
            object.__setattr__(self, "classes", _numbers(self.num_classes))
        if not len(set(self.classes)) == len(self.classes) == self.num_classes:
            raise DataError(f"{self.origin}: needs {self.num_classes} names, each of one class, got {self.classes}")
        count = len(self.labels)
        kinds = {"images": (self.images, torch.uint8, 4), "labels": (self.labels, torch.int64, 1)}
        parts = {"is_test": self.is_test, "is_validation": self.is_validation}
        kinds |= {name: (marks, torch.bool, 1) for name, marks in parts.items() if marks is not None}
        for name, (tensor, dtype, num_axes) in kinds.items():
            if tensor.dtype != dtype or tensor.ndim != num_axes or len(tensor) != count:
                got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
                raise DataError(f"{self.origin}: {name} must be {dtype} of {num_axes} axes, one per label, got {got}")

    def stored(self, index: int) -> np.ndarray:
        """One image as it is stored, before any scaling: uint8 (H, W, C)."""
        if self.original is not None:
            return self.original(index)
        return np.ascontiguousarray(self.images[index].permute(1, 2, 0).numpy())

    def digest(self) -> str:
        """sha256 of the images' shape and bytes and of the labels, as hex."""
        content = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for pixels in self.images.contiguous().numpy():
            content.update(pixels)
        content.update(self.labels.numpy().astype("<i8").tobytes())
        return content.hexdigest()

    def content(self) -> str:
        """sha256 of all that a run depends on, as hex: images, labels, names of classes, and what belongs to parts."""
        named = repr(self.classes).encode() if self.classes != _numbers(self.num_classes) else b""
        parts = {"is_test": self.is_test, "is_validation": self.is_validation}
        marks = b"".join(name.encode() + part.numpy().tobytes() for name, part in parts.items() if part is not None)
        return hashlib.sha256(self.digest().encode() + marks + named).hexdigest()


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
        is_test, own = (None if p is None else p[indices] for p in (image_set.is_test, image_set.is_validation))
        images, labels = image_set.images[indices], image_set.labels[indices]
        chosen = replace(image_set, images=images, labels=labels, is_test=is_test, is_validation=own)
        original = image_set.original
        return chosen if original is None else replace(chosen, original=lambda i: original(int(indices[i])))

    def _part(self, labels_N: Tensor, limit: int | None, mask_N: Tensor, name: str) -> Tensor:
        indices = mask_N.nonzero().squeeze(1)
        quantiles = class_quantiles(labels_N[indices], key_generator("subset", name, self.seed))
        return indices[quantiles.argsort(stable=True)[:limit]]


EVERYTHING = Subset()


def _numbers(num_classes: int) -> tuple[str, ...]:
    return tuple(map(str, range(num_classes)))


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
    classes: Sequence[str],
    origin: str,
    subset: Subset,
    decode: Callable[[np.ndarray], np.ndarray],
    *,
    is_validation_N: np.ndarray | None = None,
    left_out: Mapping[str, int] | None = None,
    original: Callable[[int], np.ndarray] | None = None,
) -> ImageSet:
    """Checks all labels, then decodes the images of `subset` alone. `original` gives one of all before its scaling."""
    num_classes = len(classes)
    labels = torch.from_numpy(labels_N.astype(np.int64))
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        allowed = f"allowed: 0..{num_classes - 1}; correct it or download it again"
        raise DataError(f"{origin}: {len(outside)} labels out of range, first {int(outside[0])}; {allowed}")
    is_test = None if is_test_N is None else torch.from_numpy(is_test_N)
    counts = (labels if is_test is None else labels[~is_test]).bincount(minlength=num_classes)
    if not counts.all():
        empty = [name for name, num in zip(classes, counts.tolist(), strict=True) if not num]
        raise DataError(f"{origin}: classes {empty} of {num_classes} have no training image; each needs one or more")
    indices = subset.indices(labels, is_test)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable")  # nothing writes to images that are mapped
        images = torch.from_numpy(decode(indices.numpy())).contiguous()
    return ImageSet(
        name,
        images,
        labels[indices],
        num_classes,
        None if is_test is None else is_test[indices],
        origin,
        is_validation=None if is_validation_N is None else torch.from_numpy(is_validation_N)[indices],
        left_out=left_out or {},
        classes=tuple(classes),
        original=None if original is None else lambda i: original(int(indices[i])),
    )


def require_folder(root: Path) -> None:
    if not os.path.isdir(root):
        raise DataError(
            f"data folder {root} does not exist or is no folder; set paths.data (or data.root) to one that does"
        )


def described(left_out: Mapping[str, int]) -> str:
    """What was left out, as `3 left out: 2 outside of class folders, 1 in folders beside train`."""
    return f"{sum(left_out.values()):,} left out: " + ", ".join(f"{count:,} {why}" for why, count in left_out.items())
