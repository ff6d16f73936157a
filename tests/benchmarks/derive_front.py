"""Seconds of a front that is derived from one search, beside those of the search itself.

    python tests/benchmarks/derive_front.py [overrides of espalier-search]

One search that keeps its supernet, then 20 budgets of its first device derived from it. A new search for each budget
would take its seconds 20 times. Nothing is trained on or exported in either. On a machine that is busy with other work,
compare the seconds of processors.
"""

import platform
import resource
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


def timed(script: str, *arguments: str) -> tuple[float, float]:
    """Wall seconds of a console script, and seconds of all its processors."""
    started, before_s = time.perf_counter(), processor_s()
    code = f"from trainers.cli.{script} import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=sys.stderr)
    return time.perf_counter() - started, processor_s() - before_s


def processor_s() -> float:
    """Seconds that the processes which have ended here took of processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def result_in(runs: Path) -> tuple[Path, Result]:
    (path,) = runs.glob("*/result.json")
    return path.parent, read_result(path)


def main() -> None:
    print(f"{datetime.now(UTC):%Y-%m-%d}  {cpu_model()}  python {platform.python_version()}  torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        runs = f"paths.runs={folder}"
        search_s, search_cpu_s = timed("search_command", *ALONE, "trainer.keep=supernet", runs, *sys.argv[1:])
        run, searched = result_in(Path(folder, "search"))
        device = next(iter(searched.devices))
        front = f"front={{hardware:{device},metric:latency_ms,points:{POINTS}}}"
        derive_s, derive_cpu_s = timed("derive_command", f"from={run}", front, runs)
        _, derived = result_in(Path(folder, "derive"))
    points = derived.devices.values()
    within = sum(point.met and point.held["latency_ms"] <= point.budgets["latency_ms"] for point in points)
    budgets = [point.budgets["latency_ms"] for point in points]
    count = len(budgets)
    rows = {
        f"one search, training {searched.search.train_seconds:.0f} s": (search_s, search_cpu_s),
        f"{count} budgets derived from it": (derive_s, derive_cpu_s),
        f"{count} searches instead": (search_s * count, search_cpu_s * count),
        "ratio": (search_s * count / derive_s, search_cpu_s * count / derive_cpu_s),
    }
    print(f"{'':32} {'wall, s':>10} {'processors, s':>14}")
    for words, (wall_s, cpu_s) in rows.items():
        print(f"{words:32} {wall_s:10.1f} {cpu_s:14.1f}")
    print(f"certified within budget {within} of {count}, {device} {min(budgets):g} to {max(budgets):g} ms")
    for point in points:
        share = point.validation.accuracy
        print(f"  {point.budgets['latency_ms']:8.4g} ms  held {point.held['latency_ms']:8.4g}  validation {share:.3f}")


if __name__ == "__main__":
    main()
