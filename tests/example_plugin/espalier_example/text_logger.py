"""A logger: each row of metrics as a line of a text file in the run folder."""

from collections.abc import Mapping

from trainers.loggers.base import LOGGERS, LoggerConfig, RunLogger


class TextConfig(LoggerConfig):
    """The section `logger`; its keys beside the name may be set on the command line."""

    file: str = "metrics.txt"


@LOGGERS.register("text")
class TextLogger(RunLogger):
    Config = TextConfig

    @classmethod
    def open(cls, config: TextConfig, record, report) -> "TextLogger":
        logger = cls(config, record, report)
        logger.path = record.folder / config.file
        logger.path.write_text("")  # every attempt logs all rows again
        return logger

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        words = " ".join(f"{name}={value:.4g}" for name, value in values.items())
        with self.path.open("a") as file:
            file.write(f"step={step} {words}\n")
