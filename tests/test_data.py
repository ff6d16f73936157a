"""Data: every format read whole or refused, splits disjoint and stratified, batches a function of their seeds."""

import gzip
import io
import os
import pickle
import random
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pydantic import ValidationError

from search_spaces.errors import InvalidInputError
from trainers.cifar10 import read_cifar10
from trainers.data import SOURCES, DataConfig, ImageData, Shares, Split, load_data, make_splits
from trainers.data_sources import (
    DataError,
    ImageSet,
    Subset,
    read_digits,
    read_fashion_mnist,
    read_image_folder,
)

REPOSITORY = Path(__file__).parent.parent
REAL = Path(os.environ.get("ESPALIER_DATA", REPOSITORY.parent / "shared" / "data"))
SHARES = Shares(weights=0.5, architecture=0.25, validation=0.25, test=0.2)
PARTS: tuple[Split, ...] = ("weights", "architecture", "validation", "test")
BATCH_NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def real(*parts: str) -> Path:
    if not REAL.joinpath(*parts).exists():
        pytest.skip(f"{'/'.join(parts)} is not in the data folder; set ESPALIER_DATA to one that holds it")
    return REAL


# Files as their publishers write them, small.


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_idx(folder: Path, *, packed: bool = True, num_train: int = 20, num_labels: int = 20, top: int = 9) -> None:
    folder.mkdir(exist_ok=True)

    def write(name: str, array: np.ndarray) -> None:
        raw = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(raw) if packed else raw)

    labels = (np.arange(num_labels) % 10).astype(np.uint8)
    labels[9] = top
    write("train-images-idx3-ubyte", noise(num_train, 6, 5))
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


# Reading: what is there comes out.


def test_digits_are_sklearns_levels_scaled_to_bytes() -> None:
    from sklearn.datasets import load_digits

    digits, image_set = load_digits(), read_digits()
    assert image_set.images.shape == (1797, 1, 8, 8)
    assert image_set.labels.tolist() == digits.target.tolist()
    # 0..16 times 255 / 16 = 15.9375, each rounded; the halves at 4, 12 do not occur (63.75, 191.25), 8 gives 127.5.
    levels = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    assert image_set.images[:, 0].tolist() == [[[levels[int(v)] for v in row] for row in im] for im in digits.images]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", [".", "fashion-mnist"])
def test_fashion_mnist_comes_out_as_written(tmp_path: Path, packed: bool, place: str) -> None:
    write_idx(tmp_path / place, packed=packed)
    image_set = read_fashion_mnist(tmp_path)
    written = np.concatenate([noise(20, 6, 5), noise(10, 6, 5, seed=1)])[:, None]
    assert np.array_equal(image_set.images.numpy(), written)
    assert image_set.labels.tolist() == [*range(10), *range(10), *range(10)]
    assert image_set.is_test is not None and image_set.is_test.tolist() == [False] * 20 + [True] * 10


def test_the_pickle_written_here_is_one_that_numpy_reads() -> None:
    labels, pixels = cifar_batches()[0]
    batch = pickle.loads(python2_pickle(labels, pixels), encoding="bytes")
    assert batch[b"labels"] == labels and np.array_equal(batch[b"data"], pixels) and batch[b"data"].dtype == np.uint8


CIFAR_WRITERS: dict[str, Callable[[Path], None]] = {
    "python folder": lambda root: write_folder(root, cifar_python_files()),
    "python archive": lambda root: write_tar(root / "cifar-10-python.tar.gz", cifar_python_files()),
    "binary folder": lambda root: write_folder(root, cifar_binary_files()),
    "binary archive": lambda root: write_tar(root / "cifar-10-binary.tar.gz", cifar_binary_files()),
}


