"""Seconds of a front that is derived from one search, beside those of the search itself.

    python tests/benchmarks/derive_front.py [overrides of espalier-search]

One search that keeps its supernet, then 20 budgets of its first device derived from it. A new search for each budget
would take its seconds 20 times. Nothing is trained on or exported in either.
"""

import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from hardware_models.measuring.runner import cpu_model
from trainers.runs.result import Result, read_result

POINTS = 20
ALONE = ("trainer.deploy=false", "trainer.finetune_steps=0")


def timed(script: str, *arguments: str) -> float:
    """Wall seconds of a console script."""
    started = time.perf_counter()
    code = f"from trainers.cli.{script} import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=sys.stderr)
    return time.perf_counter() - started


def result_in(runs: Path) -> tuple[Path, Result]:
    (path,) = runs.glob("*/result.json")
    return path.parent, read_result(path)


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}  {cpu_model()}  python {platform.python_version()}  torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        runs = f"paths.runs={folder}"
        search_s = timed("search_command", *ALONE, "trainer.keep=supernet", runs, *sys.argv[1:])
        run, searched = result_in(Path(folder, "search"))
        device = next(iter(searched.devices))
        front = f"front={{hardware:{device},metric:latency_ms,points:{POINTS}}}"
        derive_s = timed("derive_command", f"from={run}", front, runs)
        _, derived = result_in(Path(folder, "derive"))
    points = derived.devices.values()
    within = sum(point.met and point.held["latency_ms"] <= point.budgets["latency_ms"] for point in points)
    budgets = [point.budgets["latency_ms"] for point in points]
    print(f"one search              {search_s:8.1f} s  (training {searched.search.train_seconds:.1f} s)")
    print(f"{len(budgets)} budgets derived      {derive_s:8.1f} s  ({derive_s / len(budgets):.1f} s each)")
    instead_s = search_s * len(budgets)
    print(f"{len(budgets)} searches instead    {instead_s:8.0f} s  ({instead_s / derive_s:.1f}x)")
    print(f"certified within budget {within} of {len(budgets)}, {device} {min(budgets):g} to {max(budgets):g} ms")
    for point in points:
        share = point.validation.accuracy
        print(f"  {point.budgets['latency_ms']:8.4g} ms  held {point.held['latency_ms']:8.4g}  validation {share:.3f}")


if __name__ == "__main__":
    main()
