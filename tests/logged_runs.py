"""Runs that were logged: by a logger that keeps what it gets, and by W&B offline, read back by W&B's own reader."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image
from tiny_search import CELLS, tiny_config

from trainers.loggers.base import LOGGERS, Cell, RunLogger, RunRecord
from trainers.runs.config import SearchConfig
from trainers.search.callbacks import Report

WANDB = Path(sys.executable).parent / "wandb"
OFFLINE = {"name": "wandb", "project": "espalier", "entity": None, "mode": None}
SEARCHED = (*CELLS, "strategy.pool_size=32", "trainer.steps=20")
DEVICES = ("nb201_pixel3", "mid_tablet")
ROWS = [(10, {"epoch": 1.0, "train/loss": 2.5}), (20, {"epoch": 2.0, "train/loss": 1.25})]
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"


@LOGGERS.register("kept")
class KeptLogger(RunLogger):
    """A logger of one's own, as a plug-in has it: keeps what it gets."""

    opened: ClassVar[list["KeptLogger"]] = []

    def __init__(self, config: Any, record: RunRecord, report: Report) -> None:
        super().__init__(config, record, report)
        self.opened.append(self)
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.tables: dict[str, tuple[list[str], list[list[Cell]]]] = {}
        self.pictures: dict[str, bytes | str] = {}
        self.artifacts: dict[str, tuple[str, list[str], list[str]]] = {}  # kind, files, parents
        self.alerts: list[tuple[str, str]] = []
        self.exit_codes: list[int] = []

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if not self.rows or step > self.rows[-1][0]:
            self.rows.append((step, dict(values)))

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        self.tables[name] = list(columns), [list(row) for row in rows]

    def picture(self, name: str, content: bytes | str) -> None:
        self.pictures[name] = content

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        paths = [path.relative_to(self.record.folder).as_posix() for path in files]
        self.artifacts[name] = kind, paths, list(parents)

    def alert(self, title: str, text: str) -> None:
        self.alerts.append((title, text))

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


def kept_config(runs: Path, *overrides: str) -> SearchConfig:
    """A tiny search of cells that `KeptLogger` logs."""
    return tiny_config(runs, *SEARCHED, "logger.name=kept", *overrides)


def record_of(folder: Path) -> RunRecord:
    folder.mkdir(parents=True, exist_ok=True)
    return RunRecord("key", "sweep", "search", ("paper",), {"seed": 0, "trainer": {"steps": 20}}, folder)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def log_all(logger: RunLogger, folder: Path) -> None:
    """A run of two epochs, from its first row to its end."""
    for step, values in ROWS:
        logger.metrics(step, values)
    logger.alert("collapse: entropy", "it fell")
    logger.table("prune/events", columns=["step", "choice"], rows=[[4.0, "k|5"], [None, "k7"]])
    logger.picture("arch/alphas", png())
    logger.picture("architecture/phone", SVG)
    (folder / "result.json").write_text("{}")
    logger.artifact("result-key", kind="result", files=[folder / "result.json"], parents=["supernet-key"])
    logger.finish(0)


@dataclass(frozen=True)
class Attempt:
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
        """The file of a table, picture or page that was logged under `key`."""
        row = next(row for row in self.rows if f"{key}._type" in row)
        return (self.folder / "files" / row[f"{key}.path"]).read_bytes()


def attempts_at(run_folder: Path) -> list[Attempt]:
    """Each attempt at a run at W&B, in order."""
    return [_read(folder) for folder in sorted((run_folder / "wandb").glob("offline-run-*"))]


def _read(folder: Path) -> Attempt:
    command = [WANDB, "leet", "inspect", "--json", folder]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    records: dict[str, list[Any]] = {}
    for line in lines:
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record[record["type"]])
    return Attempt(folder, records)


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
