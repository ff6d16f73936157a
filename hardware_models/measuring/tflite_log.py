"""The log of `benchmark_model`, TensorFlow Lite's or LiteRT's: one run's times of inference, in milliseconds.

Source of the layouts: TensorFlow, tensorflow/lite/tools/benchmark/benchmark_model.cc (OnBenchmarkEnd),
.../android/jni/benchmark_model_jni.cc and tensorflow/core/util/stats_calculator.h (Stat::OutputToStream), in
microseconds; LiteRT, litert/tools/benchmark_litert_model.h, in milliseconds. Older versions write no percentiles.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardware_models.measuring.delegates import what_ran
from hardware_models.measuring.log_file import LogLine, read_log
from search_spaces.errors import InvalidInputError

_VALUE = r"([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)(?![0-9.])"
_SUMMARY = re.compile(  # until TensorFlow 2.2 as `Average ...`, of which the app never wrote another line
    rf"Inference timings in us: .*\bInference \(avg\): {_VALUE}"
    rf"|Average inference timings in us: .*\b(?:Inference|no stats): {_VALUE}"
)
_LITERT_SUMMARY = re.compile(rf"Inference \(avg\): +{_VALUE} ms \(([0-9]+) runs\)$")
_LITERT_DIGIT_MS = 0.005  # two decimals are printed
_STATISTICS = re.compile(r"count=([0-9]+) (.*)")  # profiles have such lines too, with words before `count`
_FIELD = re.compile(rf"(\w+)={_VALUE}")
_THREADS = re.compile(r"(?:Num threads|#threads used for CPU inference): \[([0-9]+)\]")
_CRASH = re.compile(r"Benchmarking failed|Aborted|Segmentation fault")
_FAILURE = re.compile(r"ERROR\b|Failed to (?!get the input model file size)")  # that one is harmless
_RESULT = re.compile(r"inference.{0,20}(?:avg|average|timing)", re.IGNORECASE)  # of any layout


@dataclass(frozen=True, slots=True)
class TfliteRun:
    """What a log says of inference after warm-up. `latency_ms` is the median where the log has one, else the mean.

    `runtime` is what ran the network, empty where the log does not say; `missed` was asked for and ran nothing of it.
    """

    latency_ms: float
    statistic: Literal["median", "mean"]
    min_ms: float | None
    repeats: int | None
    warmup: int | None
    threads: int | None
    runtime: str
    missed: tuple[str, ...]


def read_tflite_log(path: Path) -> TfliteRun:
    """The run in a log. Raises: InvalidInputError if it holds none, several, a failed one, or contradicts itself."""
    lines = read_log(path)
    try:
        ends = [line for line in lines if _summary(line) is not None]
        processes = {line.process for line in ends}
        lines = [line for line in lines if line.process in processes | {""}] if ends else lines
        _check_success(lines)
        if len(ends) != 1:
            raise InvalidInputError(_no_result(lines) if not ends else _several(ends))
        return _run(ends[0], lines)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def _check_success(lines: Sequence[LogLine]) -> None:
    for line in lines:
        is_error = line.level in ("E", "F") and _summary(line) is None  # the old app wrote its result as an error
        if is_error or _CRASH.match(line.message) or (not line.level and _FAILURE.match(line.message)):
            raise InvalidInputError(
                f"line {line.number}: the run failed or ran otherwise than asked: {line.message[:200]!r}; mend it and "
                "run it again"
            )


def _no_result(lines: Sequence[LogLine]) -> str:
    unknown = next((line for line in lines if _RESULT.search(line.message)), None)
    if unknown is not None:
        return f"line {unknown.number}: this layout is unknown: {unknown.message[:200]!r}; {_KNOWN}"
    return f"no result; was the run cut off? {_KNOWN}"


_KNOWN = (
    "known: 'Inference timings in us: ... Inference (avg): ...', 'Average inference timings in us: ...' (TensorFlow "
    "Lite), 'Inference (avg): ... ms (... runs)' (LiteRT), as printed or with what logcat or Android Studio put before"
)


def _several(ends: Sequence[LogLine]) -> str:
    numbers = ", ".join(str(line.number) for line in ends)
    return f"{len(ends)} results, in lines {numbers}; give each run a log of its own"


def _run(end: LogLine, lines: Sequence[LogLine]) -> TfliteRun:
    # A summary alone is enough. Before it stand the runs of warm-up, then those of inference.
    mean_us = _summary(end)
    assert mean_us is not None
    statistics = [fields for line in lines if line.number < end.number and (fields := _statistics(line))]
    inference = statistics[-1] if statistics else {"avg": mean_us}
    found_us = inference.get("avg", inference.get("curr", math.nan))
    litert = _LITERT_SUMMARY.match(end.message)
    # Both are printed with six digits, or one with two decimals.
    tolerance_us = _LITERT_DIGIT_MS * 1e3 * 1.01 if litert else 0.0
    if not math.isclose(found_us, mean_us, rel_tol=1e-4, abs_tol=tolerance_us) or not 0 < found_us < math.inf:
        raise InvalidInputError(
            f"line {end.number}: the result is {mean_us:g} us, the line 'count=...' before it says {found_us:g} us; "
            "the log is mixed or damaged"
        )
    if litert and not statistics:
        inference["count"] = float(litert[2])
    single = inference.get("count") == 1  # the tool then prints the time alone
    median_us = inference.get("curr") if single else inference.get("median")
    runtime, missed = _runtime("LiteRT" if litert else "TFLite", lines)
    return TfliteRun(
        latency_ms=(found_us if median_us is None else median_us) / 1e3,
        statistic="mean" if median_us is None else "median",
        min_ms=inference["min"] / 1e3 if "min" in inference else None,
        repeats=int(inference["count"]) if "count" in inference else None,
        warmup=int(statistics[-2]["count"]) if len(statistics) > 1 else None,
        threads=next((int(found[1]) for line in lines if (found := _THREADS.match(line.message))), None),
        runtime=runtime,
        missed=missed,
    )


def _runtime(tool: str, lines: Sequence[LogLine]) -> tuple[str, tuple[str, ...]]:
    ran = what_ran(lines)
    if tool == "LiteRT" and not ran.names:  # it does not print what it was asked for
        raise InvalidInputError(
            "no line says what ran the network, as 'Replacing ... node(s) with delegate (...)' does; give the whole log"
        )
    return " ".join([tool, *ran.names]) if ran.is_known else "", ran.missed


def _summary(line: LogLine) -> float | None:
    """The mean time in microseconds, if the line gives a run's result."""
    if found := _SUMMARY.match(line.message):
        return float(found[1] or found[2])
    found = _LITERT_SUMMARY.match(line.message)
    return float(found[1]) * 1e3 if found else None


def _statistics(line: LogLine) -> dict[str, float] | None:
    found = _STATISTICS.match(line.message)
    if found is None:
        return None
    return {"count": float(found[1]), **{name: float(value) for name, value in _FIELD.findall(found[2])}}
