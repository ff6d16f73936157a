"""Names of the costs that are budgeted, and of what a budget is checked against."""

from typing import Literal, get_args

Metric = Literal["latency_ms", "gflops", "params_m", "peak_memory_mb"]
METRICS: tuple[Metric, ...] = get_args(Metric)
# What a budget is checked against: the upper bound of an estimate, or the estimate itself.
Margin = Literal["upper", "point"]
