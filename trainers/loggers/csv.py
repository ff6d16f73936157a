"""A run as flat CSV files in `csv/` of its folder: tidy metrics (one value a line), tables, alerts."""

import csv
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import CSVLogger

from trainers.loggers.base import Cell, RunRecord
from trainers.loggers.lightning import LightningRunLogger
from trainers.runs.files import write_bytes, write_csv
from trainers.search.callbacks import Report


class CsvRunLogger(LightningRunLogger):
    """The `metrics.csv` of many runs can be joined as they are, whatever their devices: each line names its run."""

    def __init__(self, config: Any, record: RunRecord, report: Report) -> None:
        self.folder = record.folder / "csv"
        lightning = CSVLogger(record.folder, name="csv", version="", flush_logs_every_n_steps=sys.maxsize)
        with warnings.catch_warnings():
            # It starts metrics.csv again, as each attempt logs all rows; its warning names the other files too.
            warnings.filterwarnings("ignore", message="Experiment logs directory")
            lightning.log_hyperparams(record.config)
        super().__init__(lightning, record)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            row: dict[str, Any] = {"run": self.record.name, "metric": name, "value": value}
            self.lightning.log_metrics(row, step)
        self.lightning.save()

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        path = self.folder / f"{name.replace('/', '_')}.csv"
        write_csv(path, [dict(zip(columns, row, strict=True)) for row in rows], columns)

    def picture(self, name: str, content: bytes | str) -> None:
        data, suffix = (content, "png") if isinstance(content, bytes) else (content.encode(), "svg")
        write_bytes(self.folder / f"{name.replace('/', '_')}.{suffix}", data)

    def alert(self, title: str, text: str) -> None:
        path = self.folder / "alerts.csv"
        header = [] if path.exists() else [("run", "title", "text")]
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([*header, (self.record.name, title, text)])
