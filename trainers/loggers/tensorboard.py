"""A run as TensorBoard events in `tensorboard/` of its folder."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from trainers.loggers.base import Cell, RunRecord
from trainers.loggers.lightning import LightningRunLogger
from trainers.runs.files import write_text
from trainers.search.callbacks import Report


class TensorBoardRunLogger(LightningRunLogger):
    """TensorBoard shows no SVG: those pictures stand in the report and beside its events."""

    def __init__(self, config: Any, record: RunRecord, report: Report) -> None:
        # Hides the events of earlier attempts, as each attempt logs all rows.
        lightning = TensorBoardLogger(
            record.folder, name="tensorboard", version="", default_hp_metric=False, purge_step=0
        )
        super().__init__(lightning, record)
        self.writer: SummaryWriter = lightning.experiment
        lightning.log_hyperparams(record.config)
        self._text("config", "\n".join("    " + line for line in yaml.safe_dump(record.config).splitlines()))

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        self._text(name, "\n".join("|" + "|".join(_cell(value) for value in line) + "|" for line in lines))

    def picture(self, name: str, content: bytes | str) -> None:
        if isinstance(content, str):
            write_text(self.record.folder / "tensorboard" / f"{name.replace('/', '_')}.svg", content)
            return
        pixels_HWC = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        self.writer.add_image(name, pixels_HWC, self.last_step, dataformats="HWC")

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        origin = f" from {', '.join(parents)}" if parents else ""
        lines = [f"{kind}{origin}", "", *(f"- {path.relative_to(self.record.folder)}" for path in files)]
        self._text(f"artifacts/{name}", "\n".join(lines))

    def alert(self, title: str, text: str) -> None:
        self._text("alerts", f"**{title}**: {text}")

    def finish(self, exit_code: int) -> None:
        self.writer.add_scalar("exit_code", exit_code, self.last_step)
        super().finish(exit_code)

    def _text(self, name: str, text: str) -> None:
        self.writer.add_text(name, text, self.last_step)


def _cell(value: Cell) -> str:
    return "" if value is None else str(value).replace("|", "\\|")
