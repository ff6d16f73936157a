"""What a search tells while it runs: one plain line an epoch, a row of `metrics.csv`, a bar on a terminal."""

# Shapes: D devices, M metrics, N choices of all decisions.

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from hardware_models.budgets.cost_table import METRICS
from trainers.data import ImageData
from trainers.evaluation import PathNetwork, first_images
from trainers.run_folder import write_csv
from trainers.search_module import SearchModule

VALIDATION_IMAGES = 256  # per epoch line; the finaliser uses more


class EpochReport(pl.Callback):
    """Writes `metrics.csv` whole after every epoch and reports one line."""

    def __init__(self, data: ImageData, path: Path, report: Callable[[str], None], *, batch_size: int) -> None:
        self.data, self.path, self.report, self.batch_size = data, path, report, batch_size
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        row = {"epoch": trainer.current_epoch + 1, "step": pl_module.step, **metrics_of(pl_module)}
        row |= validation_of(pl_module, self.data, batch_size=self.batch_size)
        self.rows.append(row)
        write_csv(self.path, self.rows, list(self.rows[0]))
        self.report(epoch_line(row, pl_module, epochs=trainer.max_epochs or 0))


@torch.no_grad()
def metrics_of(module: SearchModule) -> dict[str, float]:
    """Figures of the epoch that ends, under the names that dashboards and notebooks use; resets its totals."""
    totals = module.totals
    images = max(1.0, totals["images"])
    row = {
        "train/loss": totals["loss"] / images,
        "train/acc": totals["correct"] / images,
        "time/step_s": module.step_seconds / max(1, module.step),
    }
    module.totals = {"loss": 0.0, "correct": 0.0, "images": 0.0}
    entropies, alive = [], 0
    for device, problem in enumerate(module.problems):
        weights_N = module.strategy.weights(device)
        survivors = module.strategy.survivors[device]
        entropies.append(entropy_share(weights_N.double().numpy(), module.strategy.table.first_choice))
        alive += int(survivors.mask_N.sum())
        expected_M = module.strategy.table.expected(weights_N)[device].numpy()
        worst_M = module.strategy.table.worst(survivors.mask_N, device)
        for k, metric in enumerate(METRICS):
            if np.isfinite(problem.limits_M[k]):
                name, limit = f"hw/{problem.name}/{metric}", problem.limits[metric]
                held = problem.held(metric, float(expected_M[k]))
                row[f"{name}_expected"] = held
                row[f"{name}_budget"] = limit
                row[f"{name}_slack"] = limit - held
                row[f"{name}_worst"] = problem.held(metric, float(worst_M[k]))
        row[f"hw/{problem.name}/met"] = float((worst_M <= problem.limits_M).all())
    row["arch/entropy"] = float(np.mean(entropies))
    row["prune/choices_alive"] = float(alive)
    return row


@torch.no_grad()
def validation_of(module: SearchModule, data: ImageData, *, batch_size: int) -> dict[str, float]:
    """Loss and accuracy of the devices' witnesses, averaged, on part of the validation split with batch statistics."""
    # A pass in train mode moves the running statistics; they are put back.
    kept = {name: buffer.clone() for name, buffer in module.supernet.named_buffers()}
    losses, shares = [], []
    for survivors in module.strategy.survivors:
        network = PathNetwork(module.supernet, module.space.selection(survivors.witness)).train()
        batches = data.batches("validation", batch_size=batch_size, seed=0, epoch=0, augment=False)
        for x, y in first_images(batches, VALIDATION_IMAGES):
            logits = network(x)
            losses.append(float(F.cross_entropy(logits, y)))
            shares.append(float((logits.argmax(1) == y).float().mean()))
    for name, buffer in module.supernet.named_buffers():
        buffer.copy_(kept[name])
    return {"val/loss": float(np.mean(losses)), "val/acc": float(np.mean(shares))}


def entropy_share(weights_N: np.ndarray, first_choice: np.ndarray) -> float:
    """Mean entropy of the decisions that have a choice, as a share of the largest possible."""
    shares = []
    for a, b in pairwise(first_choice):
        if b - a > 1:
            p = weights_N[a:b].clip(min=1e-12)
            shares.append(float(-(p * np.log(p)).sum() / np.log(b - a)))
    return float(np.mean(shares)) if shares else 0.0


def epoch_line(row: dict[str, Any], module: SearchModule, *, epochs: int) -> str:
    """`epoch 1/8  val 0.49  entropy 0.99  choices 597  flagship_phone worst 1.07x budget ✗ ...`"""
    parts = [f"epoch {row['epoch']}/{epochs}", f"val {row['val/acc']:.3f}", f"entropy {row['arch/entropy']:.2f}"]
    parts.append(f"choices {row['prune/choices_alive']:.0f}")
    for problem, survivors in zip(module.problems, module.strategy.survivors, strict=True):
        worst = problem.overshoot(survivors.mask_N).max()
        parts.append(f"{problem.name} worst {worst:.2f}x budget {'✓' if worst <= 1 else '✗'}")
    return "  ".join(parts)
