"""Looks the networks of finished `nasbench201` searches up in the benchmark's table.

    python tests/benchmarks/nasbench201_lookup.py runs/search/<run> [...] --data ../data

Prints for each device the cell, its predicted latency and the bound that its budget limits, and beside them
what the benchmark measured: latency, and test accuracy after 200 epochs (CIFAR-10), with the best accuracy of any cell
whose measured latency is within the budget.
"""

import argparse
import csv
import gzip
import json
from pathlib import Path

PROFILE_PREFIX = "nb201_"


def read_benchmark(folder: Path) -> dict[str, dict[str, str]]:
    """Rows of the benchmark's table by the cell's string."""
    with gzip.open(folder / "benchmarks" / "nb201.csv.gz", "rt", encoding="utf-8") as file:
        return {row["arch_str"]: row for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with a result.json")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds benchmarks/nb201.csv.gz")
    arguments = parser.parse_args()
    table = read_benchmark(arguments.data)
    print(f"{'device':14} {'seed':>4} {'budget':>7} {'predicted':>9} {'bound':>7} {'measured':>8}   ms")
    for run in arguments.runs:
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        for name, device in result["devices"].items():
            column = f"lat_ms_{name.removeprefix(PROFILE_PREFIX)}"
            budget = device["budgets"]["latency_ms"]
            row = table[device["notation"]]
            within = [r for r in table.values() if 0 < float(r[column]) <= budget]
            best = max(within, key=lambda r: float(r["test_acc_cifar10"]))
            print(
                f"{name.removeprefix(PROFILE_PREFIX):14} {result['seed']:4d} {budget:7.2f} "
                f"{device['predicted']['latency_ms']:9.2f} {device['upper']['latency_ms']:7.2f} "
                f"{float(row[column]):8.2f}"
            )
            print(f"    {device['notation']}")
            print(
                f"    benchmark test accuracy {float(row['test_acc_cifar10']):.2f} %, best cell measured within the "
                f"budget {float(best['test_acc_cifar10']):.2f} %; "
                f"supernet-inherited {device['accuracy']['inherited']:.3f}"
            )


if __name__ == "__main__":
    main()
