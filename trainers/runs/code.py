"""Which code of Espalier runs: its version and commit, whether its files are those of the commit, and their hash."""

import hashlib
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel

from trainers.runs.validation import STRICT

ROOT = Path(__file__).parents[2]
PACKAGES = ("search_spaces", "hardware_models", "trainers", "conf")
ELSEWHERE = Path("trainers/cli/plugin")  # a wheel ships it as a package of its own; no result depends on it
SUFFIXES = frozenset({".py", ".yaml", ".json", ".j2", ".css"})


class Code(BaseModel):
    """The code of a search. `sha256` is that of all its files, the same of a checkout and of what was installed of it.

    `commit`, and whether the files were `changed` since, are known where it runs from a checkout with git. `plugins`
    are the version and the sha256 of each package of others that the search uses.
    """

    model_config = STRICT
    version: str
    commit: str | None
    changed: bool | None
    sha256: str
    plugins: dict[str, dict[str, str | None]] = {}  # absent in files of earlier versions

    @property
    def content(self) -> tuple[str, dict[str, dict[str, str | None]]]:
        """What is the same of the same code."""
        return self.sha256, self.plugins


@cache  # what is changed while a process runs has been imported before
def running_code() -> Code:
    """The code that this process runs."""
    return code_in(ROOT)


def code_in(root: Path) -> Code:
    """The code whose packages lie in `root`."""
    is_checkout = (root / ".git").exists()
    commit = _git(root, "rev-parse", "HEAD") if is_checkout else None
    status = _git(root, "status", "--porcelain", "--", *PACKAGES) if commit else None
    changed, digest = None if status is None else bool(status), files_hash(root, packages=PACKAGES)
    return Code(version=version("espalier"), commit=commit, changed=changed, sha256=digest)


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers; none if it cannot."""
    git = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def files_hash(root: Path, *, packages: Sequence[str] = (".",)) -> str:
    """sha256 over name and content of all files of code in `packages` below `root`."""
    digest = hashlib.sha256()
    found = (path for package in packages for path in (root / package).rglob("*") if path.suffix in SUFFIXES)
    for name, path in sorted((path.relative_to(root), path) for path in found):
        if not name.is_relative_to(ELSEWHERE):
            digest.update(f"{name.as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
