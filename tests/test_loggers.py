"""Loggers: what each gets of a run is read back with the tool of its own kind, resumed runs and failures too."""

import csv
import json
import socket
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from logged_runs import ROWS, SVG, KeptLogger, as_nobody, log_all, nobody, png, record_of
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_search import CONF, composed

from search_spaces.errors import InvalidInputError
from trainers.loggers.base import LOGGERS, SteadyRunLogger, check_logger, make_logger

NAMES = sorted(point.name for point in entry_points(group="espalier.loggers"))
MLFLOW = {"name": "mlflow", "uri": None, "experiment": "espalier"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "sweep" / "key"


# Every logger


@pytest.mark.parametrize("name", NAMES)
def test_every_logger_has_its_file_and_its_keys_in_it(name: str) -> None:
    assert {path.stem for path in (CONF / "logger").glob("*.yaml")} == set(NAMES)
    assert set(composed(f"logger={name}")["logger"]) == set(LOGGERS[name].Config.model_fields)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("mlflow", "wandb")])  # have their own test
def test_every_logger_takes_a_whole_run_and_leaves_no_link(name: str, run: Path) -> None:
    said: list[str] = []
    log_all(make_logger(composed(f"logger={name}")["logger"], record_of(run), said.append), run)
    assert said == []
    assert not any(path.is_symlink() for path in run.rglob("*"))


def test_local_imports_nothing_heavy_and_leaves_nothing(run: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from trainers.loggers.base import *\n"
        "record = RunRecord('key', 'sweep', 'search', (), {}, Path(sys.argv[1]))\n"
        "make_logger({'name': 'local'}, record, print).finish(0)\n"
        "print(*{m.split('.')[0] for m in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", script, run], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"wandb", "mlflow", "tensorboard", "torch", "numpy"} == set()
    assert not run.exists()


# CSV


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_holds_one_value_a_line_the_tables_and_the_alerts_after_a_killed_attempt_too(run: Path) -> None:
    killed = make_logger({"name": "csv"}, record_of(run), print)
    killed.metrics(*ROWS[0])
    killed.alert("infeasible", "for now")
    (run / "csv" / "metrics.csv").write_text("run,step\nke")
    log_all(make_logger({"name": "csv"}, record_of(run), print), run)
    assert lines(run / "csv" / "metrics.csv") == [
        {"run": "key", "step": str(step), "metric": name, "value": str(value)}
        for step, values in ROWS
        for name, value in values.items()
    ]
    assert lines(run / "csv" / "prune_events.csv") == [
        {"step": "4.0", "choice": "k|5"},
        {"step": "", "choice": "k7"},
    ]
    assert [line["title"] for line in lines(run / "csv" / "alerts.csv")] == ["infeasible", "collapse: entropy"]
    assert (run / "csv" / "arch_alphas.png").read_bytes() == png()


# TensorBoard


def test_tensorboard_reads_metrics_pictures_and_texts_and_each_step_of_a_resumed_run_once(run: Path) -> None:
    for _ in range(2):
        log_all(make_logger({"name": "tensorboard"}, record_of(run), print), run)
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("train/loss")] == [(10, 2.5), (20, 1.25)]
    (picture,) = found.Images("arch/alphas")
    assert (picture.width, picture.height) == (6, 4)
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert texts["prune/events/text_summary"] == "|step|choice|\n|---|---|\n|4.0|k\\|5|\n||k7|"
    assert texts["alerts/text_summary"] == "**collapse: entropy**: it fell"
    assert "steps: 20" in texts["config/text_summary"]
    assert "result from supernet-key" in texts["artifacts/result-key/text_summary"]
    assert (run / "tensorboard" / "architecture_phone.svg").read_text() == SVG


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
        first = make_logger(MLFLOW, record_of(run), said.append)
        first.metrics(*ROWS[0])
        first.finish(130)
        assert stored(run)[1].info.status == "KILLED"
        log_all(make_logger(MLFLOW, record_of(run), said.append), run)
        client, found = stored(run)
        history = client.get_metric_history(found.info.run_id, "train/loss")
    assert said == []
    assert (found.info.status, found.info.run_name) == ("FINISHED", "key")
    assert [(metric.step, metric.value) for metric in history] == [(10, 2.5), (20, 1.25)]
    assert found.data.params == {"seed": "0", "trainer/steps": "20"}
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
            with pytest.raises(InvalidInputError) as error:
                check_logger(MLFLOW | {"uri": uri})
            assert error.value.fields == ("logger.uri",)


@pytest.mark.slow
def test_mlflow_asks_no_network_when_no_server_is_named(run: Path, tmp_path: Path) -> None:
    script = (
        "import socket, sys, warnings\n"
        "from pathlib import Path\n"
        "from trainers.loggers.base import RunRecord, make_logger\n"
        "warnings.simplefilter('ignore')\n"
        "asked = []\n"
        "def refuse(*address, **more):\n"
        "    asked.append(address)\n"
        "    raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "folder = Path(sys.argv[1])\n"
        "folder.mkdir(parents=True)\n"
        "record = RunRecord('key', 'sweep', 'search', (), {}, folder)\n"
        "logger = make_logger({'name': 'mlflow', 'uri': None, 'experiment': 'espalier'}, record, print)\n"
        "logger.metrics(1, {'loss': 1.0})\n"
        "logger.finish(0)\n"
        "print(asked)\n"
    )
    command = [sys.executable, "-c", script, run]
    # Without what tells MLflow that this is a test, of which it would keep silent.
    environment = {name: text for name, text in nobody(tmp_path).items() if name in ("HOME", "PATH", "PYTHONPATH")}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


# What cannot be used, and what fails


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ({}, ("logger.name",)),
        ({"name": "wanbd"}, ("logger.name",)),
        ({"name": "csv", "project": "x"}, ("logger.project",)),
        ({"name": "kept", "project": "x"}, ("logger.project",)),
        (
            {"name": "wandb", "project": "a/b", "entity": 3, "mode": "quiet"},
            ("logger.project", "logger.entity", "logger.mode"),
        ),
        ({"name": "mlflow"}, ("logger.uri", "logger.experiment")),
    ],
)
def test_a_wrong_section_is_refused_with_every_wrong_key(section: dict[str, Any], fields: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError) as error:
        check_logger(section)
    assert error.value.fields == fields


def test_an_unknown_logger_is_refused_with_the_names_that_there_are_plugged_in_ones_too() -> None:
    with pytest.raises(InvalidInputError) as error:
        check_logger({"name": "wanbd"})
    assert [name for name in (*NAMES, "kept") if name not in str(error.value)] == []


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_refused_with_the_extra_that_has_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.startswith((f"{name}.", f"torch.utils.{name}", "trainers.loggers."))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(LOGGERS, "_loaded", {})
    with pytest.raises(InvalidInputError, match=rf"pip install 'espalier\[{name}\]'"):
        check_logger(composed(f"logger={name}")["logger"])


class GoneLogger(KeptLogger):
    """A service that goes away after the first row."""

    def metrics(self, step: int, values: Any) -> None:
        if self.rows:
            raise ConnectionError("the service has gone")
        super().metrics(step, values)


def test_a_logger_that_fails_is_reported_once_and_the_run_goes_on(run: Path) -> None:
    said: list[str] = []
    gone = GoneLogger(None, record_of(run), said.append)
    log_all(SteadyRunLogger(gone, said.append), run)
    assert len(said) == 1 and "ConnectionError: the service has gone" in said[0]
    assert (gone.rows, gone.tables, gone.exit_codes) == (ROWS[:1], {}, [])
