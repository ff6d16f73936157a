"""Where the logits of published strategies lead on NAS-Bench-201 cells, over training, on a CPU's skeleton.

    python tests/benchmarks/argmax_over_training.py --data ../shared/data [--seeds 3] [--steps 500] [--strategies gdas]

One device without a budget that binds. The skeleton has one cell a stage of 8 channels, images of 16 pixels, batches of
64; the logits' Adam has a rate of .03, for theirs of 3e-4 moves no logit within so few steps. A column is the mean test
accuracy (CIFAR-10, the benchmark's table, 200 epochs) of the cell of the largest weights at that share of the training,
with its standard error; skips are those of the last cell's six edges, regret that to the best cell of the table.
"""

import argparse
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from nasbench201_search import Cells, read_cells

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tiny_search import composed

from search_spaces.nasbench201.space import NasBench201Space
from trainers.cli.search import run_search
from trainers.runs.config import validate

STRATEGIES = ("darts", "darts_second", "gdas", "drnas", "snas", "pool")
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the steps
ASKED = (
    "experiment=nasbench201_devices",
    "prior=none",
    "evaluator=inherited",
    "searcher=differentiable",
    "hardware=[nb201_pixel3]",
    "hardware.nb201_pixel3.budgets.latency_ms=1e6",
    "space.search_cells=1",
    "arch_optimizer.lr=0.03",
    "optimizer.lr=0.1",
    "trainer.prune_events=1",
    "trainer.candidates=1",
    "trainer.random_candidates=0",
    "trainer.validation_images=64",
    "trainer.finetune_steps=0",
    "trainer.deploy=false",
    "trainer.threads=1",
    "trainer.arch_every=1",
    "trainer.warmup_share=0",
)


def cells_over_training(folder: Path, strategy: str, seed: int, steps: int) -> tuple[list[str], float]:
    """The cell of the largest weights at each of the shares, in the benchmark's notation, and CPU-seconds."""
    space, started = NasBench201Space(), time.process_time()
    with tempfile.TemporaryDirectory() as runs:
        given = (f"strategy={strategy}", f"trainer.steps={steps}", f"seed={seed}", f"paths.data={folder}")
        config = validate(composed(*given, *ASKED, f"paths.runs={runs}"))
        run_search(config, report=lambda line: None)
        (logged,) = Path(runs).rglob("alphas.npz")
        with np.load(logged) as stored:
            weights_EN, at_step = stored["weights"][:, 0], stored["step"]
    sizes = [len(decision.choices) for decision in space.decisions]
    found = []
    for share in SHARES:
        row_N = weights_EN[int(np.abs(at_step - share * steps).argmin())]
        parts = np.split(row_N, np.cumsum(sizes)[:-1])
        found.append(space.notation(space.choices(tuple(int(part.argmax()) for part in parts))))
    return found, time.process_time() - started


def shown(values: list[float]) -> str:
    return (
        f"{mean(values):6.2f} ± {stdev(values) / len(values) ** 0.5:4.2f}" if len(values) > 1 else f"{values[0]:6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds cifar10/ and benchmarks/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    arguments = parser.parse_args()
    folder = arguments.data.resolve()
    cells: Cells = read_cells(folder)
    best = max(cells.accuracy.values())
    machine = platform.processor() or platform.machine()
    print(f"{machine}, torch {torch.__version__}, {date.today()}, {arguments.steps} steps")
    shares = "".join(f"{share:>15.0%}" for share in SHARES)
    print(f"{'strategy':14}{shares}{'regret':>15} {'skips':>6} {'CPU s':>6}")
    for strategy in arguments.strategies.split(","):
        runs = [cells_over_training(folder, strategy, seed, arguments.steps) for seed in range(arguments.seeds)]
        columns = [[cells.accuracy[found[k]] for found, _ in runs] for k in range(len(SHARES))]
        regret = shown([best - accuracy for accuracy in columns[-1]])
        skips = mean(found[-1].count("skip_connect") for found, _ in runs)
        seconds = mean(seconds for _, seconds in runs)
        line = "".join(f"{shown(column):>15}" for column in columns)
        print(f"{strategy:14}{line}{regret:>15} {skips:6.1f} {seconds:6.0f}", flush=True)


if __name__ == "__main__":
    main()
