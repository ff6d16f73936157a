"""Real searches on CIFAR-10 for NAS-Bench-201 cells, judged by the benchmark's own table.

    python tests/benchmarks/nasbench201_search.py --data ../shared/data [--seeds 3] [--free] [--column ...] [--alone]

Each search is for three devices at once, with latency budgets at a quantile of what was measured of connected cells
(three live edges or more). Regret is the best test accuracy (CIFAR-10, 200 epochs) of all cells whose predicted latency
is within the budget, less that of the cell found, in points. CPU-seconds are of the whole search, all phases; what is
found without a supernet is not trained further, as the table judges it. `--alone` makes three searches, each for one
device, whose priors score a third as many networks at first. `--column` judges the same searches by another data set.
"""

import argparse
import csv
import gzip
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tiny_search import composed

from hardware_models.budgets.cost_table import METRICS, CostTable
from search_spaces.nasbench201.space import NasBench201Space, live_edges, parse_arch
from trainers.cli.search import run_search
from trainers.runs.config import validate
from trainers.search.plan import load_profile

DEVICES = ("nb201_pixel3", "nb201_raspi4", "nb201_samsung_a50")
QUANTILES = (25, 50)
COLUMNS = ("test_acc_cifar10", "test_acc_cifar100", "test_acc_imagenet16_120")
LEAST_LIVE = 3
COMMON = [
    "experiment=nasbench201_devices",
    "margin=point",
    "trainer.deploy=false",
    "trainer.finetune_steps=0",
    "trainer.validation_images=256",
    "trainer.threads=1",
    "trainer.random_candidates=0",
]
UNTRAINED = ["trainer.steps=2"]  # of the networks found, as the table judges them
ONE = ["trainer.candidates=1", "evaluator.steps=[2]"]
ARMS = {
    "default": [],
    "prior + short training": ["searcher=prior", *UNTRAINED],
    "prior alone": ["searcher=prior", *UNTRAINED, *ONE],
    "evolution + short training": ["searcher=evolution"],
    "predictor + short training": ["searcher=predictor"],
    "local + short training": ["searcher=local_search"],
    "live parameters alone": ["searcher=prior", *UNTRAINED, "prior.scores=[live_parameters]", *ONE],
    "random + short training": ["searcher=random", *UNTRAINED, "prior=none", "trainer.random_candidates=8"],
    "random": ["searcher=random", *UNTRAINED, "prior=none", *ONE, "trainer.random_candidates=1"],
    "pool + inherited": ["prior=none", "evaluator=inherited"],
}


@dataclass(frozen=True)
class Cells:
    """All cells that the table has: accuracy in %, latency in ms by device, and whether they are connected."""

    accuracy: dict[str, float]
    latency_ms: dict[str, dict[str, float]]
    connected: frozenset[str]


@cache
def read_cells(folder: Path, column: str = COLUMNS[0]) -> Cells:
    with gzip.open(folder / "benchmarks" / "nb201.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    connected = frozenset(r["arch_str"] for r in rows if len(live_edges(parse_arch(r["arch_str"]))) >= LEAST_LIVE)
    latency = {
        name: {r["arch_str"]: float(r[f"lat_ms_{name.removeprefix('nb201_')}"]) for r in rows} for name in DEVICES
    }
    return Cells({r["arch_str"]: float(r[column]) for r in rows}, latency, connected)


def budgets(cells: Cells, quantile: int) -> dict[str, float]:
    """Latency budget in ms of each device."""
    return {
        name: round(float(np.percentile([ms for cell, ms in times.items() if cell in cells.connected], quantile)), 3)
        for name, times in cells.latency_ms.items()
    }


def best_within(cells: Cells, predicted_ms: dict[str, float], budget_ms: float) -> float:
    return max(accuracy for cell, accuracy in cells.accuracy.items() if predicted_ms[cell] <= budget_ms)


@cache
def predictions(folder: Path, name: str) -> dict[str, float]:
    """Predicted latency in ms of every cell on a device."""
    config = validate(composed("experiment=nasbench201_devices", f"paths.data={folder}"))
    profile, space = load_profile(name, config.hardware[name], config), NasBench201Space()
    cells = list(read_cells(folder).accuracy)
    totals = CostTable(space, [profile]).of(np.array([space.indices(parse_arch(cell)) for cell in cells]), 0)
    latency = METRICS.index("latency_ms")
    return {
        cell: profile.estimate("latency_ms", float(total))
        for cell, total in zip(cells, totals[:, latency], strict=True)
    }


def search(
    folder: Path, arm: str, quantile: int | None, seed: int, runs: str, devices: Sequence[str], column: str
) -> tuple[list[float], float]:
    """Regret on each device, in points, and CPU-seconds of one search; no `quantile`: without binding budgets."""
    cells, paths = read_cells(folder, column), [f"paths.data={folder}", f"paths.runs={runs}"]
    limits = dict.fromkeys(DEVICES, 1e6) if quantile is None else budgets(cells, quantile)
    asked = [f"hardware=[{','.join(devices)}]"]
    asked += [f"hardware.{name}.budgets.latency_ms={limits[name]}" for name in devices]
    if len(devices) < len(DEVICES) and "prior=none" not in ARMS[arm]:
        networks = composed(*COMMON, *ARMS[arm], *paths)["prior"]["networks"]
        asked.append(f"prior.networks={networks * len(devices) // len(DEVICES)}")
    started = time.process_time()
    config = validate(composed(*COMMON, *ARMS[arm], *asked, f"seed={seed}", *paths))
    result = run_search(config, report=lambda line: None)
    seconds = time.process_time() - started
    regrets = []
    for name, device in result.devices.items():
        best = best_within(cells, predictions(folder, name), limits[name])
        regrets.append(best - cells.accuracy[device.notation])
        assert device.met
    return regrets, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds cifar10/ and benchmarks/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--arms", default=",".join(ARMS), help=f"of {', '.join(ARMS)}")
    parser.add_argument(
        "--free", action="store_true", help="without binding budgets; else at the 25 and 50 % quantiles"
    )
    parser.add_argument("--column", choices=COLUMNS, default=COLUMNS[0], help="accuracy that cells are judged by")
    parser.add_argument("--alone", action="store_true", help="a search for each device")
    arguments = parser.parse_args()
    folder = arguments.data.resolve()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {date.today()}")
    print(f"{'arm':28} {'budget':>7} {'n':>3} {'regret: mean ± se':>19} {'worst':>6} {'CPU s':>7}   by seed")
    for arm in arguments.arms.split(","):
        for quantile in (None,) if arguments.free else QUANTILES:
            found, seconds = [], []
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                with tempfile.TemporaryDirectory() as runs:
                    groups = [(name,) for name in DEVICES] if arguments.alone else [DEVICES]
                    parts = [search(folder, arm, quantile, seed, runs, group, arguments.column) for group in groups]
                found.append([regret for regrets, _ in parts for regret in regrets])
                seconds.append(sum(spent for _, spent in parts))
            every = [regret for regrets in found for regret in regrets]
            error = stdev(every) / len(every) ** 0.5
            by_seed = "  ".join("/".join(f"{regret:.2f}" for regret in regrets) for regrets in found)
            budget = "none" if quantile is None else f"{quantile} %"
            print(
                f"{arm:28} {budget:>7} {len(every):3d} {mean(every):12.2f} ± {error:.2f} {max(every):6.2f} "
                f"{mean(seconds):7.0f}   {by_seed}",
                flush=True,
            )


if __name__ == "__main__":
    main()
