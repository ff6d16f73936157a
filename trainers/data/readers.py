"""Reads images and labels from where they lie. A file that cannot be read whole is an error, never a part of it."""

import gzip
import hashlib
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from search_spaces.errors import InvalidInputError

# Shapes: N images, C channels, H height, W width.

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
BROKEN_ARCHIVE = (OSError, EOFError, ValueError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


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

    def digest(self) -> str:
        """sha256 of the images' shape and bytes and of the labels, as hex."""
        content = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        content.update(self.images.numpy().tobytes())
        content.update(self.labels.numpy().astype("<i8").tobytes())
        return content.hexdigest()


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


def read_digits(*, subset: Subset = EVERYTHING) -> ImageSet:
    """The 1,797 grey 8x8 digits that scikit-learn bundles, levels 0..16 scaled to 0..255; no test part."""
    import sklearn
    from sklearn.datasets import load_digits

    digits = load_digits()
    images_NCHW = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    origin = f"scikit-learn {sklearn.__version__}, load_digits"
    return image_set("digits", digits.target, None, 10, origin, subset, images_NCHW.__getitem__)


def read_fashion_mnist(root: Path, *, subset: Subset = EVERYTHING) -> ImageSet:
    """Fashion-MNIST: four IDX files, gzipped or not, in `root` or `root/fashion-mnist`; t10k is the test part."""
    require_folder(root)
    folder = root / "fashion-mnist" if (root / "fashion-mnist").is_dir() else root
    train_images, train_labels = _read_idx_pair(folder, "train")
    test_images, test_labels = _read_idx_pair(folder, "t10k")
    if train_images.shape[1:] != test_images.shape[1:]:
        sizes = f"{train_images.shape[1:]} and {test_images.shape[1:]}"
        raise DataError(f"{folder}: train and t10k images differ in size, got {sizes}; fetch the four files anew")
    images_NCHW = np.concatenate([train_images, test_images])[:, None]
    labels_N = np.concatenate([train_labels, test_labels])
    is_test_N = np.arange(len(labels_N)) >= len(train_labels)
    origin = f"Fashion-MNIST IDX files in {folder}"
    return image_set("fashion_mnist", labels_N, is_test_N, 10, origin, subset, images_NCHW.__getitem__)


def read_image_folder(root: Path, *, image_size: tuple[int, int], subset: Subset = EVERYTHING) -> ImageSet:
    """RGB images of `root/<class>/*.png|jpg|jpeg`, classes by sorted name, scaled and centre-cropped to `image_size`.

    Where `root/train` exists, classes are read there, and `root/test`, if any, is the test part.
    """
    require_folder(root)
    train = root / "train" if (root / "train").is_dir() else root
    folders = [train, root / "test"] if train != root and (root / "test").is_dir() else [train]
    classes = _class_names(train)
    if len(classes) < 2:
        raise DataError(f"{train}: found class folders {classes}, needs two or more; make one folder a class")
    strangers = sorted(set(_class_names(folders[-1])) - set(classes))
    if strangers:
        raise DataError(f"{folders[-1]}: classes {strangers} are not in {train}; allowed: {classes}")
    files = [[_image_files(folder / name) for name in classes] for folder in folders]
    empty = [name for name, group in zip(classes, files[0], strict=True) if not group]
    if empty:
        raise DataError(
            f"{train}: classes {empty} hold no {', '.join(_IMAGE_SUFFIXES)} file; add images or remove them"
        )
    paths = [path for part in files for group in part for path in group]
    labels_N = np.array([label for part in files for label, group in enumerate(part) for _ in group])
    num_train = sum(map(len, files[0]))
    is_test_N = np.arange(len(paths)) >= num_train if len(folders) == 2 else None

    def decode(indices: np.ndarray) -> np.ndarray:
        return np.stack([decode_image(paths[i], str(paths[i]), image_size) for i in indices])

    return image_set(root.name, labels_N, is_test_N, len(classes), f"image folder {root}", subset, decode)


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
        allowed = f"allowed: 0..{num_classes - 1}; mend or fetch it anew"
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


def _read_idx_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images_NHW = _read_idx(folder, f"{part}-images-idx3-ubyte", num_axes=3)
    labels_N = _read_idx(folder, f"{part}-labels-idx1-ubyte", num_axes=1)
    if len(images_NHW) != len(labels_N):
        raise DataError(
            f"{folder}: {part} has {len(images_NHW)} images and {len(labels_N)} labels; fetch both files anew"
        )
    return images_NHW, labels_N


def _read_idx(folder: Path, name: str, *, num_axes: int) -> np.ndarray:
    """The uint8 array of one IDX file. Source of the format: yann.lecun.com/exdb/mnist"""
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise DataError(f"no {name}.gz or {name} in {folder}; put it there or set data.root to its folder")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            raw = stream.read()
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path} cannot be read whole ({error}); fetch it anew") from error
    magic, start = bytes([0, 0, 8, num_axes]), 4 * (1 + num_axes)
    if raw[:4] != magic or len(raw) < start:
        raise DataError(
            f"{path} is no IDX file of {num_axes} axes: starts with {raw[:4]!r}, must with {magic!r}; fetch it anew"
        )
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", num_axes, 4))
    elements = int(np.prod(shape, dtype=object))
    if not elements or len(raw) - start != elements:
        raise DataError(f"{path} holds {len(raw) - start} bytes of data, its header says {shape}; fetch it anew")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _class_names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in _IMAGE_SUFFIXES and not p.name.startswith("."))


def decode_image(
    source: Path | io.BytesIO, where: str, image_size: tuple[int, int], *, exact: bool = False
) -> np.ndarray:
    """RGB uint8 (3, H, W), scaled and centre-cropped to `image_size`, or of that size already if `exact`."""
    size = (image_size[1], image_size[0])
    try:
        with Image.open(source, formats=("PNG", "JPEG")) as image:
            if exact and image.size != size:
                raise ValueError(f"is {image.size} pixels wide and high, must be {size}")
            if image.mode.startswith(("I", "F")):  # Pillow would clip 16 bits to white without a word
                raise ValueError(f"has pixel mode {image.mode}, must have 8 bits a channel")
            rgb = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise DataError(f"{where} cannot be read as PNG or JPEG ({error}); mend or remove it") from error
    return np.asarray(rgb).transpose(2, 0, 1)
