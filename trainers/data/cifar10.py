"""CIFAR-10 from its python archive, its binary archive or one packed file; nothing in an archive is executed."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.decoding import decode_image
from trainers.data.image_set import EVERYTHING, DataError, ImageSet, Subset, image_set, require_folder
from trainers.data.readers import BROKEN_ARCHIVE

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_SIDE = 32
_CIFAR_PIXELS = 3 * _CIFAR_SIDE**2
_CIFAR_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_CIFAR_PACKED = "cifar10_jpegq75_packed.npz"
# Path -> the folder inside it and the suffix of its six files. Source: www.cs.toronto.edu/~kriz/cifar.html
_CIFAR_ARCHIVES = {
    "cifar-10-batches-py": ("cifar-10-batches-py", ""),
    "cifar-10-python.tar.gz": ("cifar-10-batches-py", ""),
    "cifar-10-batches-bin": ("cifar-10-batches-bin", ".bin"),
    "cifar-10-binary.tar.gz": ("cifar-10-batches-bin", ".bin"),
}
# What a pickled array refers to, by numpy 1 and 2.
_PICKLED_ARRAY_NAMES = (
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
)


def read_cifar10(root: Path, *, subset: Subset = EVERYTHING) -> ImageSet:
    """CIFAR-10 in `root` or `root/cifar10`: the first found of python archive, binary archive, packed JPEG file."""
    require_folder(root)
    names = (*_CIFAR_ARCHIVES, _CIFAR_PACKED)
    path = next((p for folder in (root, root / "cifar10") for name in names if (p := folder / name).exists()), None)
    if path is None:
        raise DataError(f"no CIFAR-10 in {root} or {root / 'cifar10'}; put one of these there: {', '.join(names)}")
    if path.name == _CIFAR_PACKED:
        return _read_packed_cifar10(path, subset)
    folder, suffix = _CIFAR_ARCHIVES[path.name]
    parse = _parse_binary_batch if suffix else _parse_python_batch
    files = _read_members(path, [f"{folder}/{name}{suffix}" for name in _CIFAR_BATCHES])
    batches = [parse(raw, f"{path}: {name}") for name, raw in zip(_CIFAR_BATCHES, files, strict=True)]
    counts = [len(labels) for labels, _ in batches]
    if len(set(counts)) > 1:  # the six files of CIFAR-10 are equally long: one cut at a record's end shows only so
        raise DataError(f"{path}: batches hold {counts} images, must all be equal (10000); download the archive again")
    labels_N = np.concatenate([labels for labels, _ in batches])
    images_NCHW = np.concatenate([images for _, images in batches])
    is_test_N = np.arange(len(labels_N)) >= len(labels_N) - counts[-1]
    return image_set("cifar10", labels_N, is_test_N, CLASSES, f"CIFAR-10 {path}", subset, images_NCHW.__getitem__)


def _read_members(path: Path, names: Sequence[str]) -> list[bytes]:
    """The bytes of `names`, from a .tar.gz, or from the folder that it unpacks to."""
    found: dict[str, bytes] = {}
    try:
        if path.is_dir():
            found = {name: (path.parent / name).read_bytes() for name in names}
        else:
            with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    if member.name in names and (file := archive.extractfile(member)):
                        found[member.name] = file.read()
                while stream.read(1 << 20):  # gzip checks its sum at the very end only
                    pass
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path} cannot be read whole ({error}); download it again") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{path} lacks {missing}; needs {list(names)}; download it again")
    return [found[name] for name in names]


def _parse_binary_batch(raw: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    if not raw or len(raw) % (1 + _CIFAR_PIXELS):
        raise DataError(f"{where} has {len(raw)} bytes, not a multiple of {1 + _CIFAR_PIXELS}; download it again")
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + _CIFAR_PIXELS)
    return records[:, 0], records[:, 1:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)


class _PickledArray:
    """Inert stand-in for numpy's array and dtype: keeps what a pickle passes to them and runs nothing."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if f"{module}.{name}" not in _PICKLED_ARRAY_NAMES:
            raise pickle.UnpicklingError(f"asks for {module}.{name}; allowed are numpy arrays, dicts, lists and bytes")
        return _PickledArray


def _parse_python_batch(raw: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(raw), encoding="bytes").load()
        labels, (_, shape, dtype, is_fortran, pixels) = batch[b"labels"], batch[b"data"].state
        if shape != (len(labels), _CIFAR_PIXELS) or dtype.arguments[0] not in (b"u1", "u1") or is_fortran or not labels:
            raise ValueError(f"data of shape {shape} for {len(labels)} labels, must be uint8 (labels, {_CIFAR_PIXELS})")
        images = np.frombuffer(pixels, np.uint8).reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
        labels_N = np.array(labels)
        if labels_N.dtype != np.int64 or labels_N.shape != (len(images),):
            raise ValueError(f"labels must be {len(images)} integers, got {labels_N.dtype} of shape {labels_N.shape}")
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise DataError(f"{where} is no CIFAR-10 batch ({error}); download the archive again") from error
    return labels_N, images


def _read_packed_cifar10(path: Path, subset: Subset) -> ImageSet:
    """JPEG images behind one shared header: `blob[offsets[i]:offsets[i + 1]]` is the rest of image i."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as members:
            header, blob, offsets, labels, is_test = (
                members[key] for key in ("header", "blob", "offsets", "label", "is_test")
            )
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path} cannot be read whole ({error}); download it again") from error
    ends = offsets.astype(np.int64)
    counts = {"labels": len(labels), "test marks": len(is_test), "images": len(ends) - 1}
    if len(set(counts.values())) > 1:
        raise DataError(f"{path}: {counts} must be equal; download it again")

    def decode(indices: np.ndarray) -> np.ndarray:
        first, rest = header.tobytes(), blob.tobytes()
        size = (_CIFAR_SIDE, _CIFAR_SIDE)
        jpegs = ((first + rest[ends[i] : ends[i + 1]], f"{path}: image {i}") for i in indices)
        return np.stack([decode_image(io.BytesIO(jpeg), where, size, exact=True) for jpeg, where in jpegs])

    origin = f"CIFAR-10, JPEG quality 75, {path}"
    return image_set("cifar10", labels, is_test.astype(bool), CLASSES, origin, subset, decode)
