"""Progress of a training: some lines an epoch, a row of `metrics.csv`."""

# Shapes: E epochs, D devices, M metrics, N choices of all decisions, C choices of one decision.

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from hardware_models.budgets.cost_table import METRICS
from search_spaces.space import SearchSpace
from trainers.runs import metric_names
from trainers.runs.exit_status import RunFolderError
from trainers.runs.files import write_bytes, write_csv
from trainers.runs.folder import RunFolder
from trainers.search.callbacks import Report, SearchCallback
from trainers.search.interim import interim_scores
from trainers.search.module import SearchModule
from trainers.search.phases import TRAINING, Progress, left_words
from trainers.search.plan import Plan
from trainers.search.prune_log import prune_rows, write_prune_log

COLUMNS = 80  # of the narrowest terminal that lines are made for
GAP = "  "


class EpochReport(pl.Callback):
    """After every epoch: a row for `metrics.csv` and for each callback, a snapshot for `alphas.npz`, lines."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        report: Report,
        progress: Progress,
        *,
        callbacks: Sequence[SearchCallback] = (),
    ) -> None:
        self.plan, self.folder, self.report, self.callbacks = plan, folder, report, callbacks
        self.progress = progress
        self.rows: list[dict[str, Any]] = []
        self.weights_EDN: list[Tensor] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        done = self.rows[-1][metric_names.EPOCH] if self.rows else 0
        self.folder.progress(done, epochs=trainer.max_epochs or 0)
        if self.rows:
            other = ", with other files of Espalier than before: no uninterrupted run gives its result"
            line = f"resumed after epoch {done} of {trainer.max_epochs}"
            self.report(line + (other if len(pl_module.computed.code) > 1 else ""))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        self.progress.enter(TRAINING, done=pl_module.state.step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        assert isinstance(pl_module, SearchModule)
        if new := pl_module.state.step - self.progress.now.phase.done:  # none after the last of all steps
            self.progress.advance(new)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        epochs = trainer.max_epochs or 0
        row = {
            metric_names.EPOCH: trainer.current_epoch + 1,
            metric_names.STEP: pl_module.state.step,
            **metrics_of(pl_module),
        }
        scores = interim_scores(self.plan, pl_module)
        row[metric_names.VALIDATION_LOSS] = float(np.mean([score.loss for score in scores]))
        row[metric_names.VALIDATION_ACCURACY] = float(np.mean([score.accuracy for score in scores]))
        self.rows.append(row)
        self.weights_EDN.append(weights_of(pl_module).float())
        write_csv(self.folder.path / "metrics.csv", self.rows, list(row))
        self.folder.progress(trainer.current_epoch + 1, epochs=epochs)
        head = f"{epoch_line(row, epochs=epochs, is_proxy=self.plan.is_proxy)}  {left_words(self.progress.now)}"
        self.report("\n".join([head, *device_lines(row)]))
        for callback in self.callbacks:
            callback.on_epoch(self.rows)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        assert isinstance(pl_module, SearchModule)
        with suppress(RunFolderError):  # which may be what ends it
            self.write_choices(pl_module)

    def write_choices(self, module: SearchModule) -> None:
        """Leaves what is known of the choices: their weights in `alphas.npz`, those removed so far in `prune.csv`."""
        if self.rows:
            weights_EDN = torch.stack(self.weights_EDN)
            write_bytes(self.folder.path / "alphas.npz", alphas(self.rows, weights_EDN, module))
        rows = prune_rows(module.state.prune_log, module.state.table.space, {}, last_step=module.state.step)
        write_prune_log(self.folder.path / "prune.csv", rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "weights": self.weights_EDN}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.weights_EDN = list(state_dict["rows"]), list(state_dict["weights"])


@torch.no_grad()
def weights_of(module: SearchModule) -> Tensor:
    """Weights (D, N) of all choices on each device."""
    return torch.stack([p_N.double() for p_N in module.probabilities()])


def alphas(rows: Sequence[Mapping[str, Any]], weights_EDN: Tensor, module: SearchModule) -> bytes:
    """An npz file without pickles: the weights of all choices at each epoch, and what their axes are."""
    pairs = [
        (decision.name, str(choice)) for decision in module.state.table.space.decisions for choice in decision.choices
    ]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        epoch=np.array([row[metric_names.EPOCH] for row in rows]),
        step=np.array([row[metric_names.STEP] for row in rows]),
        weights=weights_EDN.numpy(),
        device=np.array([problem.name for problem in module.state.problems]),
        decision=np.array([decision for decision, _ in pairs]),
        choice=np.array([choice for _, choice in pairs]),
    )
    return buffer.getvalue()


@torch.no_grad()
def metrics_of(module: SearchModule) -> dict[str, float]:
    """Figures of the epoch that ends, under the names that dashboards and notebooks use; resets its totals."""
    totals = module.totals
    images = max(1.0, totals["images"])
    row = {
        metric_names.TRAIN_LOSS: totals["loss"] / images,
        metric_names.TRAIN_ACCURACY: totals["correct"] / images,
        metric_names.STEP_SECONDS: module.step_seconds / max(1, module.state.step),
    }
    module.totals = {"loss": 0.0, "correct": 0.0, "images": 0.0}
    alive, weights_DN = 0, weights_of(module)
    for device, problem in enumerate(module.state.problems):
        weights_N = weights_DN[device]
        survivors = module.state.survivors[device]
        alive += int(survivors.mask_N.sum())
        expected_M = module.state.table.expected(weights_N)[device].numpy()
        worst_M = module.state.table.worst(survivors.mask_N, device)
        for k, metric in enumerate(METRICS):
            if np.isfinite(problem.limits_M[k]):
                name, limit = problem.name, problem.limits[metric]
                held = problem.held(metric, float(expected_M[k]))
                row[metric_names.expected(name, metric)] = held
                row[metric_names.budget(name, metric)] = limit
                row[metric_names.slack(name, metric)] = limit - held
                row[metric_names.worst(name, metric)] = problem.held(metric, float(worst_M[k]))
        row[metric_names.met(problem.name)] = float((worst_M <= problem.limits_M).all())
    row[metric_names.ENTROPY] = entropy_of(module, weights_DN)
    row[metric_names.CHOICES_ALIVE] = float(alive)
    return row | operation_shares(module.state.table.space, weights_DN)


def operation_shares(space: SearchSpace, weights_DN: Tensor) -> dict[str, float]:
    """Mean weight of each operation, over the decisions that choose operations and over the devices."""
    blocks = weights_DN.split([len(decision.choices) for decision in space.decisions], dim=1)
    shares: dict[str, list[float]] = {}
    for decision, block_DC in zip(space.decisions, blocks, strict=True):
        if decision.name in space.operation_decisions:
            for choice, share in zip(decision.choices, block_DC.mean(dim=0).tolist(), strict=True):
                shares.setdefault(metric_names.share(str(choice)), []).append(share)
    return {name: float(np.mean(values)) for name, values in shares.items()}


def entropy_of(module: SearchModule, weights_DN: Tensor) -> float:
    """How undecided its strategy is: the share of the largest possible entropy, mean over devices."""
    first_choice = module.state.table.first_choice
    return float(np.mean([_entropy_share(weights_N.numpy(), first_choice) for weights_N in weights_DN]))


def _entropy_share(weights_N: np.ndarray, first_choice: np.ndarray) -> float:
    """Mean entropy of the decisions that have a choice, as a share of the largest possible."""
    blocks = [weights_N[a:b].clip(min=1e-12) for a, b in pairwise(first_choice) if b - a > 1]
    return float(np.mean([float(-(p * np.log(p)).sum() / np.log(len(p))) for p in blocks])) if blocks else 0.0


def epoch_line(row: Mapping[str, Any], *, epochs: int, is_proxy: bool) -> str:
    """`epoch 1/8  val 0.490  entropy 0.99  choices 597`"""
    parts = [
        f"epoch {row[metric_names.EPOCH]}/{epochs}",
        f"{'proxy ' if is_proxy else ''}val {row[metric_names.VALIDATION_ACCURACY]:.3f}",
        f"entropy {row[metric_names.ENTROPY]:.2f}",
        f"choices {row[metric_names.CHOICES_ALIVE]:.0f}",
    ]
    return "  ".join(parts)


def device_lines(row: Mapping[str, Any]) -> list[str]:
    """`  pixel6  19.8/12 latency_ms  max 2.13x ✗` for each device of a row, aligned, in no more than COLUMNS.

    The expected cost that is nearest its budget, and the budget; then the max cost of remaining networks as a share of
    its budget, ✓ once that is within every budget. Names give way to figures.
    """
    found = []
    for device in metric_names.devices_of(row):
        metrics = [metric for metric in METRICS if metric_names.budget(device, metric) in row]
        budgets = {metric: row[metric_names.budget(device, metric)] for metric in metrics}
        costs = {metric: row[metric_names.expected(device, metric)] for metric in metrics}
        nearest = max(metrics, key=lambda metric: costs[metric] / budgets[metric])
        worst = max(row[metric_names.worst(device, metric)] / budgets[metric] for metric in metrics)
        mark = "✓" if row[metric_names.met(device)] else "✗"
        found.append((device, f"{costs[nearest]:.3g}/{budgets[nearest]:g} {nearest}", f"max {worst:.2f}x {mark}"))
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    widest = min(widths[0], COLUMNS - sum(widths[1:]) - 3 * len(GAP))
    return [
        f"{GAP}{shortened(device, widest):{widest}}{GAP}{cost:{widths[1]}}{GAP}{worst:>{widths[2]}}"
        for device, cost, worst in found
    ]


def shortened(name: str, width: int) -> str:
    """The name, without its middle where it is longer: names of one kind often differ at their ends."""
    if len(name) <= width:
        return name
    return f"{name[: (width - 1) // 2]}\N{HORIZONTAL ELLIPSIS}{name[len(name) - width // 2 :]}"
