"""Each layout of a log gives the same figures of the same run; one that is unknown is refused with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tflite_logs import LITERT_GPU, NOW, UNTIL_2_2, litert, log, times, write

from hardware_models.measuring.tflite_log import TfliteRun, read_tflite_log
from search_spaces.errors import InvalidInputError

XNNPACK = "Created TensorFlow Lite XNNPACK delegate for CPU."
MEAN = TfliteRun(66.2154, "mean", 65.71, 50, 8, 4, "TFLite XNNPACK", ())
MEDIAN = TfliteRun(66.11, "median", 65.71, 50, 8, 4, "TFLite XNNPACK", ())


def same(run: TfliteRun, expected: TfliteRun) -> bool:
    """Whether both are the same run: times to the digits that are printed."""
    close = (run.latency_ms, run.min_ms) == pytest.approx((expected.latency_ms, expected.min_ms), rel=1e-9)
    fields = ("statistic", "repeats", "warmup", "threads", "runtime", "missed")
    return close and all(getattr(run, name) == getattr(expected, name) for name in fields)


SUMMARIES = {
    "TensorFlow 2.2 and earlier": log(XNNPACK, summary=UNTIL_2_2),
    "TensorFlow 1": log(XNNPACK, summary=UNTIL_2_2.replace("Inference:", "no stats:")),
    "since TensorFlow 2.2": log(XNNPACK),
}


@pytest.mark.parametrize("layout", SUMMARIES)
def test_every_layout_of_the_result_gives_the_mean_of_inference(tmp_path: Path, layout: str) -> None:
    assert same(read_tflite_log(write(tmp_path / "run.log", SUMMARIES[layout])), MEAN)


def test_today_the_median_is_taken(tmp_path: Path) -> None:
    lines = [f"INFO: {line}" if line else line for line in log(XNNPACK, percentiles=True)]
    assert same(read_tflite_log(write(tmp_path / "run.log", lines)), MEDIAN)


PREFIXES: dict[str, Callable[[str], str]] = {
    "logcat threadtime": lambda line: f"03-02 09:12:41.892  7001  7002 I tflite  : {line}",
    "logcat threadtime with year, zone and user": lambda line: (
        f"2022-03-02 09:12:41.892123 +0100 u0_a1  7001  7002 I tflite  : {line}"
    ),
    "logcat epoch": lambda line: f"1646208761.892  7001  7002 I tflite  : {line}",
    "logcat time": lambda line: f"03-02 09:12:41.892 I/tflite  ( 7001): {line}",
    "logcat brief": lambda line: f"I/tflite  ( 7001): {line}",
    "logcat tag": lambda line: f"I/tflite  : {line}",
    "Android Studio until 2021.2": lambda line: (
        f"2021-03-02 09:12:41.892 7001-7002/org.tensorflow.lite.benchmark I/tflite: {line}"
    ),
    "Android Studio since 2021.3": lambda line: (
        f"2023-03-02 09:12:41.892  7001-7002  tflite                  org.tensorflow.lite.benchmark        I  {line}"
    ),
    "shell": lambda line: f"   INFO: {line}",
}


@pytest.mark.parametrize("layout", PREFIXES)
def test_what_stands_before_the_lines_changes_nothing(tmp_path: Path, layout: str) -> None:
    lines = [PREFIXES[layout](line) for line in log(XNNPACK, percentiles=True) if line]
    assert same(read_tflite_log(write(tmp_path / "run.log", lines)), MEDIAN)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_and_line_ends_change_nothing(tmp_path: Path, encoding: str, end: str) -> None:
    assert same(read_tflite_log(write(tmp_path / "run.log", log(XNNPACK), encoding, end)), MEAN)


@pytest.mark.parametrize(
    "before",
    [
        lambda line: line if line.startswith("=") else f"INFO: {line}",
        lambda line: f"09-28 22:30:00.100  4100  4100 I {'litert' if '[' in line else 'tflite'}  : {line}",
    ],
    ids=["shell", "logcat"],
)
def test_litert_prints_milliseconds_after_the_lines_of_tflite(tmp_path: Path, before: Callable[[str], str]) -> None:
    lines = [before(line) for line in litert("Num threads: [4]", LITERT_GPU)]
    expected = TfliteRun(66.11, "median", 65.71, 50, 8, 4, "LiteRT GPU", ())
    assert same(read_tflite_log(write(tmp_path / "run.log", lines)), expected)


def test_litert_results_alone_give_the_mean_to_two_decimals(tmp_path: Path) -> None:
    lines = [LITERT_GPU, *(line for line in litert() if "count=" not in line)]
    run = read_tflite_log(write(tmp_path / "run.log", lines))
    assert (run.latency_ms, run.statistic, run.repeats, run.warmup) == (pytest.approx(66.22), "mean", 50, None)


def test_litert_that_does_not_say_what_ran_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Replacing"):
        read_tflite_log(write(tmp_path / "run.log", litert()))


def test_the_app_until_2_2_writes_its_result_alone_and_as_an_error(tmp_path: Path) -> None:
    line = f"11-05 10:11:12.345  9876  9900 E tflite  : {UNTIL_2_2}Overall max resident set size = 12.3 MB"
    run = read_tflite_log(write(tmp_path / "run.log", [line]))
    assert (run.latency_ms, run.statistic, run.repeats) == (pytest.approx(66.2154), "mean", None)
    assert run.runtime == ""  # nothing says what was asked for


def test_lines_of_other_programs_and_processes_do_not_count(tmp_path: Path) -> None:
    own = [PREFIXES["logcat threadtime"](line) for line in log(XNNPACK) if line]
    others = [
        "03-02 09:12:41.900  1200  1200 E AudioFlinger: ERROR: no such device",
        f"03-02 09:12:41.901  1201  1201 I Other   : {NOW}",
        "03-02 09:12:41.902  1202  1202 I tflite  : Created TensorFlow Lite delegate for NNAPI.",
        "03-02 09:12:41.903  1202  1202 I tflite  : Use NNAPI: [1]",
        "03-02 09:12:41.904  1202  1202 E tflite  : Failed to load the model.",
        "03-02 09:12:41.905  1202  1202 I tflite  : count=3 first=1 curr=1 min=1 max=1 avg=1 std=0",
        "--------- beginning of main",
    ]
    mixed = [*own[:-1], *others, own[-1]]
    assert same(read_tflite_log(write(tmp_path / "run.log", mixed)), MEAN)


def test_two_processes_with_a_result_each_are_two_runs(tmp_path: Path) -> None:
    lines = [
        PREFIXES["logcat threadtime"](line).replace("  7001", process) for process in ("  1", "  2") for line in log()
    ]
    with pytest.raises(InvalidInputError, match="2 results"):
        read_tflite_log(write(tmp_path / "run.log", lines))


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([*log()[:-1], "Inference time: 66.2 ms on average"], 11),
        ([*log()[:-1], NOW.replace("Inference (avg): 66215.4", "Inference [avg]: 66215.4 us")], 11),
        ([f"[21/May/2026:09:23:20 +00:00: profiler/info] [tflite] {line}" for line in times()], 7),
        (["<6>[  123.456] " + line for line in times()], 7),
    ],
)
def test_an_unknown_layout_is_refused_with_its_line(tmp_path: Path, lines: list[str], number: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"run\.log: line {number}: "):
        read_tflite_log(write(tmp_path / "run.log", lines))


def test_litert_whose_dispatch_failed_is_refused(tmp_path: Path) -> None:
    # The runtime reports the replacement of nodes before the dispatch, which can still fail and leave the CPU.
    failed = "ERROR: [dispatch_delegate.cc:131] Failed to create a dispatch delegate kernel: No usable Dispatch runtime"
    lines = litert("Replacing 1 out of 1 node(s) with delegate (DispatchDelegate) node, yielding 1 partitions", failed)
    with pytest.raises(InvalidInputError, match="line 5"):
        read_tflite_log(write(tmp_path / "run.log", lines))
