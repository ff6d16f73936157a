"""Trackers: what each is told of a run is read back with the tool of its own kind, resumed runs and failures too."""

import csv
import io
import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_search import CONF, composed
from tracked_runs import as_nobody, nobody

import trainers.loggers.logger_config
from search_spaces.errors import InvalidInputError
from trainers.loggers.csv import CsvTracker
from trainers.loggers.logger import LocalTracker, RunRecord, SteadyTracker, Tracker, make_tracker
from trainers.loggers.logger_config import LOGGERS, check_logger
from trainers.loggers.mlflow import flat

NAMES = sorted(LOGGERS)
ROWS = [(10, {"epoch": 1.0, "train/loss": 2.5}), (20, {"epoch": 2.0, "train/loss": 1.25})]
SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"
MLFLOW = {"name": "mlflow", "uri": None, "experiment": "espalier"}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def record_of(folder: Path) -> RunRecord:
    folder.mkdir(parents=True, exist_ok=True)
    return RunRecord("key", "sweep", "search", ("paper",), {"seed": 0, "trainer": {"steps": 20}}, folder, False)


def tell(tracker: Tracker, folder: Path) -> None:
    """A run of two epochs, from its first row to its end."""
    for step, values in ROWS:
        tracker.metrics(step, values)
    tracker.alert("collapse: entropy", "it fell")
    tracker.table("prune/events", columns=["step", "choice"], rows=[[4.0, "k|5"], [None, "k7"]])
    tracker.picture("arch/alphas", png())
    tracker.picture("architecture/phone", SVG)
    (folder / "result.json").write_text("{}")
    tracker.artifact("result-key", kind="result", files=[folder / "result.json"], parents=["supernet-key"])
    tracker.finish(0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "sweep" / "key"


# Every logger


@pytest.mark.parametrize("name", NAMES)
def test_every_logger_has_its_file_and_its_keys_in_it(name: str) -> None:
    assert {path.stem for path in (CONF / "logger").glob("*.yaml")} == set(NAMES)
    section = composed(f"logger={name}")["logger"]
    assert set(section) == set(LOGGERS[name].model_fields)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mlflow"])  # whose own test takes a whole run
def test_every_logger_takes_a_whole_run_and_leaves_no_link(name: str, run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with as_nobody(tmp_path):
        tell(make_tracker(composed(f"logger={name}")["logger"], record_of(run), said.append), run)
    assert [line for line in said if not line.startswith("W&B: offline")] == []
    assert not any(path.is_symlink() for path in run.rglob("*"))


def test_local_imports_no_tracker_and_leaves_nothing(run: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from trainers.loggers.logger import *\n"
        "record = RunRecord('key', 'sweep', 'search', (), {}, Path(sys.argv[1]), False)\n"
        "make_tracker({'name': 'local'}, record, print).finish(0)\n"
        "print(*{m.split('.')[0] for m in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, run], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"wandb", "mlflow", "tensorboard", "torch", "numpy"} == set()
    assert not run.exists()


# CSV


def lines(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_csv_holds_one_value_a_line_the_tables_and_the_alerts(run: Path) -> None:
    tell(CsvTracker(record_of(run)), run)
    assert lines(run / "csv" / "metrics.csv") == [
        ["run", "step", "metric", "value"],
        *(["key", str(step), name, str(value)] for step, values in ROWS for name, value in values.items()),
    ]
    assert lines(run / "csv" / "prune_events.csv") == [["step", "choice"], ["4.0", "k|5"], ["", "k7"]]
    assert lines(run / "csv" / "alerts.csv") == [["run", "title", "text"], ["key", "collapse: entropy", "it fell"]]
    assert (run / "csv" / "arch_alphas.png").read_bytes() == png()


def test_csv_of_a_run_killed_at_any_byte_holds_each_value_once_when_it_has_gone_on(run: Path) -> None:
    tell(CsvTracker(record_of(run)), run)
    path = run / "csv" / "metrics.csv"
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        resumed = CsvTracker(record_of(run))
        for step, values in ROWS:
            resumed.metrics(step, values)
        assert path.read_bytes() == whole, length


# TensorBoard


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return found


def test_tensorboard_reads_metrics_pictures_and_texts(run: Path, tmp_path: Path) -> None:
    with as_nobody(tmp_path):
        tell(make_tracker({"name": "tensorboard"}, record_of(run), print), run)
    found = events(run)
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(10, 2.5), (20, 1.25)]
    (picture,) = found.Images("arch/alphas")
    assert (picture.width, picture.height) == (6, 4)
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert texts["prune/events/text_summary"] == "|step|choice|\n|---|---|\n|4.0|k\\|5|\n||k7|"
    assert texts["alerts/text_summary"] == "**collapse: entropy**: it fell"
    assert "steps: 20" in texts["config/text_summary"]
    assert "result from supernet-key" in texts["artifacts/result-key/text_summary"]
    assert (run / "tensorboard" / "architecture_phone.svg").read_text() == SVG


def test_tensorboard_of_a_resumed_run_shows_each_step_once(run: Path) -> None:
    for rows in (ROWS, ROWS[1:], ROWS, [*ROWS, *ROWS]):  # attempts that start anew, or are told of what was
        tracker = make_tracker({"name": "tensorboard"}, record_of(run), print)
        for step, values in rows:
            tracker.metrics(step, values)
        tracker.finish(0)
    assert [event.step for event in events(run).Scalars("train/loss")] == [10, 20]


# MLflow


def stored(run: Path) -> tuple[MlflowClient, Run]:
    client = MlflowClient(tracking_uri=f"sqlite:///{run.parent.parent / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "espalier"]
    (found,) = client.search_runs([experiment.experiment_id])
    return client, found


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::DeprecationWarning:sqlalchemy")
def test_mlflow_keeps_one_run_over_attempts_with_its_state_and_files(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with as_nobody(tmp_path):
        first = make_tracker(MLFLOW, record_of(run), said.append)
        first.metrics(*ROWS[0])
        first.finish(130)
        assert stored(run)[1].info.status == "KILLED"
        tell(make_tracker(MLFLOW, record_of(run), said.append), run)
        client, found = stored(run)
        history = client.get_metric_history(found.info.run_id, "train/loss")
    assert said == []
    assert (found.info.status, found.info.run_name) == ("FINISHED", "key")
    assert [(metric.step, metric.value) for metric in history] == [(10, 2.5), (20, 1.25)]
    assert found.data.params == {"seed": "0", "trainer.steps": "20"}
    tags = {"sweep": "sweep", "stage": "search", "tag.paper": "true", "alert.collapse entropy": "it fell"}
    assert tags.items() <= found.data.tags.items()
    kept = Path(found.info.artifact_uri.removeprefix("file://"))
    assert kept.is_relative_to(run.parent.parent)
    assert (kept / "tables/prune/events.csv").read_text() == "step,choice\n4.0,k|5\n,k7\n"
    assert (kept / "pictures/arch/alphas.png").read_bytes() == png()
    assert (kept / "pictures/architecture/phone.svg").read_text() == SVG
    assert (kept / "result/result-key/result.json").read_text() == "{}"
    assert json.loads((kept / "result/result-key/lineage.json").read_text()) == {
        "kind": "result",
        "parents": ["supernet-key"],
    }


def test_mlflow_that_cannot_be_reached_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket() as nobody_there:
        nobody_there.bind(("127.0.0.1", 0))  # and it does not listen
        server = f"http://127.0.0.1:{nobody_there.getsockname()[1]}"
        for uri in (f"sqlite:///{tmp_path}/file/mlflow.db", server):
            with pytest.raises(InvalidInputError, match=rf"logger=mlflow: {uri} refused the run: .*set logger\.uri"):
                check_logger(MLFLOW | {"uri": uri})


def test_nested_settings_have_flat_names() -> None:
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": {}}) == {"a.b.c": 1, "a.d": [2], "e": {}}


# What cannot be used, and what fails


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, ["logger.name: got None, allowed: local, csv, tensorboard, mlflow, wandb"]),
        ({"name": "wanbd"}, ["logger.name: got 'wanbd'"]),
        ({"name": "csv", "project": "x"}, ["logger.project: got 'x'"]),
        (
            {"name": "wandb", "project": "a/b", "entity": 3, "mode": "quiet"},
            ["logger.project: got 'a/b'", "logger.entity: got 3", "logger.mode: got 'quiet'"],
        ),
        ({"name": "mlflow"}, ["logger.uri: got nothing", "logger.experiment: got nothing"]),
    ],
)
def test_a_wrong_section_is_refused_with_every_wrong_key(section: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InvalidInputError) as error:
        check_logger(section)
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_refused_with_the_extra_that_has_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> ModuleSpec | None:
        assert package == name
        return None

    monkeypatch.setattr(trainers.loggers.logger_config, "find_spec", absent)
    with pytest.raises(InvalidInputError, match=rf"not installed: pip install 'espalier\[{name}\]'"):
        check_logger(composed(f"logger={name}")["logger"])


class Failing(LocalTracker):
    """A service that goes away after the first row."""

    def __init__(self) -> None:
        self.rows = 0

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.rows += 1
        if self.rows == 2:
            raise ConnectionError("the service has gone")


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(run: Path) -> None:
    said: list[str] = []
    failing = Failing()
    run.mkdir(parents=True)
    tell(SteadyTracker(failing, said.append), run)
    assert said == ["the logger failed and is left out from here: ConnectionError: the service has gone"]
    assert failing.rows == 2


def test_mlflow_asks_no_network_when_no_server_is_named(run: Path, tmp_path: Path) -> None:
    script = (
        "import socket, sys, warnings\n"
        "from pathlib import Path\n"
        "from trainers.loggers.logger import RunRecord, make_tracker\n"
        "warnings.simplefilter('ignore')\n"
        "asked = []\n"
        "def refuse(*address, **more):\n"
        "    asked.append(address)\n"
        "    raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "folder = Path(sys.argv[1])\n"
        "folder.mkdir(parents=True)\n"
        "record = RunRecord('key', 'sweep', 'search', (), {}, folder, False)\n"
        "tracker = make_tracker({'name': 'mlflow', 'uri': None, 'experiment': 'espalier'}, record, print)\n"
        "tracker.metrics(1, {'loss': 1.0})\n"
        "tracker.finish(0)\n"
        "print(asked)\n"
    )
    command = [sys.executable, "-c", script, run]
    # Without what tells MLflow that this is a test, of which it would keep silent.
    environment = {name: text for name, text in nobody(tmp_path).items() if name in ("HOME", "PATH", "PYTHONPATH")}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
