"""The log of TFLite's `benchmark_model`: one run's times of inference, in milliseconds.

Source of the format: TensorFlow, tensorflow/lite/tools/benchmark/benchmark_model.cc (OnBenchmarkEnd) and
tensorflow/core/util/stats_calculator.h (Stat::OutputToStream). Times are in microseconds there. Older versions write no
percentiles.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of

_VALUE = r"([0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)(?![0-9.])"
# Android's log puts time, process and tag before each line, a shell nothing or the level.
_PREFIX = re.compile(r"^(?:\S+ +\S+ +\d+ +\d+ )?(?:[VDIW][ /]tflite\s*(?:\( *\d+\))?: |INFO: |WARN(?:ING)?: )")
_SUMMARY = re.compile(rf"Inference timings in us: .*\bInference \(avg\): {_VALUE}")
_STATISTICS = re.compile(r"count=([0-9]+) (.*)")  # profiles have such lines too, with words before `count`
_FIELD = re.compile(rf"(\w+)={_VALUE}")
_THREADS = re.compile(r"(?:Num threads|#threads used for CPU inference): \[([0-9]+)\]")
_FAILURE = re.compile(
    r"ERROR\b|(?:\S+ +\S+ +\d+ +\d+ )?[EF][ /]tflite|Benchmarking failed|Aborted|Segmentation fault"
    r"|Failed to (?!get the input model file size)"  # that one is harmless
)
# Delegates that were applied; those that were requested and missing leave a line that they are not supported.
_APPLIED = re.compile(r"(?:Explicitly a|A)pplied (?:the )?(\w+) delegate|Created TensorFlow Lite (XNNPACK) delegate")


@dataclass(frozen=True, slots=True)
class TfliteRun:
    """What a log says of inference after warm-up. `latency_ms` is the median where the log has one, else the mean."""

    latency_ms: float
    statistic: Literal["median", "mean"]
    min_ms: float | None
    repeats: int | None
    warmup: int | None
    threads: int | None
    runtime: str


def read_tflite_log(path: Path) -> TfliteRun:
    """The run in a log. Raises: InvalidInputError if it holds none, several, a failed one, or contradicts itself."""
    lines = _lines(path)
    failures = [(number, line) for number, line in enumerate(lines, start=1) if _FAILURE.match(line)]
    if failures:
        number, line = failures[0]
        raise InvalidInputError(f"{path}: line {number}: the run failed: {line[:200]!r}; mend it and run it again")
    ends = [i for i, line in enumerate(lines) if _summary(line) is not None]
    if not ends:
        raise InvalidInputError(
            f"{path}: no result: no line 'Inference timings in us: ... Inference (avg): ...'; was the run cut off?"
        )
    if len(ends) > 1:
        numbers = ", ".join(str(i + 1) for i in ends)
        raise InvalidInputError(f"{path}: {len(ends)} results, in lines {numbers}; give each run a log of its own")
    mean_us, statistics = _summary(lines[ends[0]]), [s for s in map(_statistics, lines[: ends[0]]) if s]
    assert mean_us is not None
    return _run(path, mean_us, statistics, lines)


def _run(path: Path, mean_us: float, statistics: Sequence[dict[str, float]], lines: Sequence[str]) -> TfliteRun:
    # A summary alone is enough. Before it stand the runs of warm-up, then those of inference.
    inference = statistics[-1] if statistics else {"avg": mean_us}
    found_us = inference.get("avg", inference.get("curr", math.nan))
    # Both are printed with six digits.
    if not math.isclose(found_us, mean_us, rel_tol=1e-4) or not 0 < mean_us < math.inf:
        raise InvalidInputError(
            f"{path}: the result is {mean_us:g} us, the line 'count=...' before it says {found_us:g} us; "
            "the log is mixed or damaged"
        )
    single = inference.get("count") == 1  # the tool then prints the time alone
    median_us = inference.get("curr") if single else inference.get("median")
    return TfliteRun(
        latency_ms=(mean_us if median_us is None else median_us) / 1e3,
        statistic="mean" if median_us is None else "median",
        min_ms=inference["min"] / 1e3 if "min" in inference else None,
        repeats=int(inference["count"]) if "count" in inference else None,
        warmup=int(statistics[-2]["count"]) if len(statistics) > 1 else None,
        threads=next((int(found[1]) for line in lines if (found := _THREADS.match(line))), None),
        runtime=_runtime(lines),
    )


def _runtime(lines: Sequence[str]) -> str:
    applied = [found[1] or found[2] for line in lines if (found := _APPLIED.match(line))]
    return " ".join(["TFLite", *dict.fromkeys(applied)])


def _summary(line: str) -> float | None:
    found = _SUMMARY.match(line)
    return float(found[1]) if found else None


def _statistics(line: str) -> dict[str, float] | None:
    found = _STATISTICS.match(line)
    if found is None:
        return None
    return {"count": float(found[1]), **{name: float(value) for name, value in _FIELD.findall(found[2])}}


def _lines(path: Path) -> list[str]:
    try:
        return [_PREFIX.sub("", line) for line in text_of(path).splitlines()]
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"cannot read the log {path}: {error}") from error
