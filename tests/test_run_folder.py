"""Run folders: each file whole or as it was, and a result only from a run that finished."""

import csv
import json
import os
from pathlib import Path

import pytest

from search_spaces.errors import InvalidInputError
from trainers.run_folder import RunFolder, write_bytes, write_csv, write_json


def test_a_write_that_fails_midway_leaves_the_old_file_whole_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"first": 1})

    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
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


def test_json_refuses_a_number_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "result.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_csv_keeps_columns_in_order_and_a_missing_cell_empty(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [{"b": 1, "a": 2}, {"a": 3}], ("a", "b"))
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert list(csv.reader(lines)) == [["a", "b"], ["2", "1"], ["3", ""]]


@pytest.mark.parametrize("state", ["running", "failed", "interrupted", "infeasible"])
def test_a_run_that_did_not_finish_has_no_result(tmp_path: Path, state: str) -> None:
    folder = RunFolder(tmp_path)
    write_json(tmp_path / "result.json", {"seed": 0})
    folder.status(state)
    assert folder.read_result() is None


@pytest.mark.parametrize("state", ["done", "unmet"])
def test_a_finished_run_gives_its_result(tmp_path: Path, state: str) -> None:
    folder = RunFolder(tmp_path)
    write_json(tmp_path / "result.json", {"seed": 0})
    folder.status(state)
    assert folder.read_result() == {"seed": 0}


@pytest.mark.parametrize("torn", ["status.json", "result.json"])
@pytest.mark.parametrize("content", [b"", b'{"status": "do', b"\xff\xfe\x00", b"[]", None])
def test_a_torn_or_missing_file_is_no_result(tmp_path: Path, torn: str, content: bytes | None) -> None:
    folder = RunFolder(tmp_path)
    write_json(tmp_path / "result.json", {"seed": 0})
    folder.status("done")
    (tmp_path / torn).unlink()
    if content is not None:
        (tmp_path / torn).write_bytes(content)
    assert folder.read_result() is None


def test_status_says_who_runs_and_what_went_wrong(tmp_path: Path) -> None:
    RunFolder(tmp_path).status("failed", "the weights loss is nan")
    status = json.loads((tmp_path / "status.json").read_text(encoding="utf-8"))
    assert (status["status"], status["pid"], status["error"]) == ("failed", os.getpid(), "the weights loss is nan")


def test_opening_marks_the_run_as_running(tmp_path: Path) -> None:
    RunFolder(tmp_path / "sweep" / "key").open()
    assert json.loads((tmp_path / "sweep" / "key" / "status.json").read_text())["status"] == "running"


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it_and_the_key(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(InvalidInputError, match=r"runs/key: Not a directory; set paths\.runs"):
        RunFolder(tmp_path / "runs" / "key").open()


def test_a_traceback_goes_to_the_log(tmp_path: Path) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        RunFolder(tmp_path).log_exception()
    assert (tmp_path / "run.log").read_text(encoding="utf-8").endswith("ValueError: odd\n")
