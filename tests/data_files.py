"""Data sets as their publishers write them, small; and where the real ones are."""

import gzip
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainers.data.splits import Shares, Split

REPOSITORY = Path(__file__).parent.parent
REAL = Path(os.environ.get("ESPALIER_DATA", REPOSITORY.parent / "shared" / "data"))
SHARES = Shares(weights=0.5, architecture=0.25, validation=0.25, test=0.2)
PARTS: tuple[Split, ...] = ("weights", "architecture", "validation", "test")
BATCH_NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def real(*parts: str) -> Path:
    if not REAL.joinpath(*parts).exists():
        pytest.skip(f"{'/'.join(parts)} is not in the data folder; set ESPALIER_DATA to one that holds it")
    return REAL


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_idx(
    folder: Path, *, packed: bool = True, num_train: int = 20, num_labels: int = 20, top: int = 9, width: int = 5
) -> None:
    folder.mkdir(exist_ok=True)

    def write(name: str, array: np.ndarray) -> None:
        raw = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(raw) if packed else raw)

    labels = (np.arange(num_labels) % 10).astype(np.uint8)
    labels[9] = top
    write("train-images-idx3-ubyte", noise(num_train, 6, width))
    write("train-labels-idx1-ubyte", labels)
    write("t10k-images-idx3-ubyte", noise(10, 6, 5, seed=1))
    write("t10k-labels-idx1-ubyte", np.arange(10, dtype=np.uint8))


def python2_pickle(labels: list[int], pixels: np.ndarray) -> bytes:
    """The opcodes that Python 2's cPickle wrote into the CIFAR-10 python archive."""

    def text(value: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value

    def integer(value: int) -> bytes:
        return pickle.BININT + struct.pack("<i", value)

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + integer(0) + integer(1) + b"\x87R"
    dtype += b"(" + integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
    raw = pickle.BINSTRING + struct.pack("<i", pixels.nbytes) + pixels.tobytes()
    shape = integer(pixels.shape[0]) + integer(pixels.shape[1]) + b"\x86"
    array += b"(" + integer(1) + shape + dtype + pickle.NEWFALSE + raw + b"tb"
    names = b"](" + b"".join(text(b"name.png") for _ in labels) + b"e"
    items = text(b"labels") + b"](" + b"".join(map(integer, labels)) + b"e" + text(b"data") + array
    return b"\x80\x02}(" + items + text(b"filenames") + names + b"u."


def cifar_batches(num: int = 10) -> list[tuple[list[int], np.ndarray]]:
    return [([(i + b) % 10 for i in range(num)], noise(num, 3072, seed=b)) for b in range(6)]


def cifar_python_files() -> dict[str, bytes]:
    files = (python2_pickle(*batch) for batch in cifar_batches())
    return {f"cifar-10-batches-py/{name}": raw for name, raw in zip(BATCH_NAMES, files, strict=True)}


def cifar_binary_files() -> dict[str, bytes]:
    files = {}
    for name, (labels, pixels) in zip(BATCH_NAMES, cifar_batches(), strict=True):
        records = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1)
        files[f"cifar-10-batches-bin/{name}.bin"] = records.tobytes()
    return files


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, raw in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))


def write_folder(root: Path, files: dict[str, bytes]) -> None:
    for name, raw in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(raw)


def encoded(pixels_HWC: np.ndarray, form: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels_HWC).save(stream, form, quality=75)
    return stream.getvalue()


def packed_arrays(broken: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    jpegs = [encoded(noise(32, 32, 3, seed=i), "JPEG") for i in range(60)]
    header = jpegs[0][: jpegs[0].index(b"\xff\xda") + 14]  # to the end of the start-of-scan segment
    assert all(jpeg.startswith(header) for jpeg in jpegs)
    rests = [jpeg[len(header) : len(header) + 9 if i in broken else None] for i, jpeg in enumerate(jpegs)]
    return {
        "header": np.frombuffer(header, np.uint8),
        "blob": np.frombuffer(b"".join(rests), np.uint8),
        "offsets": np.cumsum([0, *map(len, rests)]).astype(np.uint32),
        "label": (np.arange(60) % 10).astype(np.uint8),
        "is_test": (np.arange(60) >= 50).astype(np.uint8),
    }


def write_packed(root: Path, **changed: np.ndarray) -> Path:
    path = root / "cifar10" / "cifar10_jpegq75_packed.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **(packed_arrays() | changed))  # type: ignore[arg-type]
    return path


def write_images(root: Path, classes: tuple[str, ...] = ("ant", "bee"), num: int = 4) -> None:
    files = {f"{c}/{i}.png": encoded(noise(24, 36, 3, seed=i), "PNG") for c in classes for i in range(num)}
    write_folder(root, files)


CIFAR_WRITERS: dict[str, Callable[[Path], None]] = {
    "python folder": lambda root: write_folder(root, cifar_python_files()),
    "python archive": lambda root: write_tar(root / "cifar-10-python.tar.gz", cifar_python_files()),
    "binary folder": lambda root: write_folder(root, cifar_binary_files()),
    "binary archive": lambda root: write_tar(root / "cifar-10-binary.tar.gz", cifar_binary_files()),
}
