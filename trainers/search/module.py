"""The search itself: weights and architecture parameters trained in turn, and choices pruned until budgets hold."""

# Shapes: B batch, N choices of all decisions, D devices, M metrics.

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from hardware_models.budgets.budget_problem import BudgetProblem, Removal
from hardware_models.budgets.cost_table import Array
from hardware_models.measuring.runner import cpu_model
from search_spaces.errors import EspalierError
from search_spaces.space import SearchSpace, Selection, Supernet
from trainers.runs.code import Code
from trainers.search.logits import ArchitectureParameters
from trainers.search.strategies import Strategy, largest_path

UTILITY_MEMORY = 0.9  # of the moving average of log-weights that pruning reads
BASELINE_MEMORY = 0.9  # of the moving average of the loss that hard decisions are judged against
LEAST_WEIGHT = 1e-6  # a sampled pool may hold no network with a choice


class TrainingDivergedError(EspalierError):
    """A loss or an architecture parameter is not a number any more."""


@dataclass(frozen=True)
class Schedule:
    """Lengths in steps of the weight update, and shares of them. Pruning runs in `prune_events` equal intervals."""

    steps: int
    warmup_share: float
    arch_every: int
    prune_events: int
    prune_from: float
    prune_to: float

    @property
    def warmup_steps(self) -> int:
        return round(self.steps * self.warmup_share)

    def prune_event(self, step: int) -> int:
        """Number (1 to `prune_events`) of the last event due after `step` steps; 0 if none is."""
        for event in range(self.prune_events, 0, -1):
            share = self.prune_from + (self.prune_to - self.prune_from) * event / self.prune_events
            if step == max(1, round(self.steps * share)):
                return event
        return 0


@dataclass(frozen=True)
class PruneRecord:
    """One removal, with the step and the device it happened at."""

    step: int
    device: str
    removal: Removal


def log_weights(weights_N: Tensor) -> Array:
    """Logarithms (N,) of the weights of all choices."""
    logs: Array = weights_N.detach().double().clamp(min=LEAST_WEIGHT).log().numpy()
    return logs