@pytest.mark.parametrize("place", [".", "cifar10"])
@pytest.mark.parametrize("kind", CIFAR_WRITERS)
def test_cifar10_comes_out_as_written(tmp_path: Path, kind: str, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    CIFAR_WRITERS[kind](tmp_path / place)
    image_set = read_cifar10(tmp_path)
    written = np.concatenate([pixels for _, pixels in cifar_batches()]).reshape(60, 3, 32, 32)
    assert np.array_equal(image_set.images.numpy(), written)
    assert image_set.labels.tolist() == [label for labels, _ in cifar_batches() for label in labels]
    assert image_set.is_test is not None and image_set.is_test.nonzero().squeeze(1).tolist() == list(range(50, 60))


def test_packed_cifar10_is_what_pillow_decodes(tmp_path: Path) -> None:
    write_packed(tmp_path)
    image_set = read_cifar10(tmp_path)
    for i in (0, 31, 59):
        jpeg = Image.open(io.BytesIO(encoded(noise(32, 32, 3, seed=i), "JPEG")))
        assert np.array_equal(image_set.images[i].permute(1, 2, 0).numpy(), np.asarray(jpeg))


def test_packed_cifar10_decodes_no_image_outside_the_limit(tmp_path: Path) -> None:
    subset, sound = Subset(train=20, test=10), packed_arrays()
    kept = subset.indices(torch.from_numpy(sound["label"]).long(), torch.arange(60) >= 50).tolist()
    write_packed(tmp_path, **packed_arrays(broken=tuple(set(range(60)) - set(kept))))
    assert len(read_cifar10(tmp_path, subset=subset).images) == 30
    with pytest.raises(DataError, match=r"image \d+ cannot be read"):
        read_cifar10(tmp_path)


def test_image_folder_is_scaled_and_cropped_at_the_centre(tmp_path: Path) -> None:
    # 8 x 16: 3 columns of red, 10 of green, 3 of blue. The centre square of 8, and what its filter reaches, is green.
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, :3, 0], wide[:, 3:13, 1], wide[:, 13:, 2] = 255, 255, 255
    write_folder(tmp_path, {"b/1.PNG": encoded(wide, "PNG"), "a/1.png": encoded(255 - wide, "PNG"), "b/note.txt": b"-"})
    image_set = read_image_folder(tmp_path, image_size=(4, 4))
    assert image_set.labels.tolist() == [0, 1] and image_set.is_test is None
    assert image_set.images[1].float().mean(dim=(1, 2)).tolist() == [0, 255, 0]
    assert image_set.images[0].float().mean(dim=(1, 2)).tolist() == [255, 0, 255]


def test_image_folder_takes_its_test_part_from_the_test_folder(tmp_path: Path) -> None:
    write_images(tmp_path / "train", num=3)
    write_images(tmp_path / "test", classes=("bee",), num=2)
    image_set = read_image_folder(tmp_path, image_size=(8, 8))
    assert image_set.labels.tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert image_set.is_test is not None and image_set.is_test.tolist() == [False] * 6 + [True] * 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_image_folder_reads_8_bit_pixels_of_any_mode_as_rgb(tmp_path: Path, mode: str) -> None:
    write_images(tmp_path)
    Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode).save(tmp_path / "ant" / "0.png")
    assert read_image_folder(tmp_path, image_size=(8, 8)).images[0].eq(255).all()


# Reading: what is not whole is refused.

CUTS = (0.0, 0.001, 0.2, 0.5, 0.8, 0.99)


def cut(path: Path, fraction: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(fraction * len(raw))])


@pytest.mark.parametrize("fraction", [*CUTS, 0.999999])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_truncated_idx_file_is_refused_by_name(tmp_path: Path, name: str, packed: bool, fraction: float) -> None:
    write_idx(tmp_path, packed=packed)
    path = tmp_path / (name + ".gz" * packed)
    cut(path, fraction)
    with pytest.raises(DataError, match=path.name):
        read_fashion_mnist(tmp_path)


@pytest.mark.parametrize("fraction", [*CUTS, 0.999999])
@pytest.mark.parametrize("kind", ["python archive", "binary archive"])
def test_a_truncated_cifar10_archive_is_refused_by_name(tmp_path: Path, kind: str, fraction: float) -> None:
    CIFAR_WRITERS[kind](tmp_path)
    (path,) = tmp_path.iterdir()
    cut(path, fraction)
    with pytest.raises(DataError, match=path.name):
        read_cifar10(tmp_path)


