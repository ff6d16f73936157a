"""Whether two folders of runs found the same, bit for bit: networks, weights, accuracies, metrics, choices removed.

    python tests/benchmarks/compare_runs.py before/runs after/runs

Runs are matched by sweep and name; the hash in a name may differ, and so may times, versions and code.
Exit code: 0 if all are the same, else 1.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TIMES = ("time/step_s",)  # columns of metrics.csv
DEVICE = ("id", "notation", "met", "budgets", "held", "predicted", "upper", "recounted", "utilisation", "accuracy")
DEVICE += ("validation", "candidates", "random_candidates", "cut")


def main() -> None:
    before, after = (runs_in(Path(argument)) for argument in sys.argv[1:3])
    alike = True
    for name in sorted({*before, *after}):
        differences = (
            ["missing"] if name not in before or name not in after else list(compare(before[name], after[name]))
        )
        alike &= not differences
        print(f"{name:50} {'the same' if not differences else 'DIFFERS: ' + ', '.join(differences)}")
    sys.exit(0 if alike and before else 1)


def runs_in(folder: Path) -> dict[str, Path]:
    """Run folders by sweep and name without its hash."""
    found = [path.parent for path in sorted(folder.glob("*/*/result.json"))]
    return {f"{run.parent.name}/{run.name.rpartition('-')[0]}": run for run in found}


def compare(before: Path, after: Path) -> Iterator[str]:
    results = [json.loads((run / "result.json").read_text()) for run in (before, after)]
    for device in sorted({device for result in results for device in result["devices"]}):
        old, new = (result["devices"].get(device, {}) for result in results)
        yield from (f"{device}.{field}" for field in DEVICE if old.get(field) != new.get(field))
    weights = [{name: text for name, text in result["files"].items() if "weights" in name} for result in results]
    if weights[0] != weights[1]:
        yield "weights"
    if metrics_of(before) != metrics_of(after):
        yield "metrics.csv"
    if (before / "prune.csv").read_bytes() != (after / "prune.csv").read_bytes():
        yield "prune.csv"
    arrays = [dict(np.load(run / "alphas.npz")) for run in (before, after)]
    if any(not np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0]):
        yield "alphas.npz"


def metrics_of(run: Path) -> list[dict[str, Any]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: text for name, text in row.items() if name not in TIMES} for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
