"""Folders of images as practitioners have them: each image reaches the network as a viewer shows it, or is counted."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import SHARES, noise
from PIL import Image

from trainers.data.image_folder import BESIDE, NO_CLASSES, NO_IMAGE, OUTSIDE, read_image_folder
from trainers.data.image_set import DataError, ImageSet
from trainers.data.splits import make_splits

SIDE = 12
CLASSES = ("left", "right")
THIRDS = slice(None, SIDE // 3), slice(-SIDE // 3, None)
LAYOUTS: dict[str, Callable[[Path], dict[str, int]]] = {}  # what writes each, and returns what is to be left out


def picture(name: str, seed: int = 0) -> Image.Image:
    """Noise with a bright third at the side that the class names."""
    pixels = noise(SIDE, SIDE, 3, seed=seed) // 4
    pixels[:, THIRDS[0 if name.startswith("left") else 1]] = 220
    return Image.fromarray(pixels)


def fill(root: Path, *, num: int = 12, classes: tuple[str, ...] = CLASSES, suffix: str = "png") -> None:
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(num):
            picture(name, number).save(root / name / f"{number:02d}.{suffix}")


def layout(write: Callable[[Path], dict[str, int]]) -> Callable[[Path], dict[str, int]]:
    LAYOUTS[write.__name__] = write
    return write


@layout
def classes_alone(root: Path) -> dict[str, int]:
    fill(root)
    return {}


@layout
def capitals_and_many_formats(root: Path) -> dict[str, int]:
    for suffix in ("png", "JPG", "jpeg", "bmp", "webp", "tif", "gif", "ppm"):
        fill(root, num=3, suffix=suffix)
    return {}


@layout
def train_and_val(root: Path) -> dict[str, int]:
    fill(root / "train")
    fill(root / "val", num=4)
    return {}


@layout
def train_valid_and_test(root: Path) -> dict[str, int]:
    fill(root / "train")
    fill(root / "valid", num=4)
    fill(root / "test", num=4)
    return {}


@layout
def a_test_folder_without_classes(root: Path) -> dict[str, int]:
    fill(root / "train")
    fill(root, num=3, classes=("test",))
    return {NO_CLASSES: 3}


@layout
def a_class_called_train(root: Path) -> dict[str, int]:
    fill(root, classes=("left_bus", "train"))
    return {}


@layout
def folders_inside_of_classes(root: Path) -> dict[str, int]:
    fill(root)
    for name in CLASSES:
        fill(root / name, num=2, classes=(name,))
    return {}


@layout
def other_folders_beside_train(root: Path) -> dict[str, int]:
    fill(root / "train")
    fill(root / "unused", num=2)
    return {BESIDE: 4}


@layout
def images_beside_class_folders(root: Path) -> dict[str, int]:
    fill(root)
    picture("left").save(root / "preview.png")
    return {OUTSIDE: 1}


@layout
def images_beside_class_folders_of_a_part(root: Path) -> dict[str, int]:
    fill(root / "train")
    picture("left").save(root / "train.png")
    (root / "train" / "right").joinpath(".hidden.png").write_bytes(b"")
    fill(root / "test", num=3)
    picture("left").save(root / "test" / "cover.jpg")
    return {OUTSIDE: 2}


@layout
def notes_and_thumbnails(root: Path) -> dict[str, int]:
    fill(root)
    (root / "left" / "Thumbs.db").write_bytes(b"no image")
    (root / "right" / "readme.txt").write_text("no image", encoding="utf-8")
    (root / "right" / ".DS_Store").write_bytes(b"no image")
    (root / "left" / ".ipynb_checkpoints").mkdir()
    picture("right").save(root / "left" / ".ipynb_checkpoints" / "00-checkpoint.png")
    return {NO_IMAGE: 2}


def read(root: Path) -> ImageSet:
    return read_image_folder(root, image_size=(SIDE, SIDE))


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_file_is_used_or_counted_and_shows_its_class(tmp_path: Path, name: str) -> None:
    root = tmp_path / "images"
    left_out = LAYOUTS[name](root)
    found = read(root)
    on_disk = sum(1 for path in root.rglob("*") if path.is_file() and "/." not in str(path.relative_to(root.parent)))
    assert found.left_out == left_out
    assert len(found.labels) + sum(left_out.values()) == on_disk
    left_N, right_N = (found.images[..., third].float().mean((1, 2, 3)) for third in THIRDS)
    assert ((left_N > right_N) == (found.labels == 0)).all()


def test_own_parts_are_the_parts(tmp_path: Path) -> None:
    train_valid_and_test(tmp_path)
    found = read(tmp_path)
    splits = make_splits(found, SHARES, seed=0)
    assert found.is_validation is not None and found.is_test is not None
    assert splits.validation.tolist() == found.is_validation.nonzero().squeeze(1).tolist()
    assert splits.test.tolist() == found.is_test.nonzero().squeeze(1).tolist()
    assert (len(splits.weights), len(splits.architecture)) == (16, 8)  # 24 images at 0.5 to 0.25


def test_a_validation_part_is_not_drawn_for_testing(tmp_path: Path) -> None:
    train_and_val(tmp_path)
    found = read(tmp_path)
    splits = make_splits(found, SHARES, seed=0)
    parts = [splits.weights, splits.architecture, splits.validation, splits.test]
    assert sorted(index for part in parts for index in part.tolist()) == list(range(32))
    assert found.is_validation is not None
    assert splits.validation.tolist() == found.is_validation.nonzero().squeeze(1).tolist()
    assert len(splits.test) > 0


def test_numbered_classes_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        Image.new("L", (SIDE, SIDE), 20 * number).save(tmp_path / str(number) / "a.png")
    found = read(tmp_path)
    assert found.images[:, 0, 0, 0].tolist() == [20 * label for label in found.labels.tolist()]


def as_read(root: Path, image: Image.Image, name: str, **saved: object) -> np.ndarray:
    """The pixels (H, W, 3) that come of an image saved under a name."""
    fill(root, num=1, classes=("other",))
    (root / "one").mkdir()
    image.save(root / "one" / name, **saved)  # type: ignore[arg-type]
    found = read(root)
    return found.images[found.labels == 0][0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    upright = noise(SIDE, SIDE, 3)
    stored = {  # what a camera writes for each orientation, by the definition of Exif 2.3
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    assert (as_read(tmp_path, image, "a.png", exif=exif) == upright).all()


def test_pixels_are_those_that_a_viewer_shows(tmp_path: Path) -> None:
    grey, half = noise(SIDE, SIDE), np.full((SIDE, SIDE), 128, np.uint8)
    colours = noise(SIDE, SIDE, 3)
    clear = np.dstack([colours, np.zeros_like(grey)])
    images = {
        "16 bits": (Image.fromarray(grey.astype(np.uint16) * 257), "a.png", np.dstack([grey] * 3)),
        "16 bits in TIFF": (Image.fromarray(grey.astype(np.uint16) * 257), "a.tif", np.dstack([grey] * 3)),
        "grey": (Image.fromarray(grey), "a.png", np.dstack([grey] * 3)),
        "transparent": (Image.fromarray(clear), "a.png", np.full((SIDE, SIDE, 3), 255)),
        "half transparent": (
            Image.fromarray(np.dstack([colours, half])),
            "a.png",
            np.rint((colours * 128.0 + 255.0 * 127) / 255),
        ),
        "two levels": (Image.fromarray(grey > 128), "a.png", np.dstack([(grey > 128) * 255] * 3)),
        "palette": (Image.fromarray(grey).convert("P"), "a.png", np.dstack([grey] * 3)),
        "CMYK": (Image.fromarray(255 - np.dstack([colours, 0 * grey + 255])[..., :4], "CMYK"), "a.tif", colours),
    }
    for kind, (image, name, expected) in images.items():
        got = as_read(tmp_path / kind, image, name)
        assert np.abs(got.astype(int) - expected).max() <= 1, kind


def test_floats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="floats"):
        as_read(tmp_path, Image.fromarray(np.zeros((SIDE, SIDE), np.float32)), "a.tif")


def test_all_damaged_files_are_named_at_once(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "left/03.png").write_text("<html>404</html>", encoding="utf-8")
    (tmp_path / "right/04.png").write_bytes(b"")
    (tmp_path / "right/05.png").write_bytes((tmp_path / "right/06.png").read_bytes()[:90])
    with pytest.raises(DataError) as refused:
        read(tmp_path)
    assert [name for name in ("left/03.png", "right/04.png", "right/05.png") if name not in str(refused.value)] == []
    assert "right/06.png" not in str(refused.value)


def test_two_validation_parts_are_refused(tmp_path: Path) -> None:
    train_and_val(tmp_path)
    shutil.copytree(tmp_path / "val", tmp_path / "valid")
    with pytest.raises(DataError, match="'val', 'valid'"):
        read(tmp_path)
