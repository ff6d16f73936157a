"""Profiles with prices of their own: those shipped, and one made up for tests."""

import yaml
from spaces import ROOT

_ALL = {
    path: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "conf" / "hardware").glob("*.yaml"))
}
FILES = [
    path
    for path, content in _ALL.items()
    if content.get("latency", {}).get("model") in ("roofline", "additive") and content["error"]
]
ROOFLINE = {
    "title": "A device made up for this test",
    "runtime": "none",
    "threads": 2,
    "precision": "fp16",
    "budgets": {"latency_ms": 10, "gflops": 1.5, "params_m": None},
    "latency": {
        "model": "roofline",
        "weight_gb_per_s": 4.0,
        "activation_gb_per_s": 2.0,
        "kinds": {
            "dense": {"throughput_gops": 10.0, "overhead_ms": 0.25},
            "elementwise": {"throughput_gops": None, "overhead_ms": 0.0},
        },
    },
    "error": {"method": "by hand", "n": 1, "mape": 0, "median_ape": 0, "within_20_share": 1, "spearman": 1},
    "bound": {"level": 0.9, "n": 20, "factor": 1.25},
    "source": "this test",
    "measured": [],
    "inferred": [],
}
