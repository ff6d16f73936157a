"""The dashboard: built without a network, every section there, nothing drawn that no search logs."""

import json
import re
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import vl_convert
import yaml
from logged_runs import nobody
from tiny_search import CONF

from tests.sample_result import RUN
from trainers.analysis.loading import load_run
from trainers.cli.dashboard_command import main
from trainers.runs import metric_names

with warnings.catch_warnings():
    # wandb-workspaces 0.4 declares its fields as pydantic 1 did.
    warnings.simplefilter("ignore", category=DeprecationWarning)
    from trainers.loggers.dashboard import CHARTS, build_dashboard, chart_name, charts, specification

COMMAND = Path(sys.executable).parent / "espalier-dashboard"
DEVICES = ("phone", "tablet")
SECTIONS = {  # what each must hold, as W&B calls its panels
    "Verdict": {"Scalar Chart", "Vega2", "Weave"},
    "Cost of each device against its budget": {"Run History Line Plot"},
    "Entropy": {"Run History Line Plot"},
    "Heat map and architectures": {"Media Browser"},
    "Pruning": {"Run History Line Plot", "Weave", "Vega2"},
    "Collapse alarm": {"Run History Line Plot", "Bar Chart"},
    "Accuracy and latency": {"Scatter Plot", "Vega2"},
    "Parallel coordinates": {"Parallel Coordinates Plot", "Parameter Importance"},
    "Run comparer": {"Run Comparer"},
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*address: Any) -> None:
        raise AssertionError(f"a connection to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def sections(no_network: None) -> dict[str, list[dict[str, Any]]]:
    """Panels of each section of the dashboard of two devices."""
    workspace = build_dashboard("team", "project", devices=DEVICES, metrics=["latency_ms", "gflops"])
    bank = specification(workspace)["spec"]["section"]["panelBankConfig"]
    return {section["name"]: section["panels"] for section in bank["sections"] if section["panels"]}


def test_every_section_is_there_in_order_with_its_panels(sections: dict[str, list[dict[str, Any]]]) -> None:
    assert list(sections) == list(SECTIONS)
    assert {name: {panel["viewType"] for panel in panels} for name, panels in sections.items()} == SECTIONS


def test_panels_draw_what_a_search_logs_of_each_device(sections: dict[str, list[dict[str, Any]]]) -> None:
    def drawn(section: str, key: str) -> list[Any]:
        return [panel["config"][key] for panel in sections[section] if key in panel["config"]]

    assert drawn("Cost of each device against its budget", "metrics") == [
        [f"hw/{device}/{metric}_{kind}" for kind in ("expected", "worst", "budget")]
        for metric in ("latency_ms", "gflops")
        for device in DEVICES
    ]
    pictures = [["arch/alphas"], ["architecture/phone", "architecture/tablet"]]
    assert drawn("Heat map and architectures", "mediaKeys") == pictures
    alarms = {name for names in drawn("Collapse alarm", "metrics") for name in names}
    assert {"arch/skip_connect_share", "arch/none_share", "val/acc"} <= alarms
    axes = zip(drawn("Accuracy and latency", "xAxis"), drawn("Accuracy and latency", "yAxis"), strict=True)
    assert list(axes) == [
        (f"summary:result/{device}/latency_ms", f"summary:result/{device}/accuracy_finetuned") for device in DEVICES
    ]


# Charts that W&B lacks: in the data, `wandb` is the table, and ${field:...} one of its columns.


def table_of(name: str) -> list[dict[str, Any]]:
    """Rows of the table of a chart, as a finished run has them."""
    run = load_run(RUN)
    frame = run.devices if CHARTS[name][0] == metric_names.ARCHITECTURES else run.prunes
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
    return rows


@pytest.mark.parametrize(("name", "marks"), [("utilisation", 2), ("accuracy_latency", 2), ("pruning", 2)])
def test_a_chart_is_drawn_by_vega_from_the_table_that_a_search_logs(name: str, marks: int) -> None:
    rows, fields = table_of(name), CHARTS[name][1]
    assert set(fields.values()) <= set(rows[0])
    text = json.dumps(charts()[chart_name(name)])
    asked = set(re.findall(r"\$\{field:(\w+)\}", text))
    assert asked == set(fields)
    for field, column in fields.items():
        text = text.replace(f"${{field:{field}}}", column)
    drawn = json.loads(text)
    drawn["data"] = {"values": rows}
    picture = vl_convert.vegalite_to_svg(drawn, vl_version="5.21")
    groups = re.findall(r'aria-roledescription="(bar|point|line mark)"', picture)
    assert len(groups) >= marks, picture


def test_every_chart_is_in_the_dashboard_under_a_name_that_changes_with_it(
    sections: dict[str, list[dict[str, Any]]],
) -> None:
    drawn = [panel["config"] for panels in sections.values() for panel in panels if panel["viewType"] == "Vega2"]
    assert {config["panelDefId"] for config in drawn} == {f"team/{name}" for name in charts()}
    assert all(re.fullmatch(r"espalier-[a-z-]+-[0-9a-f]{8}", name) for name in charts())


# The command


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, captured.out, captured.err


def test_build_prints_the_dashboard_of_a_plain_searchs_devices(
    capsys: pytest.CaptureFixture[str], no_network: None
) -> None:
    code, output, errors = said(capsys, "build")
    assert (code, errors) == (0, "")
    content = json.loads(output)
    assert set(content["charts"]) == set(charts())
    defaults = yaml.safe_load((CONF / "search.yaml").read_text())["defaults"]
    for device in next(entry["hardware"] for entry in defaults if "hardware" in entry):
        assert f"hw/{device}/latency_ms_budget" in output


def test_build_writes_a_file_for_the_devices_and_metrics_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "dashboard.json"
    arguments = ("me/mine", "--devices", "pixel6", "--metrics", "peak_memory_mb", "--output", str(path))
    assert said(capsys, "build", *arguments)[0] == 0
    content = json.loads(path.read_text())
    assert (content["workspace"]["entity"], content["workspace"]["project"]) == ("me", "mine")
    assert "hw/pixel6/peak_memory_mb_worst" in path.read_text() and "latency_ms_worst" not in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "build|push"),
        (("push",), "ENTITY/PROJECT"),
        (("push", "project-alone"), "'project-alone'"),
        (("build", "--metrics", "watts"), "--metrics: "),
        (("build", "--output", "/nowhere/at/all.json"), "--output: "),
    ],
)
def test_wrong_input_is_refused_with_its_name(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    code, output, errors = said(capsys, *arguments)
    assert (code, output) == (2, "")
    assert words in errors and "Traceback" not in errors


def test_push_without_a_key_is_refused_without_a_prompt_and_says_what_to_do(tmp_path: Path) -> None:
    done = run_command(tmp_path, "push", "team/project")
    assert (done.returncode, done.stdout) == (2, "")
    assert "wandb login" in done.stderr


def run_command(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings: dict[str, Any] = {"env": nobody(home) | environment, "stdin": subprocess.DEVNULL}
    return subprocess.run([COMMAND, *arguments], **surroundings, capture_output=True, text=True)


class Server(BaseHTTPRequestHandler):
    """Answers as W&B's GraphQL does to what a push asks of it; keeps what it was sent."""

    sent: list[dict[str, Any]]

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        except ValueError:  # a report of W&B on itself
            self.send_error(404)
            return
        self.sent.append(body)
        view = {"view": {"id": "1", "name": "nw-seen-v"}, "inserted": True}
        data = {"upsertView": view, "createCustomChart": {"chart": {"id": "1"}}}
        data["viewer"] = {"id": "1", "username": "me", "entity": "me", "flags": "{}"}
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Server.sent = []
    with HTTPServer(("127.0.0.1", 0), Server) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.mark.slow
def test_push_sends_the_charts_and_the_view_that_build_shows(server: HTTPServer, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    key = {"WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}
    done = run_command(tmp_path, "push", "me/mine", "--devices", "pixel6", WANDB_BASE_URL=address, **key)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{address}/me/mine?nw=seen\n"
    sent = [body.get("variables") or {} for body in Server.sent]
    charts_sent = {
        variables["chartName"]: json.loads(variables["spec"]) for variables in sent if "chartName" in variables
    }
    assert charts_sent == charts()
    (view,) = [variables for variables in sent if "displayName" in variables and "chartName" not in variables]
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "mine", "Espalier")
    named = [section["name"] for section in json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]]
    assert [name for name in named if name in SECTIONS] == list(SECTIONS)
