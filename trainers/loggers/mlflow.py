"""A run in an MLflow store: a SQLite file beside the sweeps, or the server that the user names."""

import csv
import io
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it else reports to its makers once it is imported
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # it else waits minutes for a server that is gone
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image
from pydantic import Field
from pytorch_lightning.loggers import MLFlowLogger

from search_spaces.errors import InvalidInputError
from trainers.loggers.base import Cell, LoggerConfig, RunRecord
from trainers.loggers.identity import keep_id, known_id
from trainers.loggers.lightning import LightningRunLogger
from trainers.runs import metric_names
from trainers.search.callbacks import Report

KILLED = (130, 143)


class MlflowConfig(LoggerConfig):
    """The meaning of each key stands in conf/logger/mlflow.yaml."""

    uri: Annotated[str, Field(min_length=1)] | None
    experiment: Annotated[str, Field(min_length=1)]

    @property
    def named_uri(self) -> str | None:
        return self.uri or os.environ.get("MLFLOW_TRACKING_URI") or None


class MlflowRunLogger(LightningRunLogger):
    """Tables, pictures and artifacts are MLflow's artifacts; alerts are tags."""

    Config = MlflowConfig

    def __init__(self, config: MlflowConfig, record: RunRecord, report: Report) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        runs = record.folder.resolve().parent.parent
        uri = config.named_uri or f"sqlite:///{runs / 'mlflow.db'}"
        self.client = _client(uri)
        try:
            _make_experiment(self.client, config.experiment, None if config.named_uri else (runs / "mlflow").as_uri())
            known = _reopened(self.client, known_id(record.folder, "mlflow"))
            tags = {"sweep": record.group, "stage": record.job_type, **{f"tag.{tag}": "true" for tag in record.tags}}
            lightning = MLFlowLogger(config.experiment, record.name, tracking_uri=uri, tags=tags, run_id=known)
            super().__init__(lightning, record)
            self.run = str(lightning.run_id)
            if known is None:
                lightning.log_hyperparams(record.config)
                keep_id(record.folder, "mlflow", self.run)
            self.last_step = int(self.client.get_run(self.run).data.metrics.get(metric_names.STEP, 0))
        except (MlflowException, OSError) as error:
            raise _refusal(uri, error) from error

    @classmethod
    def check(cls, config: MlflowConfig, *, tags: Sequence[str]) -> None:
        if config.named_uri is not None:  # the default store is made with the run
            _client(config.named_uri)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step > self.last_step:  # that an earlier attempt logged
            super().metrics(step, {**values, metric_names.STEP: step})

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
        self.client.log_text(self.run, buffer.getvalue(), f"tables/{name}.csv")

    def picture(self, name: str, content: bytes | str) -> None:
        if isinstance(content, str):
            self.client.log_text(self.run, content, f"pictures/{name}.svg")
        else:
            self.client.log_image(self.run, Image.open(io.BytesIO(content)), f"pictures/{name}.png")

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        for path in files:
            place = Path(kind, name, path.relative_to(self.record.folder)).parent
            self.client.log_artifact(self.run, str(path), place.as_posix())
        self.client.log_dict(self.run, {"kind": kind, "parents": list(parents)}, f"{kind}/{name}/lineage.json")

    def alert(self, title: str, text: str) -> None:
        self.client.set_tag(self.run, f"alert.{title}".replace(":", ""), text)

    def finish(self, exit_code: int) -> None:
        self.client.set_tag(self.run, "exit_code", str(exit_code))
        self.lightning.finalize("KILLED" if exit_code in KILLED else "FAILED" if exit_code else "FINISHED")


def _client(uri: str) -> MlflowClient:
    """A client of a store that has answered. Raises: InvalidInputError if it does not."""
    try:
        with warnings.catch_warnings():
            # MLflow 3.17 asks SQLAlchemy 2.1 in a way that a later one will not answer.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            client = MlflowClient(tracking_uri=uri)
            client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        raise _refusal(uri, error) from error
    return client


def _refusal(uri: str, error: Exception) -> InvalidInputError:
    return InvalidInputError(f"logger.uri: {uri} refused the run: {error}; set it to a store that answers")


def _make_experiment(client: MlflowClient, name: str, artifacts: str | None) -> None:
    """Makes a new experiment here, with the place of its artifacts."""
    if client.get_experiment_by_name(name) is None:
        with suppress(MlflowException):  # another job was first
            client.create_experiment(name, artifact_location=artifacts)


def _reopened(client: MlflowClient, run: str | None) -> str | None:
    """The run of an earlier attempt, if this store has it; it runs again then."""
    try:
        if run is not None:
            client.update_run(run, status="RUNNING")
    except MlflowException:  # another store has it
        return None
    return run
