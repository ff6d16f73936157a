"""One-shot searches of nni for one device: how their cells stand to its latency budget, and to the best within it.

    python tests/benchmarks/nni_one_shot.py --data ../shared/data [--seeds 3] [--epochs 5] [--methods DARTS,Proxyless]

nni's DARTS, GumbelDARTS and Proxyless on its own hub's NAS-Bench-201, one cell a stage of 8 channels, on CIFAR-10 at 16
pixels, batches of 64; Adam of .03 for the logits, for nni's 3e-4 moves none within so few steps. The budget is the 25 %
latency quantile of connected cells on a Pixel 3. nni's penalty is the expected latency over the budget, as its hardware
expects it: a price of each operation of each edge. `stock` is nni 3.0's, whose probabilities are plain numbers, so that
it has no gradient; `mended` gives it tensors. nni meets no budget; landing is its cell's latency beside it. Regret is
that of the best cell within the budget less its accuracy; over budget it can be negative.
"""

import argparse
import platform
import tempfile
import time
from contextlib import nullcontext
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
from argmax_over_training import shown
from nasbench201_search import best_within, budgets, composed, predictions, read_cells
from torch.utils.data import TensorDataset

from hardware_models.budgets.cost_table import METRICS, CostTable
from search_spaces.nasbench201.space import NasBench201Space
from tests.benchmarks.nni_baselines import mended_penalty, price_penalty, quiet_nni
from trainers.data.datasets import ImageData, Split, data_config, load_data
from trainers.runs.config import SearchConfig, validate
from trainers.search.plan import load_profile

DEVICE, QUANTILE = "nb201_pixel3", 25
METHODS = ("DARTS", "GumbelDARTS", "Proxyless")
PENALTIES = ("none", "stock", "mended")
CHANNELS, BATCH_SIZE = 8, 64
OURS = NasBench201Space()
THEIR_NAMES = {"conv_1x1": "nor_conv_1x1", "conv_3x3": "nor_conv_3x3"}  # of operations, where they differ
LABELS = [(decision.name, f"cell/{decision.name[-2]}_{decision.name[-1]}") for decision in OURS.decisions]


def prices_ms(config: SearchConfig) -> dict[str, dict[str, float]]:
    """What each operation of each edge adds to a cell that has that operation on all edges, in ms, by nni's labels."""
    table = CostTable(OURS, [load_profile(DEVICE, config.hardware[DEVICE], config)])
    column, found = METRICS.index("latency_ms"), {}
    theirs = {ours: name for name, ours in THEIR_NAMES.items()}
    for k, (decision, (_, label)) in enumerate(zip(OURS.decisions, LABELS, strict=True)):
        networks = np.tile(np.arange(len(decision.choices))[:, None], (1, len(OURS.decisions)))
        without = networks.copy()
        without[:, k] = decision.choices.index("none")
        totals = table.of(networks, 0)[:, column] - table.of(without, 0)[:, column]
        names = [theirs.get(str(choice), str(choice)) for choice in decision.choices]
        found[label] = dict(zip(names, totals.tolist(), strict=True))
    return found


def split_of(data: ImageData, split: Split) -> TensorDataset:
    batches = list(data.batches(split, batch_size=BATCH_SIZE, seed=0, epoch=0, augment=False))
    return TensorDataset(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def searched(
    method: str,
    penalty: str,
    seed: int,
    epochs: int,
    data: ImageData,
    prices: dict[str, dict[str, float]],
    limit: float,
) -> str:
    """The cell that nni ends with, in the benchmark's notation."""
    with quiet_nni(), tempfile.TemporaryDirectory() as folder:
        from nni.nas import strategy as strategies
        from nni.nas.evaluator.pytorch import DataLoader, Lightning, SupervisedLearningModule, Trainer
        from nni.nas.execution import SequentialExecutionEngine
        from nni.nas.hub.pytorch import NasBench201
        from nni.nas.space import RawFormatModelSpace

        torch.manual_seed(seed)
        silent = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing", "enable_model_summary"), False)
        evaluator = Lightning(
            SupervisedLearningModule(
                torch.nn.CrossEntropyLoss, {}, learning_rate=0.1, optimizer=partial(torch.optim.SGD, momentum=0.9)
            ),
            Trainer(max_epochs=epochs, accelerator="cpu", devices=1, default_root_dir=folder, **silent),
            train_dataloaders=DataLoader(split_of(data, "weights"), batch_size=BATCH_SIZE, shuffle=True),
            val_dataloaders=DataLoader(split_of(data, "architecture"), batch_size=BATCH_SIZE, shuffle=True),
        )
        space = NasBench201(stem_out_channels=CHANNELS, num_modules_per_stack=1)
        asked = None if penalty == "none" else price_penalty(space, prices, budget_ms=limit)
        strategy = getattr(strategies, method)(arc_learning_rate=0.03, penalty=asked, gradient_clip_val=5.0)
        with mended_penalty() if penalty == "mended" else nullcontext():
            supernet = strategy.initialize(RawFormatModelSpace(space, evaluator), SequentialExecutionEngine())
            supernet.evaluator.evaluate(supernet.model_space)
        found = strategy.oneshot_module.export()
    return OURS.notation({ours: THEIR_NAMES.get(found[theirs], found[theirs]) for ours, theirs in LABELS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds cifar10/ and benchmarks/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--penalties", default=",".join(PENALTIES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.data.resolve()
    cells, latency_ms = read_cells(folder), predictions(folder, DEVICE)
    limit = budgets(cells, QUANTILE)[DEVICE]
    best = best_within(cells, latency_ms, limit)
    config = validate(composed("experiment=nasbench201_devices", f"paths.data={folder}"))
    data, prices = load_data(data_config(config.data)), prices_ms(config)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {date.today()}, {limit} ms")
    print(f"{'method':12} {'penalty':8} {'accuracy %':>14} {'regret':>14} {'CPU s':>6}   landing by seed")
    for method in arguments.methods.split(","):
        for penalty in arguments.penalties.split(","):
            started, found = time.process_time(), []
            for seed in range(arguments.seeds):
                found.append(searched(method, penalty, seed, arguments.epochs, data, prices, limit))
            seconds = (time.process_time() - started) / arguments.seeds
            accuracies = [cells.accuracy[cell] for cell in found]
            regrets = [best - accuracy for accuracy in accuracies]
            landing = "  ".join(f"{latency_ms[cell] / limit - 1:+.0%}" for cell in found)
            columns = f"{shown(accuracies):>14} {shown(regrets):>14} {seconds:6.0f}"
            print(f"{method:12} {penalty:8} {columns}   {landing}", flush=True)


if __name__ == "__main__":
    main()
