"""The state of the files that data are read from: while it is the same, so is the content, and nothing is decoded."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from search_spaces.registry import registry
from trainers.runs.code import files_hash

READERS = ("scikit-learn", "pillow", "numpy")  # packages that images are read with
NOT_CONTENT = ("content", "cache", "memory_mb")  # keys of the section that do not change what is read
UNSETTLED_SECONDS = 2.0  # for which the clock of a file system may stand still


def state_of_files(data: Mapping[str, Any], *, unchanged_since: float | None = None) -> str | None:
    """sha256 of a section `data`, of what reads it, and of the place, size and last change of each file that it reads.

    None where these files are not known, as those of a data set from outside Espalier; or if one has changed, or may
    have, later than `unchanged_since`, in seconds since 1970.
    """
    name = data.get("name")
    if name not in FILES or not registry("datasets").is_built_in(str(name)):
        return None
    asked = {key: value for key, value in data.items() if key not in NOT_CONTENT}
    if asked.get("root") is not None:
        asked["root"] = os.path.abspath(os.path.expanduser(str(asked["root"])))
    root = Path(asked.get("root") or "")
    digest = hashlib.sha256(json.dumps([asked, _readers()], sort_keys=True).encode())
    try:
        for path in FILES[str(name)](root):
            found = path.stat()
            if unchanged_since is not None and found.st_ctime > unchanged_since - UNSETTLED_SECONDS:
                return None
            digest.update(f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n".encode())
    except (OSError, ValueError, csv.Error):  # what is wrong with them is for their reader to say
        return None
    return digest.hexdigest()


def _below(folder: Path) -> Iterator[Path]:
    """All files and folders below a folder, and itself: a folder changes when a file comes or goes."""
    yield folder
    yield from sorted(folder.rglob("*"))


def _existing(root: Path, inner: str, *patterns: str) -> Iterator[Path]:
    """What lies in a folder, or in its folder `inner`, under names of these patterns."""
    for folder in (root, root / inner):
        for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
            yield from _below(path) if path.is_dir() else [path]


def _of_list(root: Path) -> Iterator[Path]:
    """A CSV file and the files of its column `path`."""
    file = root / "labels.csv" if root.is_dir() else root
    yield file
    with file.open(encoding="utf-8-sig", newline="") as stream:
        yield from [file.parent / str(row.get("path")) for row in csv.DictReader(stream)]


# The files that each shipped data set reads, and perhaps more, from `root` on.
FILES: dict[str, Callable[[Path], Iterator[Path]]] = {
    "digits": lambda root: iter(()),
    "cifar10": lambda root: _existing(root, "cifar10", "cifar-10-*", "cifar10_*.npz"),
    "fashion_mnist": lambda root: _existing(root, "fashion-mnist", "*-ubyte*"),
    "image_folder": _below,
    "csv": _of_list,
}


@cache
def _readers() -> list[str]:
    """What makes images of files: versions of packages, and the code of this one."""
    found = [files_hash(Path(__file__).parent)]
    for package in READERS:
        try:
            found.append(version(package))
        except PackageNotFoundError:
            found.append("none")
    return found
