"""What pruning of trials saves: the same study with and without a pruner, of real searches.

    python tests/benchmarks/tuning_pruning.py [--trials 12] [--steps 120]

Both studies draw the same first trials; later ones differ, as what a study learns differs. Prints steps and seconds of
both, their ratio, and the best validation accuracy that each has found.
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
from pathlib import Path

import optuna

COMMAND = Path(sys.executable).parent / "espalier-tune"
SPACE = (
    *("space.widths=[[8],[16],[16,24],[24],[24,32]]", "space.depths=[1,2]", "space.kernels=[3,5]"),
    *("space.expansions=[2,3]", "space.squeeze_excite=['off']", "space.resolutions=[32,48]"),
    *("hardware=[mid_tablet]", "strategy.pool_size=32", "data.image_size=[16,16]", "data.limit=600"),
    *("trainer.candidates=8", "trainer.finetune_steps=5", "trainer.recalibration_images=64"),
)


def study(folder: Path, pruner: str, *, trials: int, steps: int) -> dict[str, float]:
    """Steps, seconds, stopped trials and best accuracy of one study."""
    runs = folder / pruner
    started = time.perf_counter()
    subprocess.run(
        [
            *(str(COMMAND), *SPACE, f"paths.runs={runs}", f"trials={trials}", f"pruner={pruner}"),
            *("optimizer.lr=tag(log,interval(0.0003,1))", f"trainer.steps={steps}", "trainer.batch_size=32"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    seconds = time.perf_counter() - started
    found = optuna.load_study(study_name="tune", storage=f"sqlite:///{runs}/tune/study.db")
    taken = 0
    for table in (runs / "tune").glob("*/metrics.csv"):
        with table.open(encoding="utf-8", newline="") as file:
            taken += int(list(csv.DictReader(file))[-1]["step"])
    stopped = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in found.trials)
    return {"steps": taken, "seconds": seconds, "stopped": stopped, "best": found.best_value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--steps", type=int, default=120)
    given = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Optuna {optuna.__version__}"
    )
    folder = Path(tempfile.mkdtemp())
    try:
        found = {name: study(folder, name, trials=given.trials, steps=given.steps) for name in ("none", "median")}
    finally:
        shutil.rmtree(folder)
    for name, row in found.items():
        print(f"pruner {name:6}  " + "  ".join(f"{key} {value:.5g}" for key, value in row.items()))
    print(
        "median / none  "
        + "  ".join(f"{key} {found['median'][key] / found['none'][key]:.2f}" for key in ("steps", "seconds"))
    )


if __name__ == "__main__":
    main()
