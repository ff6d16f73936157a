"""Lines of an epoch are readable in 80 columns; on a terminal a bar says how far the whole search is."""

import os
import pty
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from interrupted_search import search_config, wait

from trainers.cli.search import run_search
from trainers.search.progress import device_lines, epoch_line


def row_of(devices: Mapping[str, tuple[float, float, float, str]]) -> dict[str, float]:
    """An epoch in which devices have this expected, max and budget of a metric."""
    row: dict[str, float] = {"epoch": 1}
    for name, (expected, worst, budget, metric) in devices.items():
        values = {"expected": expected, "worst": worst, "budget": budget}
        row |= {f"hw/{name}/{metric}_{kind}": value for kind, value in values.items()}
        row[f"hw/{name}/met"] = float(worst <= budget)
    return row


def test_each_device_has_the_expected_cost_that_is_nearest_its_budget_and_the_most_expensive_network_left() -> None:
    row = row_of({"pixel6": (9.84, 12.6, 12.0, "latency_ms"), "board": (0.25, 0.45, 0.5, "gflops")})
    row |= {f"hw/pixel6/gflops_{k}": v for k, v in {"expected": 0.1, "worst": 1.8, "budget": 0.9}.items()}
    assert device_lines(row) == [
        "  pixel6  9.84/12 latency_ms  max 2.00x ✗",
        "  board   0.25/0.5 gflops     max 0.90x ✓",
    ]


@pytest.mark.parametrize("name", ["flagship_phone", "a_phone_of_a_very_long_name-latency_ms-12.5"])
def test_three_devices_are_aligned_in_80_columns_and_no_figure_is_cut(name: str) -> None:
    figures = (1234.5, 98765.4, 1234.5, "peak_memory_mb")
    row = row_of({name: figures, "mid_tablet": (30, 75, 76, "latency_ms"), "iot_terminal": (0.5, 0.8, 0.9, "gflops")})
    lines = device_lines(row)
    assert len(lines) == 3 and max(map(len, lines)) <= 80
    assert len({len(line) for line in lines}) == 1 and len({line.rindex("x ") for line in lines}) == 1
    assert "1.23e+03/1234.5 peak_memory_mb" in lines[0] and lines[0].endswith("max 80.00x ✗")
    assert lines[0].startswith(f"  {name[:10]}") and name[-4:] in lines[0]


def test_the_first_line_of_an_epoch_fits_80_columns_with_its_time_left() -> None:
    row = {"epoch": 100, "val/acc": 1.0, "arch/entropy": 1.0, "prune/choices_alive": 12345.0}
    assert len(epoch_line(row, epochs=100, is_proxy=True) + "  about 1:02:03 left") <= 80


def test_a_terminal_shows_how_far_the_whole_search_is(tmp_path: Path) -> None:
    torch.set_num_threads(1)  # a process is forked
    config = search_config(tmp_path)
    process, terminal = pty.fork()
    if not process:
        code = 1
        try:
            os.environ |= {"COLUMNS": "80", "TERM": "xterm"}
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
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, lines)) <= 80
    for words in (r"training \d+/42 steps", r"choosing \d+/\d+ networks", r"adapting \d/2 steps", r"certifying \d/2"):
        assert any(re.match(words, line) and line.endswith(" left") for line in lines), (words, lines)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""
