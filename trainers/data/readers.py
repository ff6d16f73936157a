"""Reads images and labels from where they lie. A file that cannot be read whole is an error, never a part of it."""

import gzip
import io
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainers.data.image_set import EVERYTHING, DataError, ImageSet, Subset, image_set, require_folder

# Shapes: N images, C channels, H height, W width.

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
BROKEN_ARCHIVE = (OSError, EOFError, ValueError, KeyError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


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
        raise DataError(f"{where} cannot be read as PNG or JPEG ({error}); repair or remove it") from error
    return np.asarray(rgb).transpose(2, 0, 1)
