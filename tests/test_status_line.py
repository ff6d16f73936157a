"""On a terminal one line says how far each device is from its budget; in a pipe there is none."""

import os
import pty
import re
import sys
from pathlib import Path

import torch
from interrupted_search import search_config, wait

from trainers.cli.search import run_search
from trainers.search.progress import status_words


def test_each_device_has_the_expected_cost_that_is_nearest_its_budget_and_the_most_expensive_network_left() -> None:
    row = {
        "epoch": 1,
        "hw/pixel6/latency_ms_expected": 9.84,
        "hw/pixel6/latency_ms_worst": 12.6,
        "hw/pixel6/latency_ms_budget": 12.0,
        "hw/pixel6/gflops_expected": 0.1,
        "hw/pixel6/gflops_worst": 1.8,
        "hw/pixel6/gflops_budget": 0.9,
        "hw/pixel6/met": 0.0,
        "hw/board/gflops_expected": 0.25,
        "hw/board/gflops_worst": 0.45,
        "hw/board/gflops_budget": 0.5,
        "hw/board/met": 1.0,
    }
    assert status_words(row) == {
        "pixel6": "9.84/12 latency_ms, max 2.00x ✗",
        "board": "0.25/0.5 gflops, max 0.90x ✓",
    }


def test_a_terminal_shows_the_line_of_every_device(tmp_path: Path) -> None:
    torch.set_num_threads(1)  # a process is forked
    config = search_config(tmp_path)
    process, terminal = pty.fork()
    if not process:
        code = 1
        try:
            os.environ |= {"COLUMNS": "250", "TERM": "xterm"}
            sys.stdout = os.fdopen(1, "w")
            run_search(config, lambda line: None)
            code = 0
        finally:
            os._exit(code)
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    assert wait(process) == 0
    text = shown.decode(errors="replace")
    for device in ("mid_tablet", "iot_terminal"):
        assert f"{device}: " in text
    assert re.search(r"/76 latency_ms, max 0\.\d\dx ✓", text)
    assert "Epoch 1/7 " in text and "Epoch 0" not in text  # counted as in the lines of a pipe


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""
