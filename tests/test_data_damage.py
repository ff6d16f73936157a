"""Data that is not whole, or not what it says, is refused by name; a pickle runs nothing."""

import gzip
import os
import pickle
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    CIFAR_WRITERS,
    cifar_batches,
    cifar_binary_files,
    cifar_python_files,
    encoded,
    noise,
    python2_pickle,
    write_folder,
    write_idx,
    write_images,
    write_packed,
    write_tar,
)

from trainers.data.cifar10 import read_cifar10
from trainers.data.image_folder import read_image_folder
from trainers.data.image_set import DataError, ImageSet
from trainers.data.readers import read_fashion_mnist

Read = Callable[[Path], object]


def read_images(root: Path) -> ImageSet:
    return read_image_folder(root, image_size=(8, 8))


def named_in_refusal(read: Read, root: Path, names: list[str]) -> list[str]:
    """Which of these names and numbers the error has."""
    with pytest.raises(DataError) as refused:
        read(root)
    return [name for name in names if name in str(refused.value)]


def write_image(form: str, root: Path) -> None:
    write_images(root)
    write_folder(root, {f"bee/broken.{form}": encoded(noise(40, 40, 3), "PNG" if form == "png" else "JPEG")})


FILES: dict[str, tuple[Read, str, Read]] = {  # how a set is written, which of its files is cut, how it is read
    "gzipped IDX": (write_idx, "train-images-idx3-ubyte.gz", read_fashion_mnist),
    "plain IDX": (partial(write_idx, packed=False), "t10k-labels-idx1-ubyte", read_fashion_mnist),
    "python archive": (CIFAR_WRITERS["python archive"], "cifar-10-python.tar.gz", read_cifar10),
    "binary archive": (CIFAR_WRITERS["binary archive"], "cifar-10-binary.tar.gz", read_cifar10),
    "python batch": (CIFAR_WRITERS["python folder"], "cifar-10-batches-py/data_batch_3", read_cifar10),
    "binary batch": (CIFAR_WRITERS["binary folder"], "cifar-10-batches-bin/test_batch.bin", read_cifar10),
    "packed file": (write_packed, "cifar10/cifar10_jpegq75_packed.npz", read_cifar10),
    "PNG": (partial(write_image, "png"), "bee/broken.png", read_images),
    "JPEG": (partial(write_image, "jpg"), "bee/broken.jpg", read_images),
}


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.9])  # 0.9 of ten binary records ends at a record
@pytest.mark.parametrize("kind", FILES)
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, kind: str, fraction: float) -> None:
    write, name, read = FILES[kind]
    write(tmp_path)
    raw = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(raw[: int(fraction * len(raw))])
    with pytest.raises(DataError, match="batch" if "batch" in kind else Path(name).name):
        read(tmp_path)


CHECKED: dict[str, tuple[Read, Read]] = {
    "idx": (write_idx, read_fashion_mnist),
    "archive": (CIFAR_WRITERS["binary archive"], read_cifar10),
    "packed": (write_packed, read_cifar10),
}


@pytest.mark.parametrize("place", [0.3, 0.9])
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


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"top": 10}, [" 10;"]),  # a label above 9
        ({"num_labels": 19}, ["20", "19"]),
        ({"num_train": 9, "num_labels": 10}, ["9", "10"]),
        ({"num_train": 10, "num_labels": 10, "top": 0}, ["['Ankle boot']"]),  # a class without an image
        ({"width": 7}, ["(6, 7)", "(6, 5)"]),  # images of two sizes
    ],
)
def test_wrong_labels_counts_and_sizes_are_refused_with_their_values(
    tmp_path: Path, changed: dict[str, int], named: list[str]
) -> None:
    write_idx(tmp_path, **changed)
    assert named_in_refusal(read_fashion_mnist, tmp_path, named) == named


def test_an_idx_file_of_another_shape_is_refused_by_its_name(tmp_path: Path) -> None:
    write_idx(tmp_path)
    name = "train-images-idx3-ubyte.gz"
    (tmp_path / name).write_bytes((tmp_path / "train-labels-idx1-ubyte.gz").read_bytes())
    assert named_in_refusal(read_fashion_mnist, tmp_path, [name]) == [name]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"label": np.full(60, -1, np.int64)}, "-1"),
        ({"label": np.zeros(59, np.uint8)}, "59"),
        ({"label": np.array([object()] * 60)}, "cifar10_jpegq75_packed.npz"),
        ({"header": np.zeros(9, np.uint8)}, "image 0"),
    ],
)
def test_inconsistent_packed_arrays_are_refused(tmp_path: Path, changed: dict[str, np.ndarray], named: str) -> None:
    write_packed(tmp_path, **changed)
    assert named_in_refusal(read_cifar10, tmp_path, [named]) == [named]


def test_a_python_batch_with_more_labels_than_images_is_refused(tmp_path: Path) -> None:
    files = cifar_python_files()
    files["cifar-10-batches-py/data_batch_4"] = python2_pickle([1] * 11, noise(10, 3072))
    write_folder(tmp_path, files)
    assert named_in_refusal(read_cifar10, tmp_path, ["data_batch_4", "11"]) == ["data_batch_4", "11"]


@pytest.mark.parametrize("packed", [True, False])
def test_bytes_after_the_idx_data_are_refused(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, packed=packed)
    path = tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed)
    with path.open("ab") as stream:
        stream.write(gzip.compress(b"!") if packed else b"!")
    named = [path.name, "301", "(10, 6, 5)"]  # the bytes that there are, and the shape that the header says
    assert named_in_refusal(read_fashion_mnist, tmp_path, named) == named


@pytest.mark.parametrize("read", [read_fashion_mnist, read_cifar10, read_images])
def test_a_folder_that_is_missing_is_named(tmp_path: Path, read: Read) -> None:
    assert named_in_refusal(read, tmp_path / "nowhere", ["nowhere", "paths.data"]) == ["nowhere", "paths.data"]


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (read_fashion_mnist, "train-images-idx3-ubyte.gz"),
        (read_cifar10, "cifar-10-python.tar.gz"),
        (read_images, "[]"),  # the classes that there are
    ],
)
def test_what_an_empty_folder_lacks_is_named(tmp_path: Path, read: Read, named: str) -> None:
    assert named_in_refusal(read, tmp_path, [named]) == [named]


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cow").mkdir()
    assert named_in_refusal(read_images, tmp_path, ["['cow']"]) == ["['cow']"]


def test_an_archive_that_lacks_a_batch_names_it(tmp_path: Path) -> None:
    files = cifar_binary_files()
    del files["cifar-10-batches-bin/data_batch_5.bin"]
    write_tar(tmp_path / "cifar-10-binary.tar.gz", files)
    named = ["['cifar-10-batches-bin/data_batch_5.bin']"]
    assert named_in_refusal(read_cifar10, tmp_path, named) == named


def test_a_test_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", classes=("ant", "wasp"))
    assert named_in_refusal(read_images, tmp_path, ["['wasp']"]) == ["['wasp']"]
