"""The search itself: weights and architecture parameters trained in turn, and choices pruned until budgets hold."""

# Shapes: B batch, N choices of all decisions.

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hardware_models.budgets.cost_table import Array
from search_spaces.errors import EspalierError
from search_spaces.space import Selection
from trainers.deploy.optimizers import make_optimizer, make_schedule
from trainers.runs.code import Code
from trainers.search.computing import compute_in_bf16, take_selections
from trainers.search.logits import ArchitectureParameters
from trainers.search.plan import Plan
from trainers.search.priors.prior import Prior, starting_logits
from trainers.search.provenance import Computed
from trainers.search.ranks import Ranks
from trainers.search.relaxations.relaxation import Batch, Searched, Update
from trainers.search.search_state import SearchState
from trainers.search.strategy import Strategy, make_strategy


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


class SearchModule(pl.LightningModule):
    """A supernet and its architecture parameters under budgets.

    `optimizer` and `arch_optimizer` make its optimizers, `learning_rate` the schedule of the first. A search that is
    resumed goes on with the threads that it began with, as `computed` says.
    """

    def __init__(
        self,
        searched: Searched,
        strategy: Strategy,
        *,
        schedule: Schedule,
        optimizer: Callable[[Any], Optimizer],
        learning_rate: Callable[[Optimizer], LRScheduler],
        arch_optimizer: Callable[[Any], Optimizer],
        clip_norm: float,
        computed: Computed,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.supernet, self.parameters_of_architecture = searched.supernet, searched.logits
        self.state, self.task, self.ranks = searched.state, searched.task, searched.ranks
        self.strategy, self.schedule, self.clip_norm = strategy, schedule, clip_norm
        self._make_optimizer, self._make_arch_optimizer = optimizer, arch_optimizer
        self._make_schedule = learning_rate
        self.computed = computed
        self.pass_seconds = self.step_seconds = self._seconds_before = 0.0
        self._started, self._cpu_started, self._cpu_before = time.perf_counter(), time.process_time(), 0.0
        self.state.start_utilities(self.probabilities())
        self.totals = {"loss": 0.0, "correct": 0.0, "images": 0.0}

    @torch.no_grad()
    def probabilities(self) -> list[Tensor]:
        """Probabilities (N,) of all choices, of each device."""
        return [self.strategy.constraint.probabilities(device) for device in range(len(self.state.problems))]

    @torch.no_grad()
    def logits_of(self, device: int) -> Array:
        """Logits (N,) of one device, of whose sums exact selection finds the largest."""
        logits: Array = self.parameters_of_architecture(device).double().numpy()
        return logits

    def on_train_start(self) -> None:
        # What Lightning has moved to a GPU with all that optimizers remember.
        for remembered in self._optimizers()[1].optimizer.state.values():
            remembered |= {name: value.cpu() for name, value in remembered.items() if isinstance(value, Tensor)}

    def on_train_end(self) -> None:
        for remedy in self.strategy.remedies.values():
            remedy.after_training()

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(self.supernet.parameters())
        learning_rate = self._make_schedule(optimizer)
        return [optimizer, self._make_arch_optimizer(self.parameters_of_architecture.parameters())], [learning_rate]

    def training_step(self, batch: tuple[Batch, Batch], batch_idx: int) -> None:
        if self.state.step >= self.schedule.steps:
            return
        started = time.perf_counter()
        with self.ranks.together():
            self._step(batch)
        self.step_seconds += time.perf_counter() - started

    def _step(self, batch: tuple[Batch, Batch]) -> None:
        state, strategy = self.state, self.strategy
        num_devices = len(state.problems)
        for remedy in strategy.remedies.values():
            remedy.before_step(state.step / self.schedule.steps)
        self._weights_step(batch, state.step % num_devices)
        learns, warm = strategy.trains_logits, state.step < self.schedule.warmup_steps
        stopped = any(remedy.stops_architecture for remedy in strategy.remedies.values())
        if learns and not warm and not stopped and state.step % self.schedule.arch_every == 0:
            self._architecture_step(batch, state.step // self.schedule.arch_every % num_devices)
        state.step += 1
        event = self.schedule.prune_event(state.step)
        if event and learns:
            state.prune((1 - event / self.schedule.prune_events) ** 3)
            for device in range(num_devices):
                strategy.constraint.restrict(device)
            self.supernet.restrict(state.active())

    @property
    def train_seconds(self) -> float:
        """Time of training up to now, of all attempts."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        """CPU-seconds of training up to now, of all attempts and threads; NaN if an attempt has not counted them."""
        return self._cpu_before + time.process_time() - self._cpu_started

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = self.state.state_dict()
        checkpoint["search"] = {
            **{key: state[key] for key in ("step", "prune_log", "utilities", "agreements", "drawn")},
            **self.strategy.relaxation.state_dict(),
            "remedies": {name: remedy.state_dict() for name, remedy in self.strategy.remedies.items()},
            "totals": self.totals,
            "seconds": (self.pass_seconds, self.step_seconds, self.train_seconds),
            "cpu_seconds": self.cpu_seconds,
            "strategy": {"survivors": state["survivors"], **self.strategy.constraint.state_dict()},
            "random": torch.get_rng_state(),
            "computed": (self.computed.threads, self.computed.processors, [vars(c) for c in self.computed.code]),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        search = checkpoint["search"]
        self.totals = dict(search["totals"])
        self.pass_seconds, self.step_seconds, self._seconds_before = search["seconds"]
        self._cpu_before = search.get("cpu_seconds", math.nan)  # of an earlier version, which did not count
        self.state.load_state_dict({**search, "survivors": search["strategy"]["survivors"]})
        self.strategy.constraint.load_state_dict(search["strategy"])
        self.strategy.relaxation.load_state_dict(search)
        for name, remedy in self.strategy.remedies.items():
            remedy.load_state_dict(search["remedies"][name])
        self.supernet.restrict(self.state.active())
        torch.set_rng_state(search["random"])
        threads, processors, code = search["computed"]
        self.computed.join(threads, processors, [Code(**fields) for fields in code])
        torch.set_num_threads(threads)

    def _weights_step(self, batch: tuple[Batch, Batch], device: int) -> None:
        optimizer, strategy = self._optimizers()[0], self.strategy
        selections = strategy.sampler.selections(strategy.relaxation, self.state.step, device)
        for remedy in strategy.remedies.values():
            selections = [remedy.weights_selection(selection) for selection in selections]
        optimizer.zero_grad(set_to_none=True)
        with self._timed():
            outputs, loss = self._pass(batch[0], selections[0])
            for selection in selections[1:]:
                self._pass(batch[0], selection, teacher=outputs if strategy.sampler.distils else None)
            self.ranks.average_gradients(self.supernet.parameters())
        if self.state.step >= self.schedule.warmup_steps:
            self.state.drawn.add(device, selections[0], loss)
        if self.state.step == 0:
            # A fused SGD needs a momentum for every weight before a path that leaves some out.
            for weight in (weight for weight in self.supernet.parameters() if weight.requires_grad):
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        for remedy in strategy.remedies.values():
            remedy.on_weights_gradient(*batch, selections)
        self.clip_gradients(optimizer, gradient_clip_val=self.clip_norm, gradient_clip_algorithm="norm")
        optimizer.step()
        scheduler = self.lr_schedulers()
        assert not isinstance(scheduler, list) and scheduler is not None
        scheduler.step()
        images = len(batch[0][1]) * self.ranks.size
        self.totals["loss"] += loss * images
        self.totals["correct"] += self.ranks.mean(self.task.total_score(outputs, batch[0][1])) * self.ranks.size
        self.totals["images"] += images

    def _pass(self, batch: Batch, selection: Selection, *, teacher: Tensor | None = None) -> tuple[Tensor, float]:
        """Adds the gradients of one pass; its outputs (B, ...), detached, and the mean loss of all processes."""
        inputs, targets = batch
        outputs = self.supernet(inputs, selection)
        loss = self.task.loss(outputs, targets) if teacher is None else self.task.distillation_loss(outputs, teacher)
        mean = self._check(loss, "weights")
        self.manual_backward(loss)
        return outputs.detach(), mean

    def _architecture_step(self, batch: tuple[Batch, Batch], device: int) -> None:
        p_N = self.strategy.relaxation.update(
            Update(
                device,
                *batch,
                optimizer=self._optimizers()[1],
                backward=self._backward,
                timed=self._timed,
                check=lambda loss: self._check(loss, "architecture"),
                added=[remedy.architecture_loss for remedy in self.strategy.remedies.values()],
                weights_optimizer=self._optimizers()[0],
            )
        )
        size = sum(parameter.detach().abs().sum() for parameter in self.parameters_of_architecture.parameters())
        if not torch.isfinite(torch.as_tensor(size)):  # networks are weighed by sums of them
            raise TrainingDivergedError(
                f"the architecture parameters are not finite after step {self.state.step}; lower arch_optimizer.lr"
            )
        self.state.update_utilities(device, p_N)

    def _backward(self, loss: Tensor) -> None:
        self.manual_backward(loss)
        self.ranks.average_gradients(parameter for parameter in self.parameters() if parameter.requires_grad)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Counts what runs within as passes through the supernet."""
        started = time.perf_counter()
        yield
        self.pass_seconds += time.perf_counter() - started

    def _optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _check(self, loss: Tensor, what: str) -> float:
        """The mean loss of all processes. Raises: TrainingDivergedError, on all of them, unless it is finite."""
        mean = self.ranks.mean(float(loss.detach()))
        if not math.isfinite(mean):
            raise TrainingDivergedError(
                f"the {what} loss is {mean} at step {self.state.step}; "
                f"lower optimizer.lr or trainer.clip_norm, and check the images for values that are not numbers"
            )
        return mean


def make_module(
    plan: Plan, state: SearchState, computed: Computed, prior: Prior | None = None, *, rank: int = 0
) -> SearchModule:
    """The module that trains a supernet; `state` has the choices that it starts with, a `prior` where logits start.

    `rank` is the number of the process that it computes in.
    """
    config, settings = plan.config, plan.config.trainer
    supernet = plan.searched.supernet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits = ArchitectureParameters(plan.space.num_choices, len(plan.problems), offset_decay=settings.offset_decay)
    if prior is not None and plan.config.prior is not None:
        share, generator = plan.config.prior.pool_share, np.random.default_rng(config.seed)
        start_N = starting_logits(prior, state.problems, state.survivors, pool_share=share, generator=generator)
        logits.start_at(torch.from_numpy(start_N).float())
    schedule = Schedule(
        settings.steps,
        settings.warmup_share,
        settings.arch_every,
        settings.prune_events,
        settings.prune_from,
        settings.prune_to,
    )
    if settings.accelerator == "gpu":
        take_selections(supernet)
    if settings.precision == "bf16-mixed":
        compute_in_bf16(supernet)
    strategy = make_strategy(
        plan.strategy,
        remedies=plan.config.remedy,
        supernet=supernet,
        logits=logits,
        task=plan.data.task,
        state=state,
        warmup_steps=schedule.warmup_steps,
        generator=np.random.default_rng(config.seed),
        ranks=Ranks(rank, settings.devices),
    )
    return SearchModule(
        strategy.relaxation.searched,
        strategy,
        schedule=schedule,
        optimizer=make_optimizer(config.optimizer, "optimizer"),
        learning_rate=make_schedule(config.schedule, steps=settings.steps),
        arch_optimizer=make_optimizer(config.arch_optimizer, "arch_optimizer"),
        clip_norm=settings.clip_norm,
        computed=computed,
    )
