"""What pruning of trials saves and what it stops: the same study with and without a pruner, of real searches.

    python tests/benchmarks/tuning_pruning.py [--trials 10] [--steps 200] [--data cifar10 --root ../shared/data]

Both studies draw the same trials. Prints each trial's learning rate, its validation accuracy when it is let run to its
end, and the epoch at which the pruner stopped it; then steps and seconds of both studies, and their ratios.
"""

import argparse
import csv
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import optuna

COMMAND = Path(sys.executable).parent / "espalier-tune"
SPACE = (
    *("space=nasbench201", "space.width=8", "space.num_cells=1", "space.image_size=16", "data.image_size=[16,16]"),
    *("hardware=[mid_tablet]", "hardware.mid_tablet.budgets={latency_ms: null, gflops: 0.002}"),
    *("strategy.pool_size=128", "trainer.candidates=6", "trainer.finetune_steps=1", "trainer.deploy=false"),
)
SAME_TRIALS = "hydra.sweeper.sampler.startup_trials=1000"  # drawn at random throughout, and not by what was learned


@dataclass(frozen=True)
class Study:
    """Trials by their number, the epochs that each ran, and what the study took."""

    trials: list[optuna.trial.FrozenTrial]
    epochs: list[int]
    steps: int
    seconds: float


def study(folder: Path, pruner: str, data: list[str], *, trials: int, steps: int) -> Study:
    runs, started = folder / pruner, time.perf_counter()
    subprocess.run(
        [
            *(str(COMMAND), *SPACE, *data, SAME_TRIALS, f"paths.runs={runs}", f"trials={trials}", f"pruner={pruner}"),
            *("optimizer.lr=tag(log,interval(0.0003,3))", f"trainer.steps={steps}", "trainer.batch_size=32"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    seconds = time.perf_counter() - started
    found = optuna.load_study(study_name="tune", storage=f"sqlite:///{runs}/tune/study.db").trials
    taken = 0
    for table in (runs / "tune").glob("*/metrics.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            taken += int(list(csv.DictReader(file))[-1]["step"])
    return Study(found, [max(trial.intermediate_values, default=0) for trial in found], taken, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Optuna {optuna.__version__}"
    )
    data = [f"data={given.data}", *([f"paths.data={given.root.resolve()}"] if given.root else [])]
    data += ["data.limit=2000", "data.limit_test=200"] if given.root else []
    folder = Path(tempfile.mkdtemp())
    try:
        whole, pruned = (
            study(folder, name, data, trials=given.trials, steps=given.steps) for name in ("none", "median")
        )
    finally:
        shutil.rmtree(folder)
    print(f"{'trial':5} {'learning rate':>13} {'accuracy at the end':>20} {'stopped after epoch':>20}")
    for full, short, epochs in zip(whole.trials, pruned.trials, pruned.epochs, strict=True):
        assert full.params == short.params
        (rate,) = full.params.values()
        end = "failed" if full.value is None else f"{full.value:.3f}"
        stopped = str(epochs) if short.state == optuna.trial.TrialState.PRUNED else "-"
        print(f"{full.number:5} {rate:13.4g} {end:>20} {stopped:>20}")
    for name, found in (("none", whole), ("median", pruned)):
        print(f"pruner {name:6} steps {found.steps}  seconds {found.seconds:.1f}")
    print(f"median / none  steps {pruned.steps / whole.steps:.2f}  seconds {pruned.seconds / whole.seconds:.2f}")


if __name__ == "__main__":
    main()
