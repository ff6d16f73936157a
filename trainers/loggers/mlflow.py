"""The run in an MLflow store: a SQLite file beside the sweeps, or the server that the user names."""

import csv
import io
import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it else reports to its makers once it is imported

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.async_logging.run_operations import RunOperations

from search_spaces.errors import InvalidInputError
from trainers.loggers.identity import keep_id, known_id
from trainers.loggers.logger import Cell, RunRecord, Tracker
from trainers.loggers.logger_config import MlflowConfig
from trainers.runs import metric_names

MAX_PARAMETERS = 100  # of MLflow, in one request
KILLED = (130, 143)


class MlflowTracker(Tracker):
    """Metrics go out in the background; tables, pictures and artifacts are MLflow's artifacts."""

    def __init__(self, config: MlflowConfig, record: RunRecord) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.record = record
        self.pending: list[RunOperations] = []
        uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        runs = record.folder.resolve().parent.parent
        self.client = open_store(uri or f"sqlite:///{runs / 'mlflow.db'}")
        try:
            experiment = _experiment(self.client, config.experiment, None if uri else (runs / "mlflow").as_uri())
            self.run = self._continued() or self._created(experiment)
            self.last_step = int(self.client.get_run(self.run).data.metrics.get(metric_names.STEP, -1))
        except (MlflowException, OSError) as error:
            raise _refusal(uri or str(runs), error) from error

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        if step <= self.last_step:
            return
        now = int(time.time() * 1000)
        told = {**values, metric_names.STEP: step}
        metrics = [Metric(name, float(value), now, step) for name, value in told.items()]
        operations = self.client.log_batch(self.run, metrics, synchronous=False)
        assert operations is not None
        self.pending.append(operations)
        self.last_step = step

    def table(self, name: str, *, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
        self.client.log_text(self.run, buffer.getvalue(), f"tables/{name}.csv")

    def picture(self, name: str, content: bytes | str) -> None:
        if isinstance(content, str):
            self.client.log_text(self.run, content, f"pictures/{name}.svg")
            return
        with TemporaryDirectory() as folder:  # the client takes bytes from a file only
            path = Path(folder, f"{Path(name).name}.png")
            path.write_bytes(content)
            self.client.log_artifact(self.run, str(path), Path("pictures", name).parent.as_posix())

    def artifact(self, name: str, *, kind: str, files: Sequence[Path], parents: Sequence[str]) -> None:
        for path in files:
            place = Path(kind, name, path.relative_to(self.record.folder)).parent
            self.client.log_artifact(self.run, str(path), place.as_posix())
        self.client.log_dict(self.run, {"kind": kind, "parents": list(parents)}, f"{kind}/{name}/lineage.json")

    def alert(self, title: str, text: str) -> None:
        self.client.set_tag(self.run, f"alert.{title}".replace(":", ""), text)

    def finish(self, exit_code: int) -> None:
        for operations in self.pending:
            operations.wait()
        state = "FINISHED" if exit_code == 0 else "KILLED" if exit_code in KILLED else "FAILED"
        self.client.set_tag(self.run, "exit_code", str(exit_code))
        self.client.set_terminated(self.run, state)

    def _continued(self) -> str | None:
        """The run that an earlier attempt opened, if this store has it."""
        known = known_id(self.record.folder, "mlflow")
        if known is None:
            return None
        try:
            self.client.update_run(known, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return known

    def _created(self, experiment: str) -> str:
        record = self.record
        tags = {"sweep": record.group, "stage": record.job_type, **{f"tag.{tag}": "true" for tag in record.tags}}
        run = self.client.create_run(experiment, run_name=record.name, tags=tags).info.run_id
        assert isinstance(run, str)
        parameters = [Param(key, str(value)) for key, value in flat(record.config).items()]
        for start in range(0, len(parameters), MAX_PARAMETERS):
            self.client.log_batch(run, params=parameters[start : start + MAX_PARAMETERS])
        keep_id(record.folder, "mlflow", run)
        return run


def open_store(uri: str) -> MlflowClient:
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


def _refusal(place: str, error: Exception) -> InvalidInputError:
    return InvalidInputError(f"logger=mlflow: {place} refused the run: {error}; set logger.uri to a store that answers")


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    """The experiment's id; made here if it is new, unless another process is first."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
            assert found is not None
    return str(found.experiment_id)


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings under their keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found
