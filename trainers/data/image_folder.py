"""A folder of images as practitioners have them: a folder for each class, in parts or not."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers.data.decoding import check_channels, decode_image, suffixes
from trainers.data.image_set import EVERYTHING, DataError, ImageSet, Subset, image_set, require_folder
from trainers.data.storage import IN_MEMORY, Storage, decode_files

# Shapes: N images.

VALIDATION = ("val", "valid", "validation")
OUTSIDE, BESIDE = "outside of class folders", "in folders beside train"
NO_CLASSES, NO_IMAGE = "in test without classes", "no images by their names"


@dataclass(frozen=True)
class Layout:
    """The folders of the parts, each with a folder for each class. Without parts, all is `train`."""

    train: Path
    validation: Path | None = None
    test: Path | None = None


def read_image_folder(
    root: Path,
    *,
    image_size: tuple[int, int],
    channels: int = 3,
    subset: Subset = EVERYTHING,
    storage: Storage = IN_MEMORY,
) -> ImageSet:
    """Images of `root/<class>/`, as a viewer shows them, scaled and centre-cropped to `image_size`: RGB, or grey.

    Where `root/train/<class>/` exist, those are read, with the validation and test parts beside it, if any. Folders
    inside of a class belong to it. Classes stand in the order of their names, numbers by their values. What is left
    out is counted by its reason.
    Raises: DataError for classes that do not fit; for files that cannot be read, all of them at once.
    """
    require_folder(root)
    check_channels(channels)
    layout, left_out = _layout(root)
    classes = _class_names(layout.train)
    if len(classes) < 2:
        raise DataError(f"{layout.train}: found class folders {classes}, needs two or more; make one folder a class")
    listed = list(_listed(layout, classes, left_out))
    paths, labels, parts = zip(*listed, strict=True) if listed else ((), (), ())
    trained = {label for label, part in zip(labels, parts, strict=True) if part == "train"}
    empty = [name for label, name in enumerate(classes) if label not in trained]
    if empty:
        raise DataError(f"{layout.train}: classes {empty} hold no image; add images or remove them")
    parts_N = np.array(parts)
    return image_set(
        root.name,
        np.array(labels),
        parts_N == "test" if layout.test else None,
        classes,
        f"image folder {root}",
        subset,
        lambda indices_N: decode_files([paths[i] for i in indices_N], image_size, storage, channels=channels),
        is_validation_N=parts_N == "validation" if layout.validation else None,
        left_out={reason: count for reason, count in left_out.items() if count},
        original=lambda i: decode_image(paths[i], str(paths[i]), channels=channels).transpose(1, 2, 0),
    )


def _layout(root: Path) -> tuple[Layout, Counter[str]]:
    """How a folder is divided, and how many images stand in folders that are no part of it."""
    left_out: Counter[str] = Counter()
    train = root / "train"
    if not train.is_dir() or _num_images(train):  # a class may be called train
        return Layout(root), left_out
    beside = {path.name: path for path in _entries(root) if path.is_dir() and path != train}
    own = [beside.pop(name) for name in VALIDATION if name in beside]
    if len(own) > 1:
        raise DataError(f"{root}: found {[path.name for path in own]}, allowed: one of them; join them")
    test = beside.pop("test", None)
    if test is not None and not _class_names(test):
        left_out[NO_CLASSES] += len(_files(test, left_out))
        test = None
    for folder in beside.values():
        left_out[BESIDE] += len(_files(folder, left_out))
    left_out[OUTSIDE] += _num_images(root)
    return Layout(train, own[0] if own else None, test), left_out


def _listed(layout: Layout, classes: list[str], left_out: Counter[str]) -> Iterator[tuple[Path, int, str]]:
    """The path, label and part of each image. Raises: DataError for a part with classes that training lacks."""
    for part in ("train", "validation", "test"):
        folder: Path | None = getattr(layout, part)
        if folder is None:
            continue
        strangers = [name for name in _class_names(folder) if name not in classes]
        if strangers:
            raise DataError(f"{folder}: classes {strangers} are not in {layout.train}; allowed: {classes}")
        for label, name in enumerate(classes):
            yield from ((path, label, part) for path in _files(folder / name, left_out))
        left_out[OUTSIDE] += _num_images(folder)


def _class_names(folder: Path) -> list[str]:
    return sorted((path.name for path in _entries(folder) if path.is_dir()), key=natural)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts 2 before 10."""
    return [(int(number or -1), text) for number, text in re.findall(r"(\d*)(\D*)", name)]


def _entries(folder: Path) -> Iterator[Path]:
    """What a folder holds, by name, without what is hidden."""
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in suffixes() and path.is_file()


def _num_images(folder: Path) -> int:
    """How many images lie in a folder itself."""
    return sum(map(_is_image, _entries(folder)))


def _files(folder: Path, left_out: Counter[str]) -> list[Path]:
    """The images in a folder and below it; other files are counted."""
    if not folder.is_dir():
        return []
    shown = (path for path in sorted(folder.rglob("*")) if not _is_hidden(path.relative_to(folder)))
    files = [path for path in shown if path.is_file()]
    images = [path for path in files if _is_image(path)]
    left_out[NO_IMAGE] += len(files) - len(images)
    return images


def _is_hidden(path: Path) -> bool:
    """Whether a file or a folder above it is, as .ipynb_checkpoints."""
    return any(part.startswith(".") for part in path.parts)
