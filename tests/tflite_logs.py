"""Logs of each version of TensorFlow Lite's and LiteRT's `benchmark_model`, with the figures of one run in all."""

from pathlib import Path

WARM = "count=8 first=70210 curr=66120 min=65870 max=70210 avg=66702.5 std=1301"
MAIN = "count=50 first=66341 curr=66020 min=65710 max=68012 avg=66215.4 std=402"
RUNNING = "Running benchmark for at least {} iterations and at least {} seconds but terminate if exceeding 150 seconds."
NOW = "Inference timings in us: Init: 31200, First inference: 70210, Warmup (avg): 66702.5, Inference (avg): 66215.4"
UNTIL_2_2 = "Average inference timings in us: Warmup: 66702.5, Init: 31200, Inference: 66215.4"


def times(summary: str = NOW, percentiles: bool = False) -> list[str]:
    """The lines from the first run of warm-up on."""
    more = (" p5=65870 median=66150 p95=70210", " p5=65750 median=66110 p95=67300") if percentiles else ("", "")
    return [RUNNING.format(1, 0.5), WARM + more[0], "", RUNNING.format(50, 1), MAIN + more[1], "", summary]


def log(*between: str, summary: str = NOW, percentiles: bool = False) -> list[str]:
    """A whole log, with lines between its parameters and its times."""
    head = ["STARTING!", "Num threads: [4]", "Graph: [net.tflite]"]
    return [*head, *between, "Initialized session in 31.2ms.", *times(summary, percentiles)]


LITERT_RESULTS = [
    "",
    "========== BENCHMARK RESULTS ==========",
    "[benchmark_litert_model.h:76] Model initialization: 31.20 ms",
    "[benchmark_litert_model.h:78] Warmup (first):       70.21 ms",
    "[benchmark_litert_model.h:80] Warmup (avg):         66.70 ms (8 runs)",
    "[benchmark_litert_model.h:82] Inference (avg):      66.22 ms (50 runs)",
    "[benchmark_litert_model.h:86] Inference (min):      65.71 ms",
    "[benchmark_litert_model.h:88] Inference (max):      68.01 ms",
    "[benchmark_litert_model.h:90] Inference (std):      0.40",
]
LITERT_GPU = "Replacing 31 out of 31 node(s) with delegate (LITERT_CL) node, yielding 1 partitions for subgraph 0."


def litert(*between: str) -> list[str]:
    """A log of LiteRT's tool, which names no delegate that it was asked for."""
    start = [
        "STARTING!",
        "Log parameter values verbosely: [0]",
        "[benchmark_litert_model.cc:108] Loading model from: a",
    ]
    return [*start, *between, *times(LITERT_RESULTS[0], percentiles=True), *LITERT_RESULTS]


def write(path: Path, lines: list[str], encoding: str = "utf-8", end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path