@pytest.mark.parametrize("fraction", [*CUTS, 0.9, 0.999999])
@pytest.mark.parametrize("kind", ["python folder", "binary folder"])
@pytest.mark.parametrize("batch", ["data_batch_3", "test_batch"])
def test_a_truncated_cifar10_batch_is_refused(tmp_path: Path, kind: str, batch: str, fraction: float) -> None:
    CIFAR_WRITERS[kind](tmp_path)  # 0.9 of ten binary records ends at a record
    (path,) = tmp_path.glob(f"*/{batch}*")
    cut(path, fraction)
    with pytest.raises(DataError, match="batch"):
        read_cifar10(tmp_path)


@pytest.mark.parametrize("fraction", [*CUTS, 0.999999])
def test_a_truncated_packed_file_is_refused_by_name(tmp_path: Path, fraction: float) -> None:
    path = write_packed(tmp_path)
    cut(path, fraction)
    with pytest.raises(DataError, match=path.name):
        read_cifar10(tmp_path)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("form", ["png", "jpg"])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, form: str, fraction: float) -> None:
    write_images(tmp_path)
    path = tmp_path / "bee" / f"broken.{form}"
    path.write_bytes(encoded(noise(40, 40, 3), "PNG" if form == "png" else "JPEG"))
    cut(path, fraction)
    with pytest.raises(DataError, match=path.name):
        read_image_folder(tmp_path, image_size=(8, 8))


