"""`espalier-status`: what became of each run and why, the commands that finish the open, an exit code for scripts."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import keys_of
from tests.sample_result import sample_result
from trainers.cli.status import main
from trainers.runs.state import FINISHED
from trainers.sweeps import sweep
from trainers.sweeps.records import FILE, Job, Sweep
from trainers.sweeps.survey import exit_code, survey
from trainers.sweeps.sweep import begin_sweep, end_sweep

RESULT = sample_result() | {"files": {}}
RESULT["objective"]["validation_accuracy"] = 0.5
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def write_run(folder: Path, state: str, **fields: Any) -> Path:
    """A run folder as a search leaves it; of another machine, so that no process of this one is asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        **{"status": state, "pid": 77, "host": "another", "attempt": 1, "command": f"espalier-search {folder.name}"},
        **{"started": (NOW - timedelta(seconds=90)).isoformat(), "heartbeat": NOW.isoformat()},
        **{"pid_start": None, "progress": None, "error": None, "hashes": {}, "code": {}, "versions": {}},
        **fields,
    }
    (folder / "status.json").write_text(json.dumps(content), encoding="utf-8")
    if state in FINISHED:
        (folder / "result.json").write_text(json.dumps(RESULT), encoding="utf-8")
    return folder


Status = Callable[..., tuple[int, str, str]]  # exit code, output, errors


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Status:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["espalier-status", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, captured.out, captured.err

    return call


@pytest.fixture(autouse=True)
def no_sweep_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(sweep.VARIABLE, raising=False)


def test_runs_are_distinguished_with_reasons_and_the_commands_of_the_open(tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "a", "done", progress={"epoch": 8, "epochs": 8})
    write_run(tmp_path / "s" / "b", "failed", error="the weights loss is nan", attempt=2)
    write_run(tmp_path / "s" / "c", "running", progress={"epoch": 3, "epochs": 8})
    write_run(tmp_path / "s" / "d", "running", heartbeat=(NOW - timedelta(seconds=121)).isoformat())
    write_run(tmp_path / "s" / "e", "infeasible", error="gflops: the smallest network needs 2")
    rows, commands = survey(tmp_path, now=NOW + timedelta(seconds=7))
    assert [(row.run, row.state) for row in rows] == [
        *(("s/a", "done"), ("s/b", "failed"), ("s/c", "running"), ("s/d", "interrupted"), ("s/e", "infeasible"))
    ]
    done, failed, running, lost, infeasible = rows
    assert (done.accuracy, done.met, done.devices, done.seconds) == (0.5, 2, 2, 90)
    assert (failed.reason, failed.attempt) == ("the weights loss is nan", 2)
    assert (running.epoch, running.epochs, running.seconds) == (3, 8, 7)  # since its last sign
    assert lost.reason is not None and "128 s" in lost.reason
    assert infeasible.reason == "gflops: the smallest network needs 2"
    assert commands == ["espalier-search b", "espalier-search d"]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("done", "stopped"), 0),
        (("done", "unmet"), 3),
        (("unmet", "running", "queued"), 3),
        (("done", "queued"), 4),
        (("unmet", "infeasible"), 2),
        (("infeasible", "failed", "unmet"), 1),
        (("done", "interrupted"), 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_exit_code_is_that_of_the_worst_run(tmp_path: Path, states: tuple[str, ...], code: int) -> None:
    for number, state in enumerate(states):
        write_run(tmp_path / str(number), state)
    assert exit_code(survey(tmp_path, now=NOW)[0]) == code


def test_a_finished_run_that_has_lost_a_network_is_to_be_repeated(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "done")
    listed = {"architectures/x.json": "0", "weights/x.safetensors": "1"}
    (run / "result.json").write_text(json.dumps({**RESULT, "files": listed}), encoding="utf-8")
    (run / "architectures").mkdir()
    (run / "architectures" / "x.json").touch()
    (row,), commands = survey(tmp_path, now=NOW)
    assert (row.state, row.reason) == ("unreadable", "missing: weights/x.safetensors")
    assert commands == ["espalier-search a"]


def test_the_command_answers_in_plain_aligned_lines_and_without_torch(status: Status, tmp_path: Path) -> None:
    write_run(tmp_path / "short", "done")
    write_run(tmp_path / "a-longer-name", "failed", error="first line\n  second \x1b[2J line")
    code, output, errors = status(tmp_path)
    assert (code, errors) == (1, "")
    header, first, second, counts, command = output.splitlines()
    columns = ("run", "overrides", "state", "epoch", "attempt", "time", "val acc", "met", "reason")
    assert header.split() == " ".join(columns).split()
    assert first.split()[:2] == ["a-longer-name", "failed"] and first.endswith("first line second �[2J line")
    assert first.index("failed") == second.index("done") == header.index("state")
    assert counts == "1 failed, 1 done"
    assert command == "repeat  espalier-search a-longer-name"
    script = "import sys; sys.argv = ['espalier-status', 'none']\nfrom trainers.cli.status import main\n"
    script += "try:\n    main()\n"
    script += "except SystemExit:\n    print(set(sys.modules) & {'torch', 'numpy', 'hydra', 'rich'})"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_json_holds_what_the_table_shows(status: Status, tmp_path: Path) -> None:
    write_run(tmp_path / "s" / "a", "failed", error="line\nline")
    code, output, _ = status("--json", tmp_path)
    content = json.loads(output)
    [run] = content["runs"]
    assert (code, run["run"], run["state"], run["reason"]) == (1, "s/a", "failed", "line\nline")
    assert content["commands"] == ["espalier-search a"]


@pytest.mark.parametrize("folder", ["nowhere", "."])
def test_a_folder_without_runs_is_refused(status: Status, tmp_path: Path, folder: str) -> None:
    code, output, errors = status(tmp_path / folder)
    assert (code, output, errors.count("\n")) == (2, "", 1)


# A sweep


def swept(folder: Path, *jobs: str) -> None:
    """A sweep that has ended, with a run folder for each job, named after its number."""
    listed = [Job(overrides=["strategy=pool", *job.split()], folder=f"key{n}") for n, job in enumerate(jobs)]
    begin_sweep(folder, command="espalier-search -m all", launcher="basic", jobs=listed)
    for job in listed:
        write_run(folder / str(job.folder), "done")
    end_sweep()


def test_a_run_is_shown_with_the_overrides_that_tell_it_from_the_rest_of_its_sweep(
    tmp_path: Path,
) -> None:
    swept(tmp_path / "s", *(f"optimizer.lr={lr} seed={seed}" for lr in (0.1, 0.03) for seed in (0, 1)))
    swept(tmp_path / "alone", "seed=7")
    write_run(tmp_path / "s" / "earlier", "done")
    assert {row.run: row.overrides for row in survey(tmp_path)[0]} == {
        "alone/key0": None,
        "s/earlier": None,
        "s/key0": "optimizer.lr=0.1 seed=0",
        "s/key1": "optimizer.lr=0.1 seed=1",
        "s/key2": "optimizer.lr=0.03 seed=0",
        "s/key3": "optimizer.lr=0.03 seed=1",
    }


def test_long_overrides_are_cut_in_the_table_to_what_they_set_and_whole_in_json(status: Status, tmp_path: Path) -> None:
    long = [f"space.widths=[[16,24],[24,40],[40,64],[64,96],[96,{width}]]" for width in (128, 160)]
    swept(tmp_path / "s", *long)
    swept(tmp_path / "t", *(f"hardware.iot_terminal.budgets.latency_ms={ms} seed={ms}" for ms in (1, 27)))
    runs = json.loads(status("--json", tmp_path)[1])["runs"]
    assert [run["overrides"] for run in runs][:2] == long
    shown = status(tmp_path)[1]
    assert f"…{long[0].removeprefix('space.')[:38]}…  done" in shown and long[0] not in shown
    assert "…latency_ms=1 seed=1 " in shown and "…latency_ms=27 seed=27 " in shown


def test_runs_that_no_sweep_tells_of_any_more_are_distinguished_by_their_commands(tmp_path: Path) -> None:
    for lr in ("0.1", "0.03"):
        write_run(tmp_path / "s" / lr, "done", command=f"espalier-search optimizer.lr={lr} seed=1")
    assert [row.overrides for row in survey(tmp_path)[0]] == ["optimizer.lr=0.03", "optimizer.lr=0.1"]


# Files from elsewhere

FIELDS = ("status", "pid", "pid_start", "attempt", "heartbeat", "started", "progress", "error", "host", "code")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_status_file_is_read_or_named_with_its_field(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", "running", **{field: value})
    [row], _ = survey(folder, now=NOW)
    if row.state == "unreadable":
        assert row.reason is not None and f"\n  {field}" in row.reason


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(field=st.sampled_from(sorted(Sweep.model_fields)), value=JSON)
def test_any_sweep_file_is_read_or_named_with_its_field(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    begin_sweep(folder, command="all", launcher="basic", jobs=[Job(overrides=[], folder="key0")])
    end_sweep()
    write_run(folder / "key0", "failed")
    content = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps(content | {field: value}))
    rows, _ = survey(folder, now=NOW)
    assert [row for row in rows if row.state == "unreadable" and f"  {field}" not in str(row.reason)] == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 5000, b"null", b'{"status": "done"}'])
def test_a_torn_file_is_a_row_of_its_own(tmp_path: Path, content: bytes) -> None:
    write_run(tmp_path / "a", "done")
    (tmp_path / "a" / "result.json").write_bytes(content)
    write_run(tmp_path / "b", "done")
    (tmp_path / "b" / "status.json").write_bytes(content)
    (tmp_path / "sweep.json").write_bytes(content)
    rows, commands = survey(tmp_path, now=NOW)
    assert [(row.run, row.state) for row in rows] == [(name, "unreadable") for name in ("a", "b", "sweep.json")]
    assert exit_code(rows) == 1 and commands == ["espalier-search a"]


def test_a_malformed_result_is_unreadable_by_its_field(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "done")
    (run / "result.json").write_text(json.dumps({**RESULT, "objective": {"seconds": "1"}}), encoding="utf-8")
    [row], _ = survey(tmp_path, now=NOW)
    assert row.state == "unreadable" and keys_of(str(row.reason)) == ("objective.seconds",)
