"""The run as TensorBoard events in `tensorboard/` of its folder."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from trainers.loggers.logger import Cell, RunRecord, Tracker


class TensorBoardTracker(Tracker):
    """TensorBoard shows no SVG: those pictures stand in the report and beside its events."""

    def __init__(self, record: RunRecord) -> None:
        self.folder, self.record = record.folder / "tensorboard", record
        self.writer: SummaryWriter | None = None
        self.step = 0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step <= self.step:
            return
        writer = self._open(step)
        self.step = step
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("|" + "|".join(_cell(value) for value in line) + "|" for line in lines)
        self._open(self.step).add_text(name, text, self.step)

    def picture(self, name: str, content: bytes | str) -> None:
        if isinstance(content, bytes):
            pixels_HWC = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
            self._open(self.step).add_image(name, pixels_HWC, self.step, dataformats="HWC")
            return
        path = self.folder / f"{name.replace('/', '_')}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        origin = f" from {', '.join(parents)}" if parents else ""
        lines = [f"{kind}{origin}", "", *(f"- {path.relative_to(self.record.folder)}" for path in files)]
        self._open(self.step).add_text(f"artifacts/{name}", "\n".join(lines), self.step)

    def alert(self, title: str, text: str) -> None:
        self._open(self.step).add_text("alerts", f"**{title}**: {text}", self.step)

    def finish(self, exit_code: int) -> None:
        writer = self._open(self.step)
        writer.add_scalar("exit_code", exit_code, self.step)
        writer.close()

    def _open(self, step: int) -> SummaryWriter:
        """Events of an earlier attempt from `step` on are hidden: they are told again."""
        if self.writer is None:
            self.writer = SummaryWriter(str(self.folder), purge_step=step)
            text = yaml.safe_dump(self.record.config, sort_keys=False)
            self.writer.add_text("config", "\n".join("    " + line for line in text.splitlines()), step)
        return self.writer


def _cell(value: Cell) -> str:
    return "" if value is None else str(value).replace("|", "\\|")
