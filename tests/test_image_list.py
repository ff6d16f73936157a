"""Images that a CSV file lists are those of the same images in folders; a line that is wrong is named."""

from pathlib import Path

import numpy as np
import pytest
from data_files import write_images
from tiny_search import TINY, composed

from trainers.cli.search import run_search
from trainers.data.image_folder import read_image_folder
from trainers.data.image_list import read_csv
from trainers.data.image_set import DataError, Subset
from trainers.data.storage import Storage
from trainers.runs.config import validate

SIZE = (8, 8)


def listed(root: Path, *, parts: bool = False, name: str = "labels.csv") -> Path:
    """A CSV file in `root` of the images in the folders of classes there."""
    paths = sorted(root.glob("*/*.png"))
    part = {0: "test", 1: "valid"}
    lines = [
        f"{path.relative_to(root)},{path.parent.name}" + (f",{part.get(number % 5, 'train')}" if parts else "")
        for number, path in enumerate(paths)
    ]
    header = "path,label" + (",part" if parts else "")
    (root / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8-sig")
    return root / name


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_csv_file_gives_what_folders_give(tmp_path: Path, by: str) -> None:
    write_images(tmp_path, classes=("10", "9", "bee"), num=5)
    file = listed(tmp_path)
    found, expected = (
        read_csv(file if by == "file" else tmp_path, image_size=SIZE),
        read_image_folder(tmp_path, image_size=SIZE),
    )
    assert found.classes == expected.classes
    for label in range(3):
        own = [images.images[images.labels == label].numpy() for images in (found, expected)]
        assert np.array_equal(*own)
    assert found.is_test is None and found.is_validation is None


def test_parts_are_those_of_the_column(tmp_path: Path) -> None:
    write_images(tmp_path, num=10)
    found = read_csv(listed(tmp_path, parts=True), image_size=SIZE)
    assert found.is_test is not None and found.is_test.tolist() == [n % 5 == 0 for n in range(20)]
    assert found.is_validation is not None and found.is_validation.tolist() == [n % 5 == 1 for n in range(20)]


def test_images_of_a_limit_are_mapped_where_memory_is_small(tmp_path: Path) -> None:
    write_images(tmp_path, num=10)
    storage, subset = Storage(0, tmp_path / "cache"), Subset(train=6)
    mapped = read_csv(listed(tmp_path), image_size=SIZE, subset=subset, storage=storage)
    held = read_csv(tmp_path, image_size=SIZE, subset=subset)
    assert mapped.content() == held.content() and len(held.images) == 6
    assert len(list((tmp_path / "cache").glob("images-*.u8"))) == 1


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("path,class\nant/0.png,ant\n", ["class", "label"]),
        ("", ["path", "label"]),
        ("path,label\nant/0.png,ant\nbee/0.png,\n", ["line 3"]),
        ("path,label\nant/0.png\nbee/0.png,bee\n", ["line 2"]),
        ("path,label,part\nant/0.png,ant,train\nbee/0.png,bee,exam\n", ["line 3", "exam"]),
        ("path,label\nant/0.png,ant\nant/1.png,ant\n", ["['ant']"]),
        ("path,label\nant/0.png,ant\nbee/none.png,bee\nbee/gone.png,bee\n", ["2 of", "bee/none.png"]),
        ("path,label,part\nant/0.png,ant,train\nbee/0.png,bee,test\n", ["['bee']"]),  # of which none is for training
        ("path,label\nant/0.png,\xff\n", ["utf-8"]),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, content: str, named: list[str]) -> None:
    write_images(tmp_path)
    (tmp_path / "labels.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError) as refused:
        read_csv(tmp_path, image_size=SIZE)
    assert [each for each in named if each not in str(refused.value)] == []


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_csv(tmp_path, image_size=SIZE)


def test_a_search_takes_a_csv_file(tmp_path: Path) -> None:
    write_images(tmp_path, num=80)
    file = listed(tmp_path, parts=True, name="mine.csv")
    tiny = [each for each in TINY if not each.startswith("data.")]
    asked = ("data=csv", f"data.root={file}", "data.image_size=[48,48]", f"paths.runs={tmp_path / 'runs'}")
    result = run_search(validate(composed(*tiny, *asked)), lambda line: None)
    assert result.data.name == "mine" and result.data.images.test == 32 and result.data.majority is not None
