"""Logs of TFLite's benchmark_model: the time of inference in milliseconds comes out, never that of warm-up."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware_models.measuring.tflite_log import TfliteRun, read_tflite_log
from search_spaces.errors import InvalidInputError

HEAD = "STARTING!\nLog parameter values verbosely: [0]\nNum threads: [4]\nGraph: [/data/local/tmp/net.tflite]\n"
WARMUP = (
    "Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.\n"
)
MAIN = "Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.\n"
TIMED = "count=50 first=33000 curr=32000 min=31000 max=40000 avg=32500.5 std=450"
SUMMARY = (
    "Inference timings in us: Init: 855, First inference: 49000, Warmup (avg): 35000.1, Inference (avg): 32500.5\n"
)
CLASSIC = HEAD + WARMUP + "count=15 first=49000 curr=33000 min=32000 max=49000 avg=35000.1 std=3930\n\n" + MAIN
CLASSIC += TIMED + "\n\n" + SUMMARY + "Memory footprint delta from the start of the tool (MB): init=0 overall=12.8\n"
NEWER = CLASSIC.replace("std=450", "std=450 p5=31100 median=32100 p95=39000")


def read(folder: Path, text: str | bytes) -> TfliteRun:
    path = folder / "run.log"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_tflite_log(path)


def test_log_without_percentiles_gives_the_mean_and_says_so(tmp_path: Path) -> None:
    run = read(tmp_path, CLASSIC)
    assert (run.latency_ms, run.statistic, run.min_ms) == (32.5005, "mean", 31.0)
    assert (run.repeats, run.warmup, run.threads, run.runtime) == (50, 15, 4, "TFLite")


def test_log_with_percentiles_gives_the_median(tmp_path: Path) -> None:
    run = read(tmp_path, NEWER)
    assert (run.latency_ms, run.statistic) == (32.1, "median")


@pytest.mark.parametrize(
    "prefix", ["INFO: ", "I tflite  : ", "07-14 13:14:52.097 22838 22838 I tflite  : ", "I/tflite (123): "]
)
def test_lines_of_a_shell_and_of_androids_log_are_the_same(tmp_path: Path, prefix: str) -> None:
    prefixed = "".join(f"{prefix}{line}\n" for line in NEWER.splitlines() if line)
    assert read(tmp_path, prefixed) == read(tmp_path, NEWER)


def test_slow_networks_in_scientific_notation(tmp_path: Path) -> None:
    log = CLASSIC.replace("avg=32500.5", "avg=2.95034e+06").replace("(avg): 32500.5", "(avg): 2.95034e+06")
    assert read(tmp_path, log).latency_ms == pytest.approx(2950.34)


def test_a_single_run_is_its_own_median(tmp_path: Path) -> None:
    log = CLASSIC.replace(TIMED, "count=1 curr=32500").replace("(avg): 32500.5", "(avg): 32500")
    run = read(tmp_path, log)
    assert (run.latency_ms, run.statistic, run.repeats) == (32.5, "median", 1)


def test_a_summary_alone_tells_the_mean_and_no_counts(tmp_path: Path) -> None:
    run = read(tmp_path, SUMMARY)
    assert (run.latency_ms, run.statistic, run.repeats, run.warmup, run.min_ms) == (32.5005, "mean", None, None, None)


def test_a_profile_after_the_result_does_not_change_it(tmp_path: Path) -> None:
    profile = "Timings (microseconds): count=50 first=90 curr=80 min=70 max=99 avg=85 std=3\nMemory (bytes): count=0\n"
    assert read(tmp_path, NEWER + profile) == read(tmp_path, NEWER)


@pytest.mark.parametrize(
    ("line", "runtime"),
    [
        ("Created TensorFlow Lite XNNPACK delegate for CPU.", "TFLite XNNPACK"),
        ("Explicitly applied GPU delegate, and the model graph will be completely executed by it.", "TFLite GPU"),
        ("Applied NNAPI delegate, and the model graph will be completely executed w/ the delegate.", "TFLite NNAPI"),
        ("Use gpu: [1]\nGPU acceleration is unsupported on this platform.", "TFLite"),
    ],
)
def test_runtime_names_the_delegates_that_were_applied(tmp_path: Path, line: str, runtime: str) -> None:
    assert read(tmp_path, HEAD + line + "\n" + NEWER.removeprefix(HEAD)).runtime == runtime


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        ("", ""),
        (CLASSIC.replace(SUMMARY, ""), ""),
        (CLASSIC + CLASSIC, "11, 23"),
        (HEAD + "ERROR: Could not open '/data/net.tflite'.\n" + CLASSIC, "line 5"),
        (HEAD + "07-14 13:14:52.0 2 2 E tflite  : Benchmarking failed.\n", "line 5"),
        (HEAD + "Failed to load model\n", "line 5"),
        (CLASSIC.replace(TIMED + "\n", ""), ""),
        (CLASSIC.replace("avg=32500.5", "avg=0").replace("(avg): 32500.5", "(avg): 0"), ""),
        (CLASSIC.replace("(avg): 32500.5", "(avg): 1.2.3"), ""),
        (b"\0\0TFL3", ""),
        (b"\xff", ""),
    ],
)
def test_log_that_gives_no_sure_time_is_refused(tmp_path: Path, log: str | bytes, lines: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"run\.log.*{lines}"):
        read(tmp_path, log)


def test_missing_model_size_is_no_failure(tmp_path: Path) -> None:
    assert read(tmp_path, HEAD + "WARN: Failed to get the input model file size.\n" + CLASSIC).latency_ms == 32.5005


def test_log_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.log"):
        read_tflite_log(tmp_path / "none.log")


@given(
    st.lists(st.sampled_from([*NEWER.splitlines(), *CLASSIC.splitlines(), "count=", "count=9", "ERROR"]) | st.text())
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_lines_give_the_time_of_inference_or_an_error(tmp_path: Path, lines: list[str]) -> None:
    try:
        run = read(tmp_path, "\n".join(lines).encode("utf-8", "surrogatepass"))
    except InvalidInputError:
        return
    assert run.latency_ms in (32.1, 32.5005)
