"""Run folders: each file whole or as it was, and a result only from a run that finished."""

import csv
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import trainers.runs.folder
from search_spaces.errors import InvalidInputError
from tests.sample_result import sample_result, typed
from trainers.runs.exit_status import RunFolderError, RunInUseError
from trainers.runs.files import PART, write_bytes, write_csv, write_json
from trainers.runs.folder import RunFolder
from trainers.runs.result import missing_files
from trainers.runs.state import state_of, this_process

ORIGIN: dict[str, Any] = {"hashes": {"config": "0"}, "code": {"sha256": "1"}, "versions": {"torch": "2"}}


def test_a_write_that_fails_midway_leaves_the_old_file_whole_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"first": 1})

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RunFolderError, match=r"result\.json: No space left on device; free space"):
        write_json(path, {"second": 2})
    assert json.loads(path.read_text(encoding="utf-8")) == {"first": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_a_first_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(source: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "weights.safetensors", b"0123")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_for_those_that_the_umask_lets_read_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "result.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == 0o640


def test_json_refuses_a_number_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "result.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_csv_keeps_columns_in_order_and_a_missing_cell_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"b": 1, "a": 2.5}, {"a": 3}, {"a": float("nan"), "b": "inf"}], ("a", "b"))
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert list(csv.reader(lines)) == [["a", "b"], ["2.5", "1"], ["3", ""], ["", "inf"]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    folder = RunFolder(tmp_path / "sweep" / "key", command="espalier-search seed=1")
    folder.take()
    folder.start(ORIGIN)
    yield folder
    folder.release()


@pytest.mark.parametrize("state", ["failed", "interrupted", "infeasible", "stopped"])
def test_a_run_that_did_not_finish_has_no_result(folder: RunFolder, state: str) -> None:
    write_json(folder.path / "result.json", {"seed": 0})
    assert folder.read_result() is None  # it runs
    folder.close(state)
    assert folder.read_result() is None


def write_whole_result(folder: Path) -> None:
    """The result, and files by the names that it lists."""
    for name in sample_result()["files"]:
        write_bytes(folder / name, b"")
    write_json(folder / "result.json", sample_result())


@pytest.mark.parametrize("state", ["done", "unmet"])
def test_a_finished_run_gives_its_result(folder: RunFolder, state: str) -> None:
    write_whole_result(folder.path)
    folder.close(state)
    assert folder.read_result() == typed(sample_result())


@pytest.mark.parametrize("name", ["weights/mid_tablet.safetensors", "architectures/iot_terminal.json", "alphas.npz"])
def test_a_run_that_has_lost_a_file_of_its_result_is_not_finished(folder: RunFolder, name: str) -> None:
    write_whole_result(folder.path)
    folder.close("done")
    (folder.path / name).unlink()
    assert missing_files(folder.path) == [name]
    assert folder.read_result() is None


@pytest.mark.parametrize("content", [b"", b'{"status": "do', b"\xff\xfe\x00", b"[]", b'{"status": "sleeping"}'])
def test_a_malformed_result_is_refused_by_its_file_and_one_that_is_gone_is_none(
    folder: RunFolder, content: bytes
) -> None:
    write_whole_result(folder.path)
    folder.close("done")
    write_bytes(folder.path / "result.json", content)
    with pytest.raises(InvalidInputError, match=r"result\.json"):
        folder.read_result()
    (folder.path / "result.json").unlink()
    assert folder.read_result() is None
    write_bytes(folder.path / "status.json", content)
    assert folder.read_result() is None


def test_status_says_who_ran_what_how_far_and_what_went_wrong(folder: RunFolder) -> None:
    folder.progress(3, epochs=8)
    folder.close("failed", "the weights loss is nan")
    status = json.loads((folder.path / "status.json").read_text(encoding="utf-8"))
    assert (status["status"], status["pid"], status["error"]) == ("failed", os.getpid(), "the weights loss is nan")
    assert status["pid_start"] == this_process()["pid_start"]
    assert (status["command"], status["attempt"]) == ("espalier-search seed=1", 1)
    assert status["progress"] == {"epoch": 3, "epochs": 8}


def test_an_attempt_that_is_killed_before_it_trains_is_as_far_as_the_one_before(folder: RunFolder) -> None:
    folder.progress(3, epochs=8)
    folder.release()
    again = RunFolder(folder.path, command="again")
    again.take()
    again.start(ORIGIN)
    state = state_of(folder.path)
    again.release()
    assert (state.attempt, state.epoch, state.epochs) == (2, 3, 8)


def test_what_an_attempt_starts_from_stays_in_its_status_as_far_as_it_knew_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, command="here")
    folder.take()
    folder.close("interrupted", "ended by SIGINT")
    assert state_of(tmp_path).origin == {"hashes": {}, "code": {}, "versions": {}}
    folder.start(ORIGIN)
    folder.close("infeasible", "no network fits")
    folder.release()
    assert state_of(tmp_path).origin == ORIGIN


def test_a_second_attempt_counts_on_and_a_torn_status_does_not_stop_it(folder: RunFolder) -> None:
    folder.close("interrupted", "ended by SIGINT")
    folder.release()
    second = RunFolder(folder.path, command="again")
    second.take()
    assert second.attempt == 2
    second.release()
    (folder.path / "status.json").write_bytes(b'{"status": "inter')
    third = RunFolder(folder.path, command="again")
    third.take()
    assert third.attempt == 1  # how many there were is lost with the file
    third.release()


def test_a_run_that_another_process_is_at_is_refused_and_free_when_that_is_gone(folder: RunFolder) -> None:
    with pytest.raises(RunInUseError, match=f"process {os.getpid()} on "):
        RunFolder(folder.path, command="again").take()
    folder.release()
    again = RunFolder(folder.path, command="again")
    again.take()
    again.release()


def test_a_run_of_another_host_is_refused_while_its_heart_beats_only(folder: RunFolder) -> None:
    folder.close("done")
    folder.release()
    status = json.loads((folder.path / "status.json").read_text(encoding="utf-8"))
    status |= {"status": "running", "host": "elsewhere"}
    write_json(folder.path / "status.json", status)
    with pytest.raises(RunInUseError, match="on elsewhere"):
        RunFolder(folder.path, command="again").take()
    write_json(folder.path / "status.json", status | {"heartbeat": "2020-01-01T00:00:00+00:00"})
    again = RunFolder(folder.path, command="again")
    again.take()
    again.release()


def test_the_heart_beats_while_a_run_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers.runs.folder, "HEARTBEAT_SECONDS", 0.001)
    beaten, write = threading.Event(), RunFolder._write

    def write_and_say(folder: RunFolder, state: str, error: str | None) -> None:
        write(folder, state, error)
        if threading.current_thread().name == "heartbeat":
            beaten.set()

    monkeypatch.setattr(RunFolder, "_write", write_and_say)
    folder = RunFolder(tmp_path, command="here")
    folder.take()
    folder.start(ORIGIN)
    beaten.wait()
    folder.close("done")
    write_and_say(folder, "running", None)  # as a beat that comes too late
    assert state_of(tmp_path).state == "done"
    folder.release()


