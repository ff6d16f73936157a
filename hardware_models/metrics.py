"""Names of the costs that are budgeted, and of what a budget is checked against."""

from collections.abc import Mapping
from typing import Literal, get_args

Metric = Literal["latency_ms", "gflops", "params_m", "peak_memory_mb", "flash_kb", "sram_kb"]
METRICS: tuple[Metric, ...] = get_args(Metric)
# Metrics with the largest activations of a network among them, and their unit in MB: all other costs are sums.
PEAK_METRICS: Mapping[Metric, float] = {"peak_memory_mb": 1.0, "sram_kb": 1e3}
UNITS = {
    "latency_ms": "ms",
    "gflops": "GFLOPs (one multiply-add is one)",
    "params_m": "million",
    "peak_memory_mb": "MB",
    "flash_kb": "kB (10^3 bytes) of weights and biases",
    "sram_kb": "kB (10^3 bytes) of activations",
}
# What a budget is checked against: the upper bound of an estimate, or the estimate itself.
Margin = Literal["upper", "point"]
