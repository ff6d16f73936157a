"""Measuring on another machine over SSH, against a real server on this one."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from boards import INSTALLED, REASON, LoopbackServer, client_config, free_port, loopback_server, make_key
from torch import nn

from hardware_models.measuring import board as board_module
from hardware_models.measuring.board import Board, BoardError, connected
from hardware_models.measuring.board_address import BoardAddress
from hardware_models.measuring.graph import Graph, operation_graph
from hardware_models.measuring.measure import ParityError, time_module, time_operation
from search_spaces.operation import Operation

CONV = Operation("conv", (16, 14, 14), (24, 14, 14), 3)
pytestmark = pytest.mark.skipif(not INSTALLED, reason=REASON)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackServer]:
    with loopback_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def board(server: LoopbackServer) -> Iterator[Board]:
    with connected(server.address) as open_board:
        yield open_board


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5))


def refusal(address: BoardAddress) -> str:
    with pytest.raises(BoardError) as caught, connected(address):
        pass
    return str(caught.value)


def test_network_is_timed_on_the_board_and_computes_the_same_there(board: Board) -> None:
    measured = time_module(network(), (3, 16, 16), repeats=7, machine=board)
    assert 0 < measured.min_ms <= measured.p50_ms <= measured.p90_ms
    assert (measured.repeats, measured.threads, measured.runtime) == (7, 1, "onnxruntime")
    assert measured.machine == board.description
    assert "cores" in measured.machine
    assert set(measured.versions) == {"python", "onnxruntime", "torch"}


def test_board_gets_the_inputs_and_gives_the_outputs(board: Board) -> None:
    graph = Graph()
    names = [graph.input(1, 2, 1, 2), graph.input(1, 2, 1, 2)]
    graph.add(Operation("add", (2, 1, 2), (2, 1, 2)), *names)
    x = np.array([[[[1, 2]], [[3, 4]]]], dtype=np.float32)
    feed = dict(zip(names, (x, 10 * x), strict=True))
    times_ms, [output] = board.run(graph.model().SerializeToString(), threads=1, warmup=1, repeats=3, feed=feed)
    assert len(times_ms) == 3
    np.testing.assert_array_equal(output, 11 * x)


def test_board_that_computes_something_else_is_refused(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Board.run

    def wrong(self: Board, *args: object, **kwargs: object) -> object:
        times_ms, [output] = run(self, *args, **kwargs)  # type: ignore[arg-type]
        return times_ms, [output + 1]

    monkeypatch.setattr(Board, "run", wrong)
    with pytest.raises(ParityError):
        time_module(network(), (3, 16, 16), repeats=1, machine=board)


def test_operation_is_timed_on_the_board(board: Board) -> None:
    measured = time_operation(CONV, repeats=5, machine=board)
    assert 0 < measured.min_ms <= measured.p50_ms <= measured.p90_ms
    assert measured.repeats == 5


def test_model_that_the_board_cannot_run_is_reported_and_the_next_one_runs(board: Board) -> None:
    with pytest.raises(BoardError, match="could not run the model"):
        board.run(b"no model", threads=1, warmup=1, repeats=1, feed={})
    assert time_operation(CONV, repeats=2, machine=board).repeats == 2


def test_words_of_a_login_are_passed_over(server: LoopbackServer, tmp_path: Path) -> None:
    talkative = tmp_path / "python"
    talkative.write_text(f'#!/bin/sh\necho "Welcome to the board"\nexec {sys.executable} "$@"\n')
    talkative.chmod(0o755)
    with connected(server.address.model_copy(update={"python": str(talkative)})) as reported:
        assert reported.versions["python"] == ".".join(map(str, sys.version_info[:3]))


def test_closed_port_is_refused_with_what_to_check(server: LoopbackServer) -> None:
    message = refusal(server.address.model_copy(update={"port": free_port()}))
    assert "onnection refused" in message
    assert "board.port" in message


def test_key_that_is_not_accepted_is_refused_with_what_to_set(server: LoopbackServer, tmp_path: Path) -> None:
    message = refusal(server.address.model_copy(update={"identity": str(make_key(tmp_path / "other"))}))
    assert "Permission denied" in message
    assert "board.identity" in message


def test_host_that_is_not_known_is_refused(server: LoopbackServer) -> None:
    (server.folder / "nobody").write_text("")
    message = refusal(server.address.model_copy(update={"ssh_config": str(client_config(server.folder, "nobody"))}))
    assert "Host key verification failed" in message
    assert "connect once by hand" in message


def test_name_that_does_not_exist_is_refused(server: LoopbackServer) -> None:
    message = refusal(server.address.model_copy(update={"host": "nobody@board.invalid"}))
    assert "check board.host" in message


def test_board_without_python_is_refused(server: LoopbackServer) -> None:
    message = refusal(server.address.model_copy(update={"python": "/nowhere/python3"}))
    assert "/nowhere/python3" in message
    assert "check board.python" in message


def test_board_without_onnxruntime_is_refused_with_the_line_that_installs_it(
    server: LoopbackServer, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    message = refusal(server.address.model_copy(update={"python": str(tmp_path / "bare" / "bin" / "python")}))
    assert re.search(r"run on it: \S+/bare/bin/python\S* -m pip install onnxruntime", message)


def test_machine_without_ssh_is_reported(
    server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install OpenSSH's client" in refusal(server.address)


@pytest.fixture
def noted(server: LoopbackServer, tmp_path: Path) -> tuple[BoardAddress, Path]:
    """A board whose runner leaves its process id in a file."""
    python, pid = tmp_path / "python", tmp_path / "pid"
    python.write_text(f'#!/bin/sh\necho $$ > {pid}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return server.address.model_copy(update={"python": str(python)}), pid


def test_board_that_does_not_answer_in_time_is_let_go_and_stops(noted: tuple[BoardAddress, Path]) -> None:
    address, pid = noted
    model = operation_graph(CONV).model().SerializeToString()
    slow_board = address.model_copy(update={"timeout_s": 0.3})
    with connected(slow_board) as slow, pytest.raises(BoardError, match=r"within 0\.3 s"):
        slow.run(model, threads=1, warmup=10**9, repeats=1, feed={})
    process = Path("/proc") / pid.read_text().strip()
    for _ in range(200):
        if not process.exists():
            return
        time.sleep(0.05)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    pytest.fail("the board went on running what nobody waits for")


def test_board_that_is_lost_on_the_way_is_reported(noted: tuple[BoardAddress, Path]) -> None:
    address, pid = noted
    with connected(address) as lost:
        os.kill(int(pid.read_text()), signal.SIGKILL)
        with pytest.raises(BoardError, match="run this again"):
            time_operation(CONV, repeats=1, machine=lost)


def test_no_process_is_left_when_a_connection_is_closed(server: LoopbackServer) -> None:
    with connected(server.address) as closed:
        process = closed._process
        assert process.poll() is None
    assert process.poll() is not None


# What is sent to a board


def test_runner_is_python_3_8_and_imports_nothing_but_numpy_and_onnxruntime() -> None:
    tree = ast.parse(board_module.RUNNER.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_runner_ends_when_its_requests_end() -> None:
    done = subprocess.run(
        [sys.executable, str(board_module.RUNNER)], input=b"", capture_output=True, timeout=60, check=True
    )
    assert done.stdout.decode().startswith(board_module.MARK + ' {"machine": ')
    assert done.stdout.count(b"\n") == 1
