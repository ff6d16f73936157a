"""A Hydra application whose jobs take milliseconds: what studies are tested with. Each job writes a line to `log`."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from hardware_models.infeasible import BudgetInfeasibleError
from search_spaces.errors import InvalidInputError
from trainers.runs import state
from trainers.tuning.trial import watcher

GOOD_X = 0.3


def objective(x: float, n: int, kind: str) -> dict[str, float]:
    """Best at x = 0.3 and n = 5; larger n costs more; `fancy` is more expensive and a little better."""
    bonus = 0.05 if kind == "fancy" else 0.0
    return {
        "validation_accuracy": 0.9 - (x - GOOD_X) ** 2 - 0.02 * abs(n - 5) + bonus,
        "seconds": float(n) + 10 * x + (3 if kind == "fancy" else 0),
        "utilisation": n / 6,
    }


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name="toy_study")
def job(config: DictConfig) -> dict[str, Any]:
    _begin(config)
    watch = None if config.trial is None else watcher(**config.trial)
    found = objective(config.x, config.n, config.kind)
    for epoch in range(1, config.epochs + 1):
        time.sleep(config.epoch_seconds)
        _log(config, "epoch")
        if watch is not None:
            watch({"epoch": epoch, "val/acc": found["validation_accuracy"] * epoch / config.epochs})
    _log(config, "end")
    return {"status": "done", "objective": found, "folder": str(config.x)}


def _begin(config: DictConfig) -> None:
    _log(config, "begin")
    if config.epochs < 1:
        raise InvalidInputError(f"epochs: got {config.epochs}, allowed: 1 or more")
    if config.x > config.infeasible_above:
        raise BudgetInfeasibleError(f"no network at x={config.x}")
    if config.x > config.fails_above:
        raise RuntimeError(f"x={config.x} is too large")
    if config.kills_itself is not None:
        try:
            Path(config.kills_itself).open("x").close()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


def _log(config: DictConfig, event: str) -> None:
    line = json.dumps({"event": event, "x": config.x, "n": config.n, "kind": config.kind, "pid": os.getpid()})
    handle = os.open(config.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, (line + "\n").encode())  # one write: processes share the file
    finally:
        os.close(handle)


if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    state.SILENCE_SECONDS = 10.0  # for which a process counts as running that is killed before its first sign
    try:
        job()
    except InvalidInputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
