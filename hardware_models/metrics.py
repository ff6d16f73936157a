"""Names of the costs that are budgeted, and of what a budget is checked against."""

from typing import Literal, get_args

Metric = Literal["latency_ms", "gflops", "params_m", "peak_memory_mb"]
METRICS: tuple[Metric, ...] = get_args(Metric)
UNITS = {
    "latency_ms": "ms",
    "gflops": "GFLOPs (one multiply-add is one)",
    "params_m": "million",
    "peak_memory_mb": "MB",
}
# What a budget is checked against: the upper bound of an estimate, or the estimate itself.
Margin = Literal["upper", "point"]
