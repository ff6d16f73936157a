"""A search killed with -9 at random moments and resumed each time, beside one that nothing interrupts.

    python tests/benchmarks/kill_and_resume.py [--kills 20] [--seed 0] [--strategy pool]

Prints, for each kill, how far the search was; then whether networks, certificates, accuracies, the history of metrics
and of the choices' weights, pruning log, and the hashes of the supernet's and the networks' weights are the same.
Exits with 1 if anything differs.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import torch
from interrupted_search import POOL, ended, outcome, search_config, start, wait

from search_spaces.errors import InvalidInputError
from trainers.runs.state import state_of

STEPS = 900  # a search of about half a minute: long enough to be killed twenty times on its way


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategy", default="pool")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    strategy = POOL if arguments.strategy == "pool" else (f"strategy={arguments.strategy}",)
    overrides = (*strategy, f"trainer.steps={STEPS}")
    with tempfile.TemporaryDirectory() as folder:
        whole = search_config(Path(folder) / "whole", *overrides)
        started = time.perf_counter()
        assert wait(start(whole)) == 0
        seconds = time.perf_counter() - started
        print(f"one search takes {seconds:.1f} s; {arguments.kills} kills, seed {arguments.seed}")
        killed = search_config(Path(folder) / "killed", *overrides)
        moments = random.Random(arguments.seed)
        for kill in range(1, arguments.kills + 1):
            # Twice the mean that would end it at the last kill: what an epoch had begun is lost each time.
            _kill(start(killed), after_s=moments.uniform(0, 2 * seconds / arguments.kills))
            print(f"kill {kill:2d}: {_where(killed.run_folder)}", flush=True)
        assert wait(start(killed)) == 0
        expected, found = outcome(whole.run_folder), outcome(killed.run_folder)
    same = {name: found[name] == expected[name] for name in expected}
    print("  ".join(f"{name} {'the same' if equal else 'DIFFER'}" for name, equal in same.items()))
    sys.exit(0 if all(same.values()) else 1)


def _kill(process: int, *, after_s: float) -> None:
    time.sleep(after_s)
    if not ended(process):
        os.kill(process, signal.SIGKILL)
        wait(process)


def _where(folder: Path) -> str:
    try:
        state = state_of(folder)
    except InvalidInputError:
        return "before its folder was made"
    progress = "in its first epoch" if state.epoch is None else f"after epoch {state.epoch} of {state.epochs}"
    return f"attempt {state.attempt}, {state.state}, {progress}"


if __name__ == "__main__":
    main()
