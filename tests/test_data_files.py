"""Data sets are read as they were written, and load by their YAML files."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from data_files import (
    CIFAR_WRITERS,
    PARTS,
    REAL,
    REPOSITORY,
    cifar_batches,
    cifar_binary_files,
    encoded,
    noise,
    packed_arrays,
    python2_pickle,
    real,
    write_folder,
    write_idx,
    write_images,
    write_packed,
)
from PIL import Image
from pydantic import ValidationError

from trainers.data.cifar10 import read_cifar10
from trainers.data.datasets import DataConfig, ImageData, load_data, read_images
from trainers.data.image_folder import read_image_folder
from trainers.data.image_set import DATASETS, DataError, ImageSet, Subset
from trainers.data.readers import read_digits, read_fashion_mnist

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


# Configuration.


def config_values(path: Path) -> dict[str, object]:
    values = yaml.safe_load(path.read_text())
    return values | {"root": REAL} if "root" in values else values


def test_every_data_set_has_one_yaml_file_that_is_valid() -> None:
    files = sorted((REPOSITORY / "conf" / "data").glob("*.yaml"))
    assert list(DATASETS) == [path.stem for path in files]
    for path in files:
        assert path.read_text().startswith("# @package data\n")
        assert DataConfig.model_validate(config_values(path)).name == path.stem


def test_digits_are_never_mirrored() -> None:
    assert config_values(REPOSITORY / "conf" / "data" / "digits.yaml")["flip"] is False


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "mnist"}, "no 'mnist'; allowed: cifar10"),
        ({"name": "cifar10"}, "give root"),
        ({"name": "image_folder", "root": REAL, "image_size": None}, "give image_size"),
        ({"image_size": [16, 2]}, "greater than or equal to 4"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"shift": 10}, "below half the image size"),
        ({"flips": True}, "Extra inputs"),
        ({"shares": {"weights": 0.5, "architecture": 0.3, "validation": 0.3}}, r"must be 1, got 1\.1"),
        ({"shares": {"weights": 1.0, "architecture": 0.0, "validation": 0.0}}, "less than 1"),
    ],
)
def test_wrong_configuration_is_refused_with_what_is_allowed(changed: dict[str, object], message: str) -> None:
    values = config_values(REPOSITORY / "conf" / "data" / "digits.yaml")
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(values | changed)


def load(name: str, /, **changed: object) -> ImageData:
    values = config_values(REPOSITORY / "conf" / "data" / f"{name}.yaml")
    return load_data(DataConfig.model_validate(values | changed))


def test_a_set_of_another_module_is_given_what_its_function_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole() -> ImageSet:
        labels, is_test = torch.arange(60) % 2, torch.arange(60) >= 40
        images = torch.arange(60, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 6, 8)
        return ImageSet("own", images, labels, 2, is_test, "made here")

    def chosen(*, root: Path, image_size: tuple[int, int], subset: Subset) -> ImageSet:
        assert (root, list(image_size)) == (REAL, values["image_size"])
        return subset.of(whole())

    monkeypatch.setattr(DATASETS, "_registered", {})
    DATASETS.register("whole")(whole)
    DATASETS.register("chosen")(chosen)
    values = config_values(REPOSITORY / "conf" / "data" / "digits.yaml") | {"limit": 20, "limit_test": 10}
    first = read_images(DataConfig.model_validate(values | {"name": "whole"}))
    second = read_images(DataConfig.model_validate(values | {"name": "chosen", "root": REAL}))
    assert first.digest() == second.digest() and len(first.images) == 30
    data = load("digits", name="whole", image_size=None, shift=0)
    assert (data.image_size, data.size("test")) == ((6, 8), 20)


def test_an_image_set_of_floats_is_refused() -> None:
    with pytest.raises(DataError, match=r"images must be torch\.uint8"):
        ImageSet("own", torch.rand(4, 3, 8, 8), torch.arange(4), 4, None, "made here")


def test_classes_have_the_names_that_the_data_give(tmp_path: Path) -> None:
    write_images(tmp_path / "folder", classes=("class 10", "class 9"))
    write_idx(tmp_path / "fashion-mnist")
    write_folder(tmp_path, cifar_binary_files())
    assert read_image_folder(tmp_path / "folder", image_size=(8, 8)).classes == ("class 9", "class 10")
    assert read_digits().classes == tuple("0123456789")
    clothes, things = read_fashion_mnist(tmp_path), read_cifar10(tmp_path)
    assert (clothes.classes[0], clothes.classes[9], len(clothes.classes)) == ("T-shirt/top", "Ankle boot", 10)
    assert (things.classes[0], things.classes[9], len(things.classes)) == ("airplane", "truck", 10)


def test_an_image_set_names_each_class_once() -> None:
    images, labels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 2
    assert ImageSet("own", images, labels, 2, None, "made here").classes == ("0", "1")
    for classes in (("a",), ("a", "a"), ("a", "b", "c")):
        with pytest.raises(DataError):
            ImageSet("own", images, labels, 2, None, "made here", classes=classes)


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
