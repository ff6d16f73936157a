"""Data sets of other libraries: whatever has a length and gives images with labels by their number."""

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from trainers.data.decoding import pixels
from trainers.data.image_folder import natural
from trainers.data.image_set import EVERYTHING, DataError, ImageSet, Subset, image_set
from trainers.data.storage import IN_MEMORY, Storage

# Shapes: N images, C channels, H height, W width.


class Examples(Protocol):
    """A data set of torchvision, of Hugging Face, or of the same kind: a pair, or a mapping, by its number.

    An image is Pillow's, an array (H, W) or (H, W, C), or a tensor (C, H, W); of bytes, or of floats in [0, 1].
    """

    def __len__(self) -> int: ...
    def __getitem__(self, number: Any, /) -> Any: ...


def read_examples(
    name: str,
    train: Examples,
    *,
    validation: Examples | None = None,
    test: Examples | None = None,
    image: str = "image",
    label: str = "label",
    classes: Sequence[str] = (),
    image_size: tuple[int, int] | None = None,
    subset: Subset = EVERYTHING,
    storage: Storage = IN_MEMORY,
) -> ImageSet:
    """RGB images, scaled and centre-cropped to `image_size`; without it, all must be of one size.

    `image` and `label` are keys of examples that are mappings. Classes have the names that are given, or those that the
    data set has; labels that are words are the classes, in the order of their names. What a data set does to its images
    must not be random, and its floats not be normalised.
    Raises: DataError for what cannot be used, all damaged images at once.
    """
    given = {"train": train, "validation": validation, "test": test}
    parts = {part: examples for part, examples in given.items() if examples is not None}
    places = [(part, number) for part, examples in parts.items() for number in range(len(examples))]
    labels = [_plain(each, name) for examples in parts.values() for each in _labels(examples, label, name)]
    names = list(classes) or _names(train, label) or _words(labels)
    parts_N, lock = np.array([part for part, _ in places]), Lock()

    def read(place: tuple[str, int], size: tuple[int, int] | None) -> np.ndarray:
        part, number = place
        try:
            with lock:  # a data set need not be safe for threads
                found = _image(_pair(parts[part][number], image, label)[0])
            return pixels(found, size or (found.height, found.width))
        except Exception as error:  # of any library
            raise DataError(f"{name}: image {number} of {part} cannot be read: {error}") from error

    def decode(indices_N: np.ndarray) -> np.ndarray:
        chosen = [places[i] for i in indices_N]
        shape = (3, *image_size) if image_size else read(chosen[0], None).shape

        def decode_one(number: int) -> np.ndarray:
            found = read(chosen[number], image_size)
            if found.shape != shape:
                sizes = f"{found.shape[1:]}, the first {shape[1:]}"
                raise DataError(f"{name}: image {chosen[number][1]} of {chosen[number][0]} is {sizes}; give image_size")
            return found

        return storage.keep((len(chosen), *shape), decode_one)

    return image_set(
        name,
        np.array(_numbers(labels, names, name)),
        parts_N == "test" if test is not None else None,
        names,
        f"{name}, {type(train).__module__}.{type(train).__qualname__}",
        subset,
        decode,
        is_validation_N=parts_N == "validation" if validation is not None else None,
        original=lambda i: read(places[i], None).transpose(1, 2, 0),
    )


def _pair(example: Any, image: str, label: str) -> tuple[Any, Any]:
    return (example[image], example[label]) if isinstance(example, Mapping) else (example[0], example[1])


def _labels(examples: Any, label: str, name: str) -> Sequence[Any]:
    """All labels of a part, without its images where it has them apart."""
    if getattr(examples, "targets", None) is not None and getattr(examples, "target_transform", None) is None:
        found = examples.targets  # of torchvision
    elif hasattr(examples, "column_names"):
        found = examples[label]  # of Hugging Face
    else:
        found = [_pair(examples[number], "", label)[1] for number in range(len(examples))]
    if len(found) != len(examples):
        raise DataError(f"{name}: has {len(examples)} images and {len(found)} labels; it must have one for each")
    return list(found)


def _plain(label: Any, name: str) -> int | str:
    if isinstance(label, str):
        return label
    try:
        return index(label)
    except TypeError:
        raise DataError(f"{name}: got a label {label!r:.50}, allowed: whole numbers and words") from None


def _names(train: Any, label: str) -> list[str]:
    """The names of the classes that a data set has itself, if each is of one class."""
    feature = (getattr(train, "features", None) or {}).get(label)
    found = getattr(train, "classes", None) or getattr(feature, "names", None) or []
    names = [each if isinstance(each, str) else ", ".join(each) for each in found]
    return names if len(set(names)) == len(names) else []


def _words(labels: Iterable[int | str]) -> list[str]:
    words = {label for label in labels if isinstance(label, str)}
    highest = max((label for label in labels if not isinstance(label, str)), default=-1)
    return sorted(words, key=natural) or [str(number) for number in range(highest + 1)]


def _numbers(labels: Sequence[int | str], names: Sequence[str], name: str) -> list[int]:
    number_of = {each: number for number, each in enumerate(names)}
    strangers = sorted({label for label in labels if isinstance(label, str) and label not in number_of})
    if strangers:
        raise DataError(f"{name}: got labels {strangers[:5]}, allowed: {', '.join(names)}")
    return [number_of[label] if isinstance(label, str) else label for label in labels]


def _image(found: Any) -> Image.Image:
    """Raises: ValueError or TypeError for what is no image."""
    if isinstance(found, Image.Image):
        return found
    if isinstance(found, torch.Tensor):
        found = found.movedim(0, -1).numpy() if found.ndim == 3 else found.numpy()
    levels = np.asarray(found)
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[:, :, 0]
    if np.issubdtype(levels.dtype, np.floating):
        if not (levels.min() >= 0 and levels.max() <= 1):
            raise ValueError(f"its floats are {levels.min():g} to {levels.max():g}, must be 0 to 1: normalise nothing")
        levels = np.rint(levels * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(levels))
