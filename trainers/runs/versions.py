"""What a run is made by and made of: versions of packages, hashes of files."""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from search_spaces.regular_files import check_regular

PACKAGES = ("espalier", "torch", "pytorch-lightning", "fvcore", "scipy", "numpy", "onnxruntime")
COMPUTING = ("torch", "pytorch-lightning", "numpy", "scipy")  # a run is not resumed with others of these


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def file_hashes(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """sha256 of each of `files`, by its path below `folder`. Raises: OSError; ValueError for a pipe or a device."""
    return {file: sha256_of(folder / file) for file in files}


def sha256_of(path: Path) -> str:
    """sha256 of a file, as hex. Raises: as `file_hashes`."""
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