CHECKED: dict[str, tuple[Callable[[Path], object], Callable[[Path], ImageSet]]] = {
    "idx": (write_idx, read_fashion_mnist),
    "archive": (CIFAR_WRITERS["binary archive"], read_cifar10),
    "packed": (write_packed, read_cifar10),
}


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", CHECKED)
def test_a_flipped_byte_in_a_checksummed_file_is_refused(tmp_path: Path, kind: str, place: float) -> None:
    write, read = CHECKED[kind]
    write(tmp_path)
    path = max((p for p in tmp_path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    raw = bytearray(path.read_bytes())
    raw[int(place * len(raw))] ^= 0x55
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError):
        read(tmp_path)


class Reduced:
    """Pickles as a call of `function`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def calling_pickles(marker: Path) -> Iterator[bytes]:
    """Pickles that make the folder `marker` when loaded without restriction."""
    make = f"__import__('os').mkdir({str(marker)!r})"
    for protocol in (0, 2, 4):
        for call in (Reduced(os.mkdir, str(marker)), Reduced(exec, make), Reduced(eval, make)):
            yield pickle.dumps(call, protocol)
            yield pickle.dumps({b"labels": [0], b"data": call}, protocol)
    yield b"cos\nsystem\n(S\"mkdir '" + bytes(marker) + b"'\"\ntR."
    yield b"(S\"mkdir '" + bytes(marker) + b"'\"\nios\nsystem\n."


def roundabout_pickles(marker: Path) -> Iterator[bytes]:
    """A sound batch with a call beside it; then by way of the allowed names, their attributes and setting these."""
    yield python2_pickle(*cifar_batches()[1])[:-2] + b"U\x01xcos\nmkdir\n(S'" + bytes(marker) + b"'\ntRu."
    yield b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93."
    yield b"cnumpy\nndarray\n}S'__init__'\ncos\nsystem\nsb."
    yield b"cnumpy\nndarray\n}S'__init__'\ncnumpy\ndtype\nsb."
    yield b"cnumpy\nndarray\n(N}S'__setstate__'\ncnumpy\ndtype\nstb."


def test_a_hostile_pickle_in_the_cifar10_archive_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for number, raw in enumerate([*calling_pickles(marker), *roundabout_pickles(marker)]):
        root = tmp_path / str(number)
        root.mkdir()
        write_tar(root / "cifar-10-python.tar.gz", cifar_python_files() | {"cifar-10-batches-py/data_batch_2": raw})
        with pytest.raises(DataError, match="data_batch_2"):
            read_cifar10(root)
        assert not marker.exists()
    root = tmp_path / "sound"
    root.mkdir()
    CIFAR_WRITERS["python archive"](root)
    assert len(read_cifar10(root).images) == 60  # nothing was changed for the next reader either


def test_the_hostile_pickles_do_run_where_nothing_restricts_them(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for raw in calling_pickles(marker):
        pickle.loads(raw)
        marker.rmdir()


def test_randomly_damaged_pickles_give_data_errors_or_whole_batches(tmp_path: Path) -> None:
    write_folder(tmp_path, cifar_python_files())
    path, rng = tmp_path / "cifar-10-batches-py" / "data_batch_1", random.Random(0)
    sound = path.read_bytes()
    structure = [i for i in range(len(sound)) if i < 250 or i > len(sound) - 250]
    refused = 0
    for _ in range(60):
        raw = bytearray(sound)
        raw[rng.choice(structure)] = rng.randrange(0x50)  # opcodes that ask for gigabytes lie above
        path.write_bytes(bytes(raw))
        try:
            assert len(read_cifar10(tmp_path).images) == 60
        except DataError:
            refused += 1
    assert refused > 10


def test_wrong_labels_counts_and_magic_are_refused_with_their_values(tmp_path: Path) -> None:
    write_idx(tmp_path, top=10)
    with pytest.raises(DataError, match=r"1 labels out of range, first 10; allowed: 0\.\.9"):
        read_fashion_mnist(tmp_path)
    write_idx(tmp_path, num_labels=19)
    with pytest.raises(DataError, match="20 images and 19 labels"):
        read_fashion_mnist(tmp_path)
    write_idx(tmp_path, num_train=9, num_labels=10)
    with pytest.raises(DataError, match="9 images and 10 labels"):
        read_fashion_mnist(tmp_path)
    write_idx(tmp_path, num_train=10, num_labels=10, top=0)
    with pytest.raises(DataError, match=r"classes \[9\] of 10 have no training image"):
        read_fashion_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes((tmp_path / "train-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(DataError, match="no IDX file of 3 axes"):
        read_fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": np.full(60, -1, np.int64)}, "60 labels out of range, first -1"),
        ({"label": np.zeros(59, np.uint8)}, "59 labels"),
        ({"is_test": np.zeros(61, np.uint8)}, "61 test marks"),
        ({"offsets": np.arange(61, dtype=np.uint32)}, "offsets must rise"),
        ({"offsets": np.arange(61)[::-1]}, "offsets must rise"),
        ({"offsets": packed_arrays()["offsets"][[0, 2, 1, *range(3, 61)]]}, "offsets must rise"),
        ({"label": np.zeros(60)}, "label is float64"),
        ({"label": np.array([object()] * 60)}, "cannot be read whole"),
        ({"header": np.zeros(9, np.uint8)}, "image 0 cannot be read"),
    ],
)
def test_inconsistent_packed_arrays_are_refused(tmp_path: Path, changed: dict[str, np.ndarray], message: str) -> None:
    write_packed(tmp_path, **changed)
    with pytest.raises(DataError, match=message):
        read_cifar10(tmp_path)


def test_a_python_batch_with_more_labels_than_images_is_refused(tmp_path: Path) -> None:
    files = cifar_python_files()
    files["cifar-10-batches-py/data_batch_4"] = python2_pickle([1] * 11, noise(10, 3072))
    write_folder(tmp_path, files)
    with pytest.raises(DataError, match=r"data_batch_4.*for 11 labels"):
        read_cifar10(tmp_path)


@pytest.mark.parametrize("packed", [True, False])
def test_bytes_after_the_idx_data_are_refused(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, packed=packed)
    path = tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed)
    with path.open("ab") as stream:
        stream.write(gzip.compress(b"!") if packed else b"!")
    with pytest.raises(DataError, match=r"301 bytes of data, its header says \(10, 6, 5\)"):
        read_fashion_mnist(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for read in (read_fashion_mnist, read_cifar10):
        with pytest.raises(DataError, match="nowhere does not exist"):
            read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="does not exist"):
        read_image_folder(tmp_path / "nowhere", image_size=(8, 8))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        read_fashion_mnist(tmp_path)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
        read_cifar10(tmp_path)
    with pytest.raises(DataError, match="needs two or more"):
        read_image_folder(tmp_path, image_size=(8, 8))
    write_images(tmp_path)
    (tmp_path / "cow").mkdir()
    with pytest.raises(DataError, match=r"classes \['cow'\] hold no"):
        read_image_folder(tmp_path, image_size=(8, 8))


def test_an_archive_that_lacks_a_batch_names_it(tmp_path: Path) -> None:
    files = cifar_binary_files()
    del files["cifar-10-batches-bin/data_batch_5.bin"]
    write_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    with pytest.raises(DataError, match=r"lacks \['cifar-10-batches-bin/data_batch_5.bin'\]"):
        read_cifar10(tmp_path)


def test_a_test_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", classes=("ant", "wasp"))
    with pytest.raises(DataError, match=r"\['wasp'\]"):
        read_image_folder(tmp_path, image_size=(8, 8))


def test_a_16_bit_image_is_refused_and_not_clipped(tmp_path: Path) -> None:
    write_images(tmp_path)
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(tmp_path / "ant" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png.*8 bits"):
        read_image_folder(tmp_path, image_size=(8, 8))


# Subsets and splits.


def plain_set(
    counts: tuple[int, ...], *, channels: int = 1, side: int = 6, is_test: torch.Tensor | None = None
) -> ImageSet:
    """Image i is grey at level i + 1 all over, so that it can be told after any shift."""
    labels = torch.tensor([label for label, num in enumerate(counts) for _ in range(num)])
    images = torch.arange(1, len(labels) + 1, dtype=torch.uint8)[:, None, None, None]
    return ImageSet("plain", images.repeat(1, channels, side, side), labels, len(counts), is_test, "made here")


def test_a_limit_takes_equally_many_of_each_class_and_grows_by_adding() -> None:
    labels, is_test = torch.arange(400) % 4, torch.arange(400) >= 300
    small = Subset(train=40, test=12, seed=3).indices(labels, is_test)
    large = Subset(train=80, test=40, seed=3).indices(labels, is_test)
    assert labels[small[small < 300]].bincount().tolist() == [10] * 4
    assert labels[small[small >= 300]].bincount().tolist() == [3] * 4
    assert set(small.tolist()) < set(large.tolist())
    assert small.tolist() != Subset(train=40, test=12, seed=4).indices(labels, is_test).tolist()


def test_a_limit_on_tests_of_a_set_without_them_is_refused() -> None:
    with pytest.raises(DataError, match="limit_test=5"):
        read_digits(subset=Subset(test=5))


def test_splits_are_disjoint_complete_and_stratified() -> None:
    splits = make_splits(plain_set((40, 80, 20)), SHARES, seed=0)
    labels = plain_set((40, 80, 20)).labels
    # Of 40: 0.2 for tests, 8; of the other 32 a half and two quarters, 16, 8, 8.
    expected = {"weights": [16, 32, 8], "architecture": [8, 16, 4], "validation": [8, 16, 4], "test": [8, 16, 4]}
    parts = {name: getattr(splits, name) for name in PARTS}
    assert {name: labels[part].bincount().tolist() for name, part in parts.items()} == expected
    assert torch.cat(list(parts.values())).sort().values.tolist() == list(range(140))


def test_a_sets_own_test_part_is_the_test_split() -> None:
    is_test = torch.zeros(48, dtype=torch.bool)
    is_test[[0, 7, 30]] = True
    splits = make_splits(plain_set((24, 24), is_test=is_test), SHARES, seed=0)
    assert splits.test.tolist() == [0, 7, 30]


def test_the_hash_follows_seed_pixels_labels_and_nothing_else() -> None:
    image_set = plain_set((20, 20))
    torch.manual_seed(1)
    first = make_splits(image_set, SHARES, seed=5).hash
    torch.manual_seed(2)
    assert make_splits(plain_set((20, 20)), SHARES, seed=5).hash == first
    hashes = {first, make_splits(image_set, SHARES, seed=6).hash}
    image_set.images[3, 0, 0, 0] += 1
    hashes.add(make_splits(image_set, SHARES, seed=5).hash)
    image_set = plain_set((20, 20))
    image_set.labels[[0, 39]] = image_set.labels[[39, 0]]
    hashes.add(make_splits(image_set, SHARES, seed=5).hash)
    assert len(hashes) == 4
    assert image_set.digest() != plain_set((20, 20)).digest()


def test_too_few_images_for_the_splits_are_refused() -> None:
    with pytest.raises(DataError, match=r"too few for the splits: architecture gets 0.*\[0, 1\].*raise limit"):
        make_splits(plain_set((2, 2)), SHARES, seed=0)
    with pytest.raises(DataError, match=r"shares\.test is null"):
        make_splits(plain_set((40, 40)), SHARES.model_copy(update={"test": None}), seed=0)
    with pytest.raises(DataError, match="test gets 0"):
        make_splits(plain_set((40, 40), is_test=torch.zeros(80, dtype=torch.bool)), SHARES, seed=0)


# Batches.


def plain_data(*, shift: int = 0, flip: bool = False, channels: int = 3) -> ImageData:
    image_set = plain_set((80, 80))
    splits = make_splits(image_set, SHARES, seed=0)
    return ImageData(image_set, splits, image_size=(6, 6), channels=channels, shift=shift, flip=flip)


def levels(data: ImageData, images: torch.Tensor) -> torch.Tensor:
    """Bytes (B, channels, H, W) again, of a normalised batch."""
    pixels = images.permute(0, 2, 3, 1) * data.std + data.mean
    assert pixels.mul(255).sub(pixels.mul(255).round()).abs().max() < 1e-3  # float32 of values below 256
    return pixels.mul(255).round().long().permute(0, 3, 1, 2)


def order(
    data: ImageData, *, split: Split = "weights", seed: int = 0, epoch: int = 0, augment: bool = True
) -> list[int]:
    batches = data.batches(split, batch_size=8, seed=seed, epoch=epoch, augment=augment)
    return [int(v) for images, _ in batches for v in levels(data, images).amax(dim=(1, 2, 3))]


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    data = plain_data()
    torch.manual_seed(1)
    first = order(data)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert order(plain_data()) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(first), tuple(order(data, epoch=1)), tuple(order(data, seed=1))}) == 3
    assert sorted(order(data, epoch=1)) == sorted(first) == (data.splits.weights + 1).tolist()


def test_augmented_batches_keep_label_pairs_dtype_range_and_layout() -> None:
    data = plain_data(shift=2, flip=True)
    for images, labels in data.batches("weights", batch_size=16, seed=0, epoch=0, augment=True):
        assert images.dtype == torch.float32 and labels.dtype == torch.int64 and images.shape == (16, 3, 6, 6)
        assert images.is_contiguous(memory_format=torch.channels_last)
        found = levels(data, images)
        level_B = found.amax(dim=(1, 2, 3))
        assert labels.tolist() == (level_B > 80).long().tolist()  # images 1..80 are of class 0
        assert ((found == 0) | (found == level_B[:, None, None, None])).all()
        assert (found == level_B[:, None, None, None]).flatten(1).sum(1).min() >= 3 * 4 * 4  # 6 less a shift of 2


def one_pixel_data(*, shift: int, flip: bool) -> ImageData:
    """Images of 7 x 7, black but for row 3, column 2."""
    image_set = plain_set((500, 500), side=7)
    image_set.images.zero_()
    image_set.images[:, :, 3, 2] = 255
    splits = make_splits(image_set, SHARES, seed=0)
    return ImageData(image_set, splits, image_size=(7, 7), channels=1, shift=shift, flip=flip)


def pixel_places(data: ImageData, *, augment: bool = True) -> set[tuple[int, int]]:
    ((images, _),) = data.batches("weights", batch_size=400, seed=0, epoch=0, augment=augment)
    places = (images[:, 0] > 0).nonzero()
    assert places[:, 0].tolist() == list(range(400))
    return {(row, column) for _, row, column in places.tolist()}


def test_shifts_reach_every_offset_and_mirroring_only_where_asked() -> None:
    assert pixel_places(one_pixel_data(shift=1, flip=False)) == {(r, c) for r in (2, 3, 4) for c in (1, 2, 3)}
    assert pixel_places(one_pixel_data(shift=0, flip=True)) == {(3, 2), (3, 4)}
    assert pixel_places(one_pixel_data(shift=0, flip=False)) == {(3, 2)}
    assert pixel_places(one_pixel_data(shift=1, flip=True), augment=False) == {(3, 2)}


def test_augmentation_is_a_function_of_seed_epoch_and_batch() -> None:
    data = one_pixel_data(shift=3, flip=True)

    def moves(seed: int, epoch: int) -> list[str]:
        batches = data.batches("weights", batch_size=100, seed=seed, epoch=epoch, augment=True)
        return [str((images[:, 0] > 0).nonzero().tolist()) for images, _ in batches]

    assert moves(0, 0) == moves(0, 0)
    assert len({*moves(0, 0), *moves(0, 1), *moves(1, 0)}) == 12


def test_training_drops_the_incomplete_batch_and_evaluation_keeps_it() -> None:
    data = plain_data()  # 64 images of weights, 32 of validation
    assert [len(y) for _, y in data.batches("weights", batch_size=30, seed=0, epoch=0, augment=True)] == [30, 30]
    assert [len(y) for _, y in data.batches("weights", batch_size=30, seed=0, epoch=0, augment=False)] == [30, 30, 4]
    assert [len(y) for _, y in data.batches("validation", batch_size=99, seed=0, epoch=0, augment=False)] == [32]


def test_batches_of_the_weights_split_have_mean_0_and_deviation_1() -> None:
    digits = read_digits()
    data = ImageData(digits, make_splits(digits, SHARES, seed=0), image_size=(8, 8), channels=3)
    images = torch.cat([x for x, _ in data.batches("weights", batch_size=100, seed=0, epoch=0, augment=False)])
    assert images.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (images.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    assert torch.equal(images[:, 0], images[:, 2])


def test_images_are_resized_as_pillow_does() -> None:
    digits = read_digits(subset=Subset(train=200))
    data = ImageData(digits, make_splits(digits, SHARES, seed=0), image_size=(12, 16), channels=1)
    ((images, _),) = data.batches("test", batch_size=99, seed=0, epoch=0, augment=False)
    resized = [Image.fromarray(im.numpy()).resize((16, 12), Image.Resampling.BILINEAR) for im in digits.images[:, 0]]
    known = {np.asarray(im).astype(int).tobytes() for im in resized}
    near = torch.tensor(np.stack([np.asarray(im).astype(int) for im in resized]))
    for found in levels(data, images)[:, 0]:
        assert (near - found).abs().amax(dim=(1, 2)).min() <= 1  # rounding of one level; digits differ by far more
    assert len(known) == 200


def test_a_batch_larger_than_its_split_and_unknown_splits_are_refused() -> None:
    data = plain_data()
    with pytest.raises(InvalidInputError, match=r"1\.\.64.*weights, got 65"):
        data.batches("weights", batch_size=65, seed=0, epoch=0, augment=True)
    with pytest.raises(InvalidInputError, match=r"1\.\.32.*architecture, got 33"):
        data.loader(batch_size=33, seed=0, epoch=lambda: 0)
    with pytest.raises(InvalidInputError, match="unknown split 'hash'; allowed: weights, architecture"):
        data.batches("hash", batch_size=1, seed=0, epoch=0, augment=False)  # type: ignore[arg-type]
    coloured = plain_set((40, 40), channels=3)
    splits = make_splits(coloured, SHARES, seed=0)
    with pytest.raises(InvalidInputError, match="has 3 channels, cannot give 1"):
        ImageData(coloured, splits, image_size=(6, 6), channels=1)


def test_blank_images_are_refused() -> None:
    image_set = plain_set((40, 40))
    image_set.images.fill_(7)
    with pytest.raises(DataError, match="one value only"):
        ImageData(image_set, make_splits(image_set, SHARES, seed=0), image_size=(6, 6), channels=1)


def test_the_loader_pairs_a_weights_pass_with_architecture_passes_in_new_orders() -> None:
    data, epoch = plain_data(shift=1), 0
    loader = data.loader(batch_size=16, seed=4, epoch=lambda: epoch)
    state = torch.get_rng_state()
    pairs = list(loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(loader) == len(pairs) == 4  # 64 images of weights, and twice the 32 of architecture
    direct = data.batches("weights", batch_size=16, seed=4, epoch=0, augment=True)
    for ((images, labels), _), (expected_images, expected_labels) in zip(pairs, direct, strict=True):
        assert torch.equal(images, expected_images) and torch.equal(labels, expected_labels)
    seen = [levels(data, images).amax(dim=(1, 2, 3)).tolist() for _, (images, _) in pairs]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == (data.splits.architecture + 1).tolist()
    assert seen[0] + seen[1] != seen[2] + seen[3]
    again = list(loader)
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(pairs, again, strict=True))
    epoch = 1
    assert not torch.equal(next(iter(loader))[0][0], pairs[0][0][0])


# Configuration.


def config_values(path: Path) -> dict[str, object]:
    values = yaml.safe_load(path.read_text())
    return values | {"root": REAL} if "root" in values else values


def test_every_data_set_has_one_yaml_file_that_is_valid() -> None:
    files = sorted((REPOSITORY / "conf" / "data").glob("*.yaml"))
    assert sorted(SOURCES) == [path.stem for path in files]
    for path in files:
        assert path.read_text().startswith("# @package data\n")
        assert DataConfig.model_validate(config_values(path)).name == path.stem


def test_digits_are_never_mirrored() -> None:
    assert config_values(REPOSITORY / "conf" / "data" / "digits.yaml")["flip"] is False


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "mnist"}, "unknown data set 'mnist'; allowed: digits, fashion_mnist, cifar10, image_folder"),
        ({"name": "cifar10"}, "give root"),
        ({"image_size": [16, 2]}, "greater than or equal to 4"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"shift": 8}, "below half the image size"),
        ({"flips": True}, "Extra inputs"),
        ({"shares": {"weights": 0.5, "architecture": 0.3, "validation": 0.3}}, r"must be 1, got 1\.1"),
        ({"shares": {"weights": 1.0, "architecture": 0.0, "validation": 0.0}}, "less than 1"),
    ],
)
def test_wrong_configuration_is_refused_with_what_is_allowed(changed: dict[str, object], message: str) -> None:
    values = config_values(REPOSITORY / "conf" / "data" / "digits.yaml")
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(values | changed)


def load(name: str, **changed: object) -> ImageData:
    values = config_values(REPOSITORY / "conf" / "data" / f"{name}.yaml")
    return load_data(DataConfig.model_validate(values | changed), channels=3)


def test_digits_load_by_their_yaml() -> None:
    data = load("digits")
    # Per class of 174..183 images every part is within one of its share: ten classes, ten images at most.
    assert data.num_classes == 10 and sum(data.size(part) for part in PARTS) == 1797
    assert abs(data.size("test") - 359.4) <= 10 and abs(data.size("weights") - 718.8) <= 10


def test_image_folders_load_by_their_yaml(tmp_path: Path) -> None:
    write_images(tmp_path, num=20)
    data = load("image_folder", root=tmp_path)
    assert (data.num_classes, data.image_size, data.size("test")) == (2, (32, 32), 8)


def test_fashion_mnist_loads_by_its_yaml() -> None:
    real("fashion-mnist")
    data = load("fashion_mnist", limit=2000, limit_test=100)
    assert [data.size(part) for part in PARTS] == [1000, 500, 500, 100]
    # Published: mean 0.2860, deviation 0.3530 of 60,000; 1,000 images' mean scatters by about 0.005.
    assert abs(data.mean[0] - 0.2860) < 0.02 and abs(data.std[0] - 0.3530) < 0.02


def test_real_cifar10_loads_by_its_yaml_and_is_what_pillow_decodes() -> None:
    root = real("cifar10", "cifar10_jpegq75_packed.npz")
    assert load("cifar10", limit=400, limit_test=100).size("test") == 100
    packed = np.load(root / "cifar10" / "cifar10_jpegq75_packed.npz")
    header, blob, ends = packed["header"].tobytes(), packed["blob"].tobytes(), packed["offsets"]
    subset = Subset(train=20, test=10)
    indices = subset.indices(torch.from_numpy(packed["label"]).long(), torch.from_numpy(packed["is_test"]).bool())
    image_set = read_cifar10(root, subset=subset)
    assert image_set.labels.tolist() == packed["label"][indices].tolist()
    for image, i in zip(image_set.images, indices.tolist(), strict=True):
        jpeg = Image.open(io.BytesIO(header + blob[ends[i] : ends[i + 1]])).convert("RGB")
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(jpeg))
