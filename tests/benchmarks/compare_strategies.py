"""Compares strategies over seeds from finished runs of one space and data set.

    espalier-search -m space=mobile data=fashion_mnist strategy=pool,random 'seed=range(5)' sweep=compare
    python tests/benchmarks/compare_strategies.py runs/compare

Prints, per device and strategy, budgets met (recounted), the share of the binding budget used, and inherited, finetuned
and same-supernet random test accuracy: mean and standard deviation over seeds (n - 1).
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """Results of the finished runs below a folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/result.json"))]


def spread(values: list[float]) -> str:
    deviation = f"{stdev(values):.4f}" if len(values) > 1 else "   n/a"
    return f"{mean(values):.4f} ± {deviation}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="sweep folder with one run folder per strategy and seed")
    results = read_runs(parser.parse_args().folder)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        for name, device in result["devices"].items():
            rows[name, result["strategy"]].append(device)
        rows["mean of devices", result["strategy"]].append(_mean_device(list(result["devices"].values())))
    print(
        f"{'device':16} {'strategy':9} {'n':>3} {'met':>6} {'binding budget used':>20} {'inherited':>17} "
        f"{'finetuned':>17} {'random, same net':>17}"
    )
    for (name, strategy), devices in sorted(rows.items()):
        accuracy = {key: [d["accuracy"][key] for d in devices] for key in ("inherited", "finetuned", "random")}
        used = [d["utilisation"][d["binding"]] for d in devices]
        met = sum(recounted_within(d) for d in devices)
        print(
            f"{name:16} {strategy:9} {len(devices):3d} {met:3d}/{len(devices):<2d} {min(used):8.1%}–{max(used):<8.1%} "
            + " ".join(f"{spread(accuracy[key]):>17}" for key in ("inherited", "finetuned", "random"))
        )


def _mean_device(devices: list[dict[str, Any]]) -> dict[str, Any]:
    """One run as if it had one device: accuracies averaged, all else of the device that uses its budget least."""
    least = min(devices, key=lambda d: d["utilisation"][d["binding"]])
    accuracy = {key: mean(d["accuracy"][key] for d in devices) for key in ("inherited", "finetuned", "random")}
    return {**least, "accuracy": accuracy, "met": all(recounted_within(d) for d in devices)}


def recounted_within(device: dict[str, Any]) -> bool:
    """Whether every budget holds for the upper bound and, where there is a recount, for the recounted figure."""
    budgets = device["budgets"]
    predicted = all(device["upper"][metric] <= limit for metric, limit in budgets.items())
    recounted = all(cost <= budgets.get(metric, cost) * (1 + 1e-6) for metric, cost in device["recounted"].items())
    return predicted and recounted and device["met"]


if __name__ == "__main__":
    main()