class SearchModule(pl.LightningModule):
    """A supernet and its architecture parameters under budgets. `optimizer`, `arch_optimizer` make its optimizers.

    Sums are split among threads and by instruction set, so the same bits need the same of both: a search that is
    resumed goes on with the `threads` that it began with, and knows all `processors` that it has been on. It knows all
    `code` that it has been trained by too, the running code last.
    """

    def __init__(
        self,
        space: SearchSpace,
        supernet: Supernet,
        parameters: ArchitectureParameters,
        strategy: Strategy,
        *,
        schedule: Schedule,
        optimizer: Callable[[Any], Optimizer],
        arch_optimizer: Callable[[Any], Optimizer],
        clip_norm: float,
        code: Code,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.space, self.supernet, self.parameters_of_architecture = space, supernet, parameters
        self.strategy, self.schedule, self.clip_norm = strategy, schedule, clip_norm
        self._make_optimizer, self._make_arch_optimizer = optimizer, arch_optimizer
        self.problems: Sequence[BudgetProblem] = strategy.problems
        self.step = 0
        self.prune_log: list[PruneRecord] = []
        self.threads, self.processors, self.code = torch.get_num_threads(), [cpu_model()], [code]
        self.pass_seconds = self.step_seconds = self._seconds_before = 0.0
        self._started = time.perf_counter()
        with torch.no_grad():
            self.utilities = [log_weights(strategy.weights(device)) for device in range(len(self.problems))]
        self.baseline: list[float | None] = [None] * len(self.problems)
        self.initial_overshoot = [p.overshoot(s.mask_N) for p, s in zip(self.problems, strategy.survivors, strict=True)]
        self.totals = {"loss": 0.0, "correct": 0.0, "images": 0.0}

    def configure_optimizers(self) -> Any:
        steps = max(1, self.schedule.steps)
        optimizer = self._make_optimizer(self.supernet.parameters())
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return [optimizer, self._make_arch_optimizer(self.parameters_of_architecture.parameters())], [cosine]

    def training_step(self, batch: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], batch_idx: int) -> None:
        if self.step >= self.schedule.steps:
            return
        started = time.perf_counter()
        weights_batch, architecture_batch = batch
        device = self.step % len(self.problems)
        warm = self.step < self.schedule.warmup_steps
        self._weights_step(weights_batch, self._warmup_path(device) if warm else self.strategy.path(device))
        if self.strategy.learns and not warm and self.step % self.schedule.arch_every == 0:
            turn = self.step // self.schedule.arch_every % len(self.problems)
            self._architecture_step(architecture_batch, turn)
        self.step += 1
        event = self.schedule.prune_event(self.step)
        if event and self.strategy.prunes:
            self._prune(event)
        self.step_seconds += time.perf_counter() - started

    def selection(self, weights_N: Tensor) -> Selection:
        """Weights (N,) of all choices, by decision."""
        sizes = [len(decision.choices) for decision in self.space.decisions]
        return dict(zip((d.name for d in self.space.decisions), weights_N.split(sizes), strict=True))

    @property
    def train_seconds(self) -> float:
        """Time of training up to now, of all attempts."""
        return self._seconds_before + time.perf_counter() - self._started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["search"] = {
            "step": self.step,
            "prune_log": [{**vars(record), "removal": vars(record.removal)} for record in self.prune_log],
            "utilities": [torch.from_numpy(utilities_N.copy()) for utilities_N in self.utilities],
            "baseline": self.baseline,
            "totals": self.totals,
            "seconds": (self.pass_seconds, self.step_seconds, self.train_seconds),
            "strategy": self.strategy.state(),
            "random": torch.get_rng_state(),
            "computed": (self.threads, self.processors, [vars(code) for code in self.code]),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["search"]
        self.step, self.baseline, self.totals = state["step"], list(state["baseline"]), dict(state["totals"])
        self.prune_log = [
            PruneRecord(record["step"], record["device"], Removal(**record["removal"])) for record in state["prune_log"]
        ]
        self.utilities = [utilities_N.numpy() for utilities_N in state["utilities"]]
        self.pass_seconds, self.step_seconds, self._seconds_before = state["seconds"]
        self.strategy.load_state(state["strategy"])
        self._restrict_supernet()
        torch.set_rng_state(state["random"])
        self.threads, processors, before = state["computed"]
        torch.set_num_threads(self.threads)
        self.processors = list(dict.fromkeys([*processors, *self.processors]))
        earlier = [Code(**fields) for fields in before]
        self.code = [*(code for code in earlier if code.content != self.code[-1].content), self.code[-1]]

    def _warmup_path(self, device: int) -> tuple[int, ...]:
        """Paths that reach all weights: in turn the largest network and one drawn for each device."""
        if self.step % (len(self.problems) + 1) == 0:
            return largest_path(self.strategy.table.first_choice)
        return self.strategy.path(device)

    def _weights_step(self, batch: tuple[Tensor, Tensor], path: tuple[int, ...]) -> None:
        optimizer = self._optimizers()[0]
        started = time.perf_counter()
        images, labels = batch
        logits = self.supernet(images, self.space.selection(path))
        loss = F.cross_entropy(logits, labels)
        self._check(loss, "weights")
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        self.pass_seconds += time.perf_counter() - started
        if self.step == 0:
            # A fused SGD needs a momentum for every weight before a path that leaves some out.
            for weight in self.supernet.parameters():
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        self.clip_gradients(optimizer, gradient_clip_val=self.clip_norm, gradient_clip_algorithm="norm")
        optimizer.step()
        scheduler = self.lr_schedulers()
        assert not isinstance(scheduler, list) and scheduler is not None
        scheduler.step()
        self.totals["loss"] += float(loss.detach()) * len(labels)
        self.totals["correct"] += float((logits.detach().argmax(1) == labels).sum())
        self.totals["images"] += len(labels)

    def _architecture_step(self, batch: tuple[Tensor, Tensor], device: int) -> None:
        """One step of the logits: the loss of one drawn network, its gradient taken at the mean of all of them.

        Forward runs a discrete network through the mixed supernet; backward reaches every choice through the
        straight-through weights. A hard decision gets the score-function gradient of the same loss instead.
        """
        optimizer = self._optimizers()[1]
        images, labels = batch
        path = self.strategy.path(device)
        weights_N = self.strategy.weights(device)
        drawn_N = torch.zeros_like(weights_N)
        drawn_N[torch.as_tensor(np.asarray(path) + self.strategy.table.first_choice[:-1])] = 1.0
        through_N = drawn_N + weights_N - weights_N.detach()
        started = time.perf_counter()
        self.supernet.requires_grad_(False)
        loss = F.cross_entropy(self.supernet(images, self.selection(through_N)), labels)
        self._check(loss, "architecture")
        self.pass_seconds += time.perf_counter() - started
        total = loss + self._hard_decisions_term(device, float(loss.detach()), weights_N, path)
        total = total + self.strategy.penalty(device, weights_N) + self.parameters_of_architecture.penalty(device)
        optimizer.zero_grad(set_to_none=True)
        started = time.perf_counter()
        self.manual_backward(total)
        self.pass_seconds += time.perf_counter() - started
        self.supernet.requires_grad_(True)
        optimizer.step()
        size = sum(parameter.detach().abs().sum() for parameter in self.parameters_of_architecture.parameters())
        if not torch.isfinite(torch.as_tensor(size)):  # networks are weighed by sums of them
            raise TrainingDivergedError(
                f"the architecture parameters are no finite numbers after step {self.step}; lower arch_optimizer.lr"
            )
        self.utilities[device] += (1 - UTILITY_MEMORY) * (log_weights(weights_N) - self.utilities[device])

    def _hard_decisions_term(self, device: int, loss: float, weights_N: Tensor, path: tuple[int, ...]) -> Tensor:
        baseline = self.baseline[device]
        self.baseline[device] = loss if baseline is None else baseline + (1 - BASELINE_MEMORY) * (loss - baseline)
        term = weights_N.new_zeros(())
        if baseline is None:
            return term
        for decision, name in enumerate(d.name for d in self.space.decisions):
            if name in self.space.hard_decisions:
                place = int(self.strategy.table.first_choice[decision]) + path[decision]
                term = term + (loss - baseline) * weights_N[place].clamp(min=LEAST_WEIGHT).log()
        return term

    def _prune(self, event: int) -> None:
        """Removes choices on every device until its worst network is within the cap of this event."""
        remaining = (1 - event / self.schedule.prune_events) ** 3
        for device, problem in enumerate(self.problems):
            caps_M = 1 + np.maximum(self.initial_overshoot[device] - 1, 0) * remaining
            survivors, removals = problem.prune(self.strategy.survivors[device], self.utilities[device], caps_M)
            self.prune_log += [PruneRecord(self.step, problem.name, removal) for removal in removals]
            self.strategy.restrict(device, survivors)
        self._restrict_supernet()

    def _restrict_supernet(self) -> None:
        """Mixed passes run what is alive on some device."""
        union_N = np.logical_or.reduce([survivors.mask_N for survivors in self.strategy.survivors])
        starts = self.strategy.table.first_choice
        blocks = zip(self.space.decisions, starts[:-1], starts[1:], strict=True)
        self.supernet.restrict({decision.name: np.flatnonzero(union_N[a:b]).tolist() for decision, a, b in blocks})

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _check(self, loss: Tensor, what: str) -> None:
        if not torch.isfinite(loss):
            raise TrainingDivergedError(
                f"the {what} loss is {float(loss.detach())} at step {self.step}; "
                f"lower optimizer.lr or trainer.clip_norm, and check the images for values that are not numbers"
            )
