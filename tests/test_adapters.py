"""Data sets of torchvision and Hugging Face, or of their kind, come in as they are."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from console import SEARCH, Cli, console, done
from data_files import noise
from PIL import Image
from plugin_files import EXAMPLES, copy_examples, forget_plugins
from tiny_search import TINY

from tests.reported_runs import draw_nothing
from trainers.data.adapters import read_examples
from trainers.data.image_set import DataError, Subset
from trainers.data.storage import Storage

NUM = 12
COLOURS = [noise(6, 5, 3, seed=number) for number in range(NUM)]  # (H, W, 3)
GREYS = [noise(6, 5, seed=number) for number in range(NUM)]


class OfTorchvision:
    """What data sets of torchvision are: pairs by number, `targets`, `classes`."""

    def __init__(self, num: int = NUM, *, named: bool = True, transform: Callable[[Any], Any] | None = None) -> None:
        self.targets = [number % 3 for number in range(num)]
        self.target_transform = transform
        self.reads: list[int] = []
        if named:
            self.classes = ["ant", "bee", ("fly", "gnat")]  # ImageNet's are words for the same

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Image.Image, Any]:
        self.reads.append(number)
        target = self.targets[number]
        transformed = target if self.target_transform is None else self.target_transform(target)
        return Image.fromarray(COLOURS[number % NUM]), transformed


class OfHuggingFace:
    """What data sets of Hugging Face are: mappings by number, columns by name, features that name classes."""

    def __init__(self, num: int = NUM, *, label: str = "label") -> None:
        self.label, self.num = label, num
        self.column_names = ["image", label]
        self.features = {"image": SimpleNamespace(), label: SimpleNamespace(names=["ant", "bee", "fly, gnat"])}

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return [number % 3 for number in range(self.num)] if key == self.label else pytest.fail("all were decoded")
        return {"image": Image.fromarray(COLOURS[key % NUM]), self.label: key % 3}


def pairs(convert: Callable[[np.ndarray], Any], images: Sequence[np.ndarray] = COLOURS) -> list[tuple[Any, Any]]:
    return [(convert(image), number % 3) for number, image in enumerate(images)]


OF_COLOURS: dict[str, Any] = {
    "torchvision": OfTorchvision(),
    "torchvision, transformed labels": OfTorchvision(transform=lambda target: target),
    "Hugging Face": OfHuggingFace(),
    "arrays of bytes": pairs(np.asarray),
    "arrays of floats": pairs(lambda image: image / 255),
    "tensors of bytes": pairs(lambda image: torch.from_numpy(image).permute(2, 0, 1)),
    "tensors of floats": pairs(lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255),
    "labels of numpy": [(Image.fromarray(image), np.int64(number % 3)) for number, image in enumerate(COLOURS)],
    "labels of torch": [(Image.fromarray(image), torch.tensor(number % 3)) for number, image in enumerate(COLOURS)],
    "words": [(image, ("ant", "bee", "fly")[number % 3]) for number, image in enumerate(COLOURS)],
}
OF_GREYS: dict[str, Any] = {
    "Pillow": pairs(Image.fromarray, GREYS),
    "arrays": pairs(np.asarray, GREYS),
    "arrays of one channel": pairs(lambda image: image[:, :, None], GREYS),
    "arrays of 16 bits": pairs(lambda image: image.astype(np.uint16) * 257, GREYS),
    "tensors of one channel": pairs(lambda image: torch.from_numpy(image)[None] / 255, GREYS),
    "tensors": pairs(torch.from_numpy, GREYS),
}


@pytest.mark.parametrize("kind", OF_COLOURS)
def test_colours_come_out_as_they_are(kind: str) -> None:
    found = read_examples("made", OF_COLOURS[kind])
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), np.stack(COLOURS))
    assert found.labels.tolist() == [number % 3 for number in range(NUM)]


@pytest.mark.parametrize("kind", OF_GREYS)
def test_greys_come_out_in_all_channels(kind: str) -> None:
    found = read_examples("made", OF_GREYS[kind])
    assert np.array_equal(found.images.numpy(), np.stack(GREYS)[:, None].repeat(3, axis=1))


def test_classes_have_the_names_that_there_are() -> None:
    own = ("ant", "bee", "fly, gnat")
    assert read_examples("made", OfTorchvision()).classes == own == read_examples("made", OfHuggingFace()).classes
    assert read_examples("made", OF_COLOURS["words"]).classes == ("ant", "bee", "fly")
    assert read_examples("made", OF_COLOURS["words"], classes=("fly", "bee", "ant")).labels.tolist()[:3] == [2, 1, 0]
    assert read_examples("made", OfTorchvision(named=False)).classes == ("0", "1", "2")
    cranes = OfTorchvision()
    cranes.classes = ["crane", "crane", "fly"]  # as ImageNet has one twice
    assert read_examples("made", cranes).classes == ("0", "1", "2")


def test_parts_are_parts() -> None:
    found = read_examples("made", OfTorchvision(6), validation=OfTorchvision(3), test=OfHuggingFace(3))
    assert found.is_validation is not None and found.is_validation.tolist() == [False] * 6 + [True] * 3 + [False] * 3
    assert found.is_test is not None and found.is_test.tolist() == [False] * 9 + [True] * 3


def test_images_beyond_a_limit_are_not_read() -> None:
    train = OfTorchvision()
    read_examples("made", train, image_size=(4, 4), subset=Subset(train=6))
    assert len(train.reads) == 6


def test_images_are_kept_where_there_is_room(tmp_path: Path) -> None:
    mapped = read_examples("made", OfTorchvision(), image_size=(4, 4), storage=Storage(0, tmp_path))
    assert mapped.content() == read_examples("made", OfTorchvision(), image_size=(4, 4)).content()


def damaged(*numbers: int) -> list[tuple[Any, int]]:
    return [(None if number in numbers else image, number % 3) for number, image in enumerate(COLOURS)]


@pytest.mark.parametrize(
    ("train", "named"),
    [
        (damaged(3, 7), ["image 3 of train", "image 7 of train"]),
        (pairs(lambda image: image / 255 - 0.5), ["0 to 1"]),
        (pairs(lambda image: image * np.nan), ["nan"]),
        (pairs(lambda image: image[:5] if image is COLOURS[4] else image), ["image 4 of train", "image_size"]),
        ([(image, 0.5) for image in COLOURS], ["0.5"]),
        ([(image, number % 3 - 1) for number, image in enumerate(COLOURS)], ["-1"]),
    ],
)
def test_what_cannot_be_used_is_named(train: Any, named: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        read_examples("made", train)
    assert [each for each in named if each not in str(refused.value)] == []


def test_a_word_that_is_no_class_is_named() -> None:
    with pytest.raises(DataError, match="bee"):
        read_examples("made", OF_COLOURS["words"], classes=("ant", "fly"))


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """Commands beside the examples of the documentation, and in place of two libraries data sets of their kind."""
    vision, faces = ModuleType("torchvision.datasets"), ModuleType("datasets")
    sizes = {"train": 60, "val": 30, "validation": 30, "test": 30}
    vision.Flowers102 = lambda root, split: OfTorchvision(sizes[split])  # type: ignore[attr-defined]
    parts = {part: OfHuggingFace(sizes[part], label="labels") for part in ("train", "validation", "test")}
    faces.load_dataset = lambda name: parts  # type: ignore[attr-defined]
    for module in (ModuleType("torchvision"), vision, faces):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    call = console(
        SEARCH, monkeypatch, capsys, tmp_path, f"paths.runs={tmp_path}/runs", f"paths.cache={tmp_path}/cache"
    )
    copy_examples(Path.cwd())
    with forget_plugins(tmp_path):
        yield call


@pytest.mark.parametrize("name", ["flowers", "beans"])
def test_the_examples_of_the_documentation_are_searched_on(
    search: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    code = [line for line in (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    assert len(code) < 10
    tiny = [each for each in TINY if not each.startswith("data.")]
    tiny += ["hardware=[mid_tablet]", "trainer.candidates=1", "trainer.steps=2"]
    draw_nothing(monkeypatch)
    done(search(*tiny, f"plugins={name}", f"data={name}", "data.image_size=[48,48]", "data.memory_mb=0"))
    (path,) = tmp_path.rglob("result.json")
    data = json.loads(path.read_bytes())["data"]
    assert data["name"] == name and data["images"]["test"] == data["images"]["validation"] == 30
    assert list((tmp_path / "cache").iterdir()) == []  # a file without a key is gone
