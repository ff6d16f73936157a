"""What a command leaves around itself: HOME, TMPDIR and the working folder are new, and all in them is listed."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainers.sweeps import sweep

ELSEWHERE = "/elsewhere_of_espalier"  # where only root could write, and where nothing is
# Kept by libraries for themselves once they are imported: fonts by matplotlib, empty folders by torch and wandb.
OF_LIBRARIES = ("home/.cache/matplotlib", "home/.config/matplotlib", "tmp/torchinductor_*", "tmp/tmp*wandb-*")


@dataclass(frozen=True)
class Surroundings:
    """A folder to work in with others around it, so that what is written above it is seen as well."""

    top: Path

    @property
    def folder(self) -> Path:
        """Above the working folder `here`, and beside `home` and `tmp`; two folders below `top`."""
        return self.top / "above" / "around"

    @property
    def here(self) -> Path:
        return self.folder / "here"

    def strays(self, *allowed: Path) -> list[str]:
        """All that is there now besides what is `allowed`, what is below it, and the folders that lead to it."""
        own = {self.folder.parent, self.folder, *(self.folder / name for name in ("here", "home", "tmp"))}
        kept = [*allowed, *(path for pattern in OF_LIBRARIES for path in self.folder.glob(pattern))]
        found = [
            path
            for path in self.top.rglob("*")
            if not (path in own or any(path == k or k in path.parents or path in k.parents for k in kept))
        ]
        return [str(path.relative_to(self.top)) for path in found] + [ELSEWHERE] * Path(ELSEWHERE).exists()


def surround(monkeypatch: pytest.MonkeyPatch, top: Path) -> Surroundings:
    """New surroundings for the commands of this process; `console` makes the working folder."""
    around = Surroundings(top)
    for variable, name in (("HOME", "home"), ("TMPDIR", "tmp")):
        (around.folder / name).mkdir(parents=True)
        monkeypatch.setenv(variable, str(around.folder / name))
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "WANDB_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)  # which remembers TMPDIR
    return around


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps of this process leave nothing in its environment."""
    for variable in (sweep.VARIABLE, "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "")  # so that it is put back, which what is only deleted is not
        monkeypatch.delenv(variable)


def fill(disk: Path) -> Path:
    """A file that leaves no byte of a disk."""
    status = os.statvfs(disk)
    (disk / "filling").write_bytes(bytes(status.f_bavail * status.f_frsize))
    return disk / "filling"
