"""The run as flat CSV files in `csv/` of its folder: tidy metrics (one value a line), tables, alerts."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainers.loggers.logger import Cell, RunRecord, Tracker
from trainers.runs.files import write_bytes, write_csv

COLUMNS = ("run", "step", "metric", "value")


class CsvTracker(Tracker):
    """`metrics.csv` of many runs may be joined as they are, whatever their devices: each line names its run."""

    def __init__(self, record: RunRecord) -> None:
        self.run, self.folder = record.name, record.folder / "csv"
        self.path = self.folder / "metrics.csv"
        self.last_step = _mend(self.path)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.last_step:
            _append(self.path, COLUMNS, [(self.run, step, name, value) for name, value in values.items()])
            self.last_step = step

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        path = self.folder / f"{name.replace('/', '_')}.csv"
        write_csv(path, [dict(zip(columns, row, strict=True)) for row in rows], columns)

    def picture(self, name: str, content: bytes | str) -> None:
        data, suffix = (content, "png") if isinstance(content, bytes) else (content.encode(), "svg")
        write_bytes(self.folder / f"{name.replace('/', '_')}.{suffix}", data)

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        """Nothing: they lie in the run folder already."""

    def alert(self, title: str, text: str) -> None:
        _append(self.folder / "alerts.csv", ("run", "title", "text"), [(self.run, title, text)])

    def finish(self, exit_code: int) -> None:
        pass


def _append(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """In one write, so that rewriting a growing file does not slow a long search."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if not path.exists() or not path.stat().st_size:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer.writerow(columns)
    writer.writerows(rows)
    with path.open("ab") as file:
        file.write(buffer.getvalue().encode())


def _mend(path: Path) -> int:
    """Cuts the last step, of which a killed attempt may have left a part; returns the one before, -1 if none."""
    if not path.exists():
        return -1
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    steps = [int(row["step"]) for row in csv.DictReader(whole)]
    kept = 1 + sum(step != steps[-1] for step in steps)
    write_bytes(path, "".join(whole[:kept]).encode())
    return max((step for step in steps if step != steps[-1]), default=-1)
