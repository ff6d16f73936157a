"""Data are known again by the state of their files, and only while none of these has changed."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from data_files import CIFAR_WRITERS, write_idx, write_images, write_packed

from trainers.data.datasets import content_of, data_config
from trainers.data.known_files import FILES, UNSETTLED_SECONDS, state_of_files
from trainers.runs.plugins import import_plugins

SHARES = {"weights": 0.5, "architecture": 0.25, "validation": 0.25, "test": 0.2}


def section(name: str, root: Path, **more: Any) -> dict[str, Any]:
    sized = {"image_size": [8, 8], "shift": 0, "shares": SHARES, "flip": False}
    return {"name": name, "root": None if name == "digits" else str(root), **sized, **more}


def write_list(root: Path) -> None:
    write_images(root / "images")
    names = [str(path.relative_to(root)) for path in sorted((root / "images").rglob("*.png"))]
    (root / "labels.csv").write_text("path,label\n" + "".join(f"{name},{Path(name).parent.name}\n" for name in names))


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "digits": ("digits", lambda root: None),
    **{f"cifar10 {form}": ("cifar10", write) for form, write in CIFAR_WRITERS.items()},
    "cifar10 packed": ("cifar10", write_packed),
    "fashion_mnist": ("fashion_mnist", lambda root: write_idx(root / "fashion-mnist")),
    "fashion_mnist unpacked": ("fashion_mnist", lambda root: write_idx(root, packed=False)),
    "image_folder": ("image_folder", write_images),
    "csv": ("csv", write_list),
}
_opened: list[list[str]] = []  # while files are watched: their paths
_hooked: list[bool] = []


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths of all files that Python opens meanwhile, in any thread."""
    if not _hooked:  # a hook stays for good
        sys.addaudithook(
            lambda event, given: _opened[-1].append(str(given[0])) if _opened and event == "open" else None
        )
        _hooked.append(True)
    _opened.append([])
    try:
        yield _opened[-1]
    finally:
        _opened.pop()


@pytest.mark.parametrize("form", WRITERS)
def test_each_file_that_a_shipped_data_set_reads_is_looked_at(form: str, tmp_path: Path) -> None:
    name, write = WRITERS[form]
    write(tmp_path)
    with opened_files() as opened:
        content_of(data_config(section(name, tmp_path)))
    read = {os.path.realpath(path) for path in opened if os.path.realpath(path).startswith(str(tmp_path.resolve()))}
    looked_at = {os.path.realpath(path) for path in FILES[name](tmp_path)}
    assert bool(read) == (name != "digits")
    assert read <= looked_at


def test_every_shipped_data_set_is_tried() -> None:
    assert {name for name, _ in WRITERS.values()} == set(FILES)


def changed_in_place(root: Path) -> None:
    path = root / "ant" / "0.png"
    before = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as one does who hides it


@pytest.mark.parametrize(
    "change",
    [
        changed_in_place,
        lambda root: (root / "ant" / "1.png").unlink(),
        lambda root: (root / "bee" / "9.png").write_bytes((root / "bee" / "0.png").read_bytes()),
        lambda root: (root / "ant" / "1.png").rename(root / "bee" / "8.png"),
    ],
    ids=["in place", "gone", "new", "moved"],
)
def test_a_change_of_any_file_changes_the_state(change: Callable[[Path], object], tmp_path: Path) -> None:
    write_images(tmp_path)
    data = section("image_folder", tmp_path)
    before = state_of_files(data)
    assert before is not None and state_of_files(data) == before
    time.sleep(0.02)  # longer than a tick of the file system's clock
    change(tmp_path)
    assert state_of_files(data) not in (None, before)


def test_what_is_read_of_the_files_is_part_of_the_state_and_where_images_are_kept_is_not(tmp_path: Path) -> None:
    write_images(tmp_path)
    data = section("image_folder", tmp_path)
    assert state_of_files({**data, "limit": 3}) != state_of_files(data)
    assert state_of_files({**data, "cache": "elsewhere", "memory_mb": 1, "content": "0" * 64}) == state_of_files(data)


def test_files_that_have_changed_since_say_nothing_of_what_was_read(tmp_path: Path) -> None:
    write_images(tmp_path)
    data, now = section("image_folder", tmp_path), time.time()
    assert state_of_files(data, unchanged_since=now) is None
    assert state_of_files(data, unchanged_since=now + 2 * UNSETTLED_SECONDS) == state_of_files(data)


def test_data_whose_files_are_not_known_have_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_lenses.py").write_text(
        "from trainers.data.image_set import DATASETS\n\n\n@DATASETS.register('lenses')\ndef read(root): ...\n"
    )
    import_plugins(["own_lenses"], folders=[tmp_path])
    assert state_of_files(section("lenses", tmp_path)) is None
    assert state_of_files(section("csv", tmp_path / "none.csv")) is None
