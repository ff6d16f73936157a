"""Images that stand in two parts or in two classes are counted, and a user reads so before training."""

import shutil
from pathlib import Path

import torch
from data_files import SHARES, noise
from PIL import Image
from tiny_search import TINY, composed

from trainers.cli.search import run_search
from trainers.data.duplicates import find_duplicates
from trainers.data.image_set import ImageSet
from trainers.data.splits import SPLITS, Splits, make_splits
from trainers.runs.config import validate
from trainers.runs.result import read_result
from trainers.runs.result_parts import Duplicates

NONE = Duplicates(test_in_training=0, test_in_validation=0, validation_in_training=0, in_two_classes=0)


def divided(num: int = 40) -> tuple[ImageSet, Splits]:
    """Different images of two classes, image i of class i % 2, and their parts."""
    images = torch.arange(num, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 4, 4)
    image_set = ImageSet("made", images, torch.arange(num) % 2, 2, None, "made here")
    return image_set, make_splits(image_set, SHARES, seed=0)


def of_class_0(splits: Splits, part: str) -> list[int]:
    return [i for i in getattr(splits, part).tolist() if i % 2 == 0]


def test_different_images_are_none_twice() -> None:
    assert find_duplicates(*divided()) == NONE


def test_copies_are_counted_by_the_parts_that_they_stand_in() -> None:
    image_set, splits = divided()
    (weights, *_), (architecture, *_), (validation, *_), tests = (of_class_0(splits, part) for part in SPLITS)
    image_set.images[architecture] = image_set.images[weights]  # both are training
    assert find_duplicates(image_set, splits) == NONE
    image_set.images[validation] = image_set.images[weights]
    assert find_duplicates(image_set, splits) == NONE.model_copy(update={"validation_in_training": 1})
    image_set.images[tests[:3]] = image_set.images[weights].clone()
    counts = {"validation_in_training": 1, "test_in_training": 3, "test_in_validation": 3}
    assert find_duplicates(image_set, splits) == NONE.model_copy(update=counts)
    image_set.images[tests[:3], 0, 0, 0] += 100  # one pixel
    assert find_duplicates(image_set, splits) == NONE.model_copy(update={"validation_in_training": 1})


def test_one_image_in_two_classes_counts_each_time_it_is_there() -> None:
    image_set, splits = divided()
    first, second, *_ = of_class_0(splits, "weights")
    other = next(i for i in splits.weights.tolist() if i % 2)
    image_set.images[[second, other]] = image_set.images[first].clone()
    assert find_duplicates(image_set, splits) == NONE.model_copy(update={"in_two_classes": 3})


def test_a_search_tells_of_copies_before_training_and_in_its_result(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(160):
        part, name = ("test", "valid", "train", "train")[number % 4], ("dark", "light")[number // 4 % 2]
        (root / part / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(16, 16, 3, seed=number)).save(root / part / name / f"{number:03d}.png")
    for path in sorted((root / "test" / "dark").iterdir())[:5]:
        shutil.copy(path, root / "train" / "dark" / f"copy_{path.name}")
    shutil.copy(root / "train" / "dark" / "002.png", root / "train" / "light" / "002.png")
    folder = ("data=image_folder", f"data.root={root}", "data.image_size=[48,48]", f"paths.runs={tmp_path / 'runs'}")
    lines: list[str] = []
    config = validate(composed(*(each for each in TINY if not each.startswith("data.")), *folder))
    counts = {"test_in_training": 5, "in_two_classes": 2}
    assert run_search(config, lines.append).data.duplicates == NONE.model_copy(update=counts)
    first = next(i for i, line in enumerate(lines) if line.startswith("feasible"))
    warned = [line for line in lines[:first] if line.startswith("warning")]
    assert ["test in training 5" in line or "images 2" in line for line in warned] == [True, True]
    (run,) = (tmp_path / "runs").glob("*/*")
    assert read_result(run / "result.json").data.duplicates == NONE.model_copy(update=counts)
    report = (run / "report.html").read_text(encoding="utf-8")
    assert all(f"data.duplicates.{name}" in report for name in counts)
