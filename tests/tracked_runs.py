"""Runs that W&B follows offline, and what it was told of them, read back from its files by its own reader."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_search import CELLS, tiny_config

from trainers.cli.search import run_search
from trainers.loggers.logger import RunRecord

WANDB = Path(sys.executable).parent / "wandb"
OFFLINE = {"name": "wandb", "project": "espalier", "entity": None, "mode": None}
SEARCHED = (*CELLS, "strategy.pool_size=32", "trainer.steps=20")
DEVICES = ("nb201_pixel3", "mid_tablet")


@dataclass(frozen=True)
class Followed:
    """What one attempt at a run left at W&B: records by their type, in order, and its folder."""

    folder: Path
    records: dict[str, list[Any]]

    @property
    def run(self) -> dict[str, Any]:
        return self.records["run"][0]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [record["item"] for record in self.records["history"]]

    @property
    def exit_code(self) -> int:
        return self.records["exit"][0]["exit_code"]

    def media(self, key: str) -> bytes:
        """The file of a table, picture or page that was told under `key`."""
        row = next(row for row in self.rows if f"{key}._type" in row)
        return (self.folder / "files" / row[f"{key}.path"]).read_bytes()


def searched_offline(home: Path) -> Path:
    """The run folder of a search of cells that W&B followed offline."""
    config = tiny_config(home / "runs", *SEARCHED, "logger=wandb", "tags=[paper, draft]")
    said: list[str] = []
    with as_nobody(home):
        run_search(config, said.append)
    assert [line for line in said if "W&B" in line or "logger" in line or "tracker" in line] == [
        f"W&B: offline, as there is no key; to send it: wandb sync {path}"
        for path in config.run_folder.glob("wandb/offline-run-*")
    ]
    return config.run_folder


def record_of(folder: Path, *, resumed: bool = False) -> RunRecord:
    folder.mkdir(parents=True, exist_ok=True)
    return RunRecord("key", "sweep", "search", ("paper",), {"seed": 0}, folder, resumed)


def followed(run_folder: Path) -> list[Followed]:
    """Each attempt at a run, in order."""
    return [_read(folder) for folder in sorted((run_folder / "wandb").glob("offline-run-*"))]


def _read(folder: Path) -> Followed:
    command = [WANDB, "leet", "inspect", "--json", folder]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    records: dict[str, list[Any]] = {}
    for line in lines:
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record[record["type"]])
    return Followed(folder, records)


def nobody(home: Path) -> dict[str, str]:
    """An environment without a key of W&B, and without a place outside `home` for its files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    places = {f"WANDB_{place}_DIR": str(home / place.lower()) for place in ("CACHE", "CONFIG")}
    return kept | {"HOME": str(home)} | places


@contextmanager
def as_nobody(home: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        wanted = nobody(home)
        for name in set(os.environ) - set(wanted):
            patch.delenv(name)
        for name, value in wanted.items():
            patch.setenv(name, value)
        yield