def test_what_a_killed_attempt_was_writing_is_swept_away(folder: RunFolder) -> None:
    torn = folder.path / "checkpoints" / f".epoch-000001.ckpt.x{PART}"
    torn.parent.mkdir()
    torn.write_bytes(b"half")
    folder.close("failed")
    folder.release()
    again = RunFolder(folder.path, command="again")
    again.take()
    again.start(ORIGIN)
    again.close("done")
    again.release()
    assert not torn.exists()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it_and_the_key(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(InvalidInputError, match=r"runs/key.*paths\.runs"):
        RunFolder(tmp_path / "runs" / "key", command="here").take()


def test_an_error_that_cannot_be_written_is_kept_in_words_that_can(folder: RunFolder) -> None:
    folder.close("failed", "cannot read data/\udcff.png")
    assert state_of(folder.path).reason == "cannot read data/\N{REPLACEMENT CHARACTER}.png"


# What became of a run


def status_of(**changed: Any) -> dict[str, Any]:
    """A whole status.json of a run of this process, beating now."""
    now = datetime.now(UTC).isoformat()
    whole = {"status": "running", "pid": os.getpid(), "host": os.uname().nodename, "started": now, "heartbeat": now}
    whole |= {"attempt": 1, "command": "espalier-search", "pid_start": None, "progress": None, "error": None}
    return {**whole, **ORIGIN, **changed}


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    write_json(tmp_path / "status.json", status_of(pid=gone.pid))
    state = state_of(tmp_path)
    assert state.state == "interrupted" and str(gone.pid) in (state.reason or "")


def test_a_run_whose_number_another_process_has_is_interrupted(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", status_of(**{**this_process(), "pid_start": "7.00"}))
    assert state_of(tmp_path).state == "interrupted"


def test_a_run_whose_process_waits_only_to_be_collected_is_interrupted(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    write_json(tmp_path / "status.json", status_of(pid=ended.pid))
    assert state_of(tmp_path).state == "interrupted"
    ended.wait()


@pytest.mark.parametrize(("known", "state"), [(True, "running"), (False, "interrupted")])
def test_a_silent_run_of_this_host_runs_if_its_process_is_known_to_be_there(
    tmp_path: Path, known: bool, state: str
) -> None:
    write_json(tmp_path / "status.json", status_of(**(this_process() if known else {})))
    assert state_of(tmp_path, now=datetime.now(UTC) + timedelta(seconds=140)).state == state


@pytest.mark.parametrize(("silence_s", "state"), [(100, "running"), (140, "interrupted")])
def test_a_run_elsewhere_is_interrupted_after_two_minutes_of_silence(
    tmp_path: Path, silence_s: int, state: str
) -> None:
    write_json(tmp_path / "status.json", status_of(host="elsewhere", heartbeat="2026-01-01T00:00:00+00:00"))
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=silence_s)
    assert state_of(tmp_path, now=now).state == state


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "sleeping"),
        ("pid", "7"),
        ("pid", True),
        ("attempt", None),
        ("heartbeat", "yesterday"),
        ("started", "2026-01-01T00:00:00"),
        ("progress", {"epoch": 1}),
        ("error", 3),
        ("hashes", "0123"),
        ("code", None),
        ("versions", ["torch"]),
        ("pid_start", 3),
    ],
)
def test_a_status_that_is_not_whole_is_refused_by_its_field(tmp_path: Path, field: str, value: Any) -> None:
    write_json(tmp_path / "status.json", status_of(**{field: value}))
    with pytest.raises(InvalidInputError) as refused:
        state_of(tmp_path)
    assert [key.partition(".")[0] for key in refused.value.fields] == [field]


def test_a_status_that_lacks_what_every_attempt_writes_is_refused_by_its_fields(tmp_path: Path) -> None:
    write_json(tmp_path / "status.json", {})
    with pytest.raises(InvalidInputError) as refused:
        state_of(tmp_path)
    assert sorted(refused.value.fields) == sorted(status_of())


def test_a_traceback_goes_to_the_log(tmp_path: Path) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        RunFolder(tmp_path, command="here").log_exception()
    assert (tmp_path / "run.log").read_text(encoding="utf-8").endswith("ValueError: odd\n")
