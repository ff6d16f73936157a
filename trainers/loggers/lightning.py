"""What every logger of Lightning does for a run; one of another service is a subclass that makes it."""

from collections.abc import Mapping

from pytorch_lightning.loggers import Logger

from trainers.loggers.base import RunLogger, RunRecord


class LightningRunLogger(RunLogger):
    """Logs metrics and the end of a run by a logger of Lightning."""

    def __init__(self, lightning: Logger, record: RunRecord) -> None:
        self.lightning, self.record, self.last_step = lightning, record, 0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.lightning.log_metrics(dict(values), step)
        self.lightning.save()
        self.last_step = step

    def finish(self, exit_code: int) -> None:
        self.lightning.finalize("success" if exit_code == 0 else "failed")
