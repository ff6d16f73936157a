"""Reads images and labels from where they lie. A file that cannot be read whole is an error, never a part of it."""

import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from trainers.data.image_set import EVERYTHING, DataError, ImageSet, Subset, image_set, require_folder

# Shapes: N images, C channels, H height, W width.

# Source: github.com/zalandoresearch/fashion-mnist, in the order of its labels.
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
BROKEN_ARCHIVE = (OSError, EOFError, ValueError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


def read_digits(*, subset: Subset = EVERYTHING) -> ImageSet:
    """The 1,797 grey 8x8 digits that scikit-learn bundles, levels 0..16 scaled to 0..255; no test part."""
    import sklearn
    from sklearn.datasets import load_digits

    digits = load_digits()
    images_NCHW = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    origin = f"scikit-learn {sklearn.__version__}, load_digits"
    return image_set("digits", digits.target, None, "0123456789", origin, subset, images_NCHW.__getitem__)


def read_fashion_mnist(root: Path, *, subset: Subset = EVERYTHING) -> ImageSet:
    """Fashion-MNIST: four IDX files, gzipped or not, in `root` or `root/fashion-mnist`; t10k is the test part."""
    require_folder(root)
    folder = root / "fashion-mnist" if (root / "fashion-mnist").is_dir() else root
    train_images, train_labels = _read_idx_pair(folder, "train")
    test_images, test_labels = _read_idx_pair(folder, "t10k")
    sizes = [images.shape[1:] for images in (train_images, test_images)]
    if sizes[0] != sizes[1]:
        raise DataError(f"{folder}: train images are of {sizes[0]}, t10k of {sizes[1]}; download both files again")
    images_NCHW = np.concatenate([train_images, test_images])[:, None]
    labels_N = np.concatenate([train_labels, test_labels])
    is_test_N = np.arange(len(labels_N)) >= len(train_labels)
    origin = f"Fashion-MNIST IDX files in {folder}"
    return image_set("fashion_mnist", labels_N, is_test_N, CLOTHES, origin, subset, images_NCHW.__getitem__)


def _read_idx_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images_NHW = _read_idx(folder, f"{part}-images-idx3-ubyte", num_axes=3)
    labels_N = _read_idx(folder, f"{part}-labels-idx1-ubyte", num_axes=1)
    if len(images_NHW) != len(labels_N):
        raise DataError(
            f"{folder}: {part} has {len(images_NHW)} images and {len(labels_N)} labels; download both files again"
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
        raise DataError(f"{path} cannot be read whole ({error}); download it again") from error
    magic, start = bytes([0, 0, 8, num_axes]), 4 * (1 + num_axes)
    if raw[:4] != magic or len(raw) < start:
        raise DataError(
            f"{path} is no IDX file of {num_axes} axes: starts with {raw[:4]!r}, must with {magic!r}; download it again"
        )
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", num_axes, 4))
    elements = int(np.prod(shape, dtype=object))
    if not elements or len(raw) - start != elements:
        raise DataError(f"{path} holds {len(raw) - start} bytes of data, its header says {shape}; download it again")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
