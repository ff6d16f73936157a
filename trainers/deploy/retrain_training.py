"""The seeds of a training, one after another, each resumed at the end of the epoch that it was interrupted after."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from math import isfinite
from statistics import fmean
from typing import Any

import safetensors.torch
import torch

from hardware_models.measuring.runner import cpu_model
from search_spaces.errors import EspalierError
from trainers.deploy.optimizers import make_optimizer, make_schedule
from trainers.deploy.protocol import Average
from trainers.deploy.retrain_plan import Plan, Report
from trainers.deploy.retrain_result import SeedResult
from trainers.deploy.retrain_state import State, read_state, write_state
from trainers.deploy.standalone import descend, score
from trainers.runs import metric_names
from trainers.runs.files import write_bytes, write_csv
from trainers.runs.folder import RunFolder
from trainers.runs.result_parts import Validation

COLUMNS = (
    metric_names.SEED,
    metric_names.EPOCH,
    metric_names.STEP,
    metric_names.LEARNING_RATE,
    metric_names.TRAIN_LOSS,
    metric_names.VALIDATION_LOSS,
    metric_names.VALIDATION_ACCURACY,
    metric_names.STEP_SECONDS,
)
SILENT_SECONDS = 30.0  # within an epoch, before a line says how far it is


class DivergedError(EspalierError):
    """A loss is not a number any more."""


class Training:
    """The seeds of a plan, one after another, from the state that an earlier attempt left."""

    def __init__(self, plan: Plan, folder: RunFolder, report: Report) -> None:
        self.plan, self.config, self.folder, self.report = plan, plan.job.config, folder, report
        self.state = read_state(folder.path) or State(self.config.threads or torch.get_num_threads(), [])
        self.state.processors = list(dict.fromkeys([*self.state.processors, cpu_model()]))
        self.began, self.epochs_done = time.monotonic(), 0  # in this process

    def run(self) -> State:
        """The state with the results of all seeds. Raises: DivergedError; RunFolderError."""
        torch.set_num_threads(self.state.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        for seed in self.config.all_seeds[len(self.state.finished) :]:
            result = self._train(seed)
            self.state.end_seed(result.model_dump())
            write_state(self.folder.path, self.state)
        return self.state

    def _train(self, seed: int) -> SeedResult:
        """One seed to its end, from the epoch of the state on. The test images are scored once, then."""
        state, data, batch_size = self.state, self.plan.data, self.config.batch_size
        torch.manual_seed(seed)
        parts = self._parts()
        network, average = parts["network"], parts["average"]
        tested = network if average is None else average.network
        self._restore(parts)
        while state.epoch < self.plan.epochs:
            started, rate = time.perf_counter(), float(parts["optimizer"].param_groups[0]["lr"])
            losses = list(self._updates(parts, seed))
            if not all(map(isfinite, losses)):
                raise DivergedError(
                    f"seed {seed}: a loss of epoch {state.epoch + 1} is not finite; lower optimizer.lr or set clip_norm"
                )
            seconds = time.perf_counter() - started
            validation = score(tested, data, "validation", images=None, batch_size=batch_size)
            state.epoch, state.seconds, state.validation = state.epoch + 1, state.seconds + seconds, asdict(validation)
            self._end_epoch(seed, parts, losses=losses, rate=rate, step_seconds=seconds / len(losses))
        test = score(tested, data, "test", images=None, batch_size=batch_size)
        assert state.validation is not None
        path = f"weights/seed{seed}.safetensors"
        weights = {key: value.contiguous() for key, value in tested.state_dict().items()}
        content = safetensors.torch.save(weights, {"architecture": self.plan.job.architecture.id})
        write_bytes(self.folder.path / path, content)
        self.report(f"seed {seed}  test {test.accuracy:.3f}  validation {state.validation['accuracy']:.3f}")
        return SeedResult(
            seed=seed,
            validation=Validation(**state.validation),
            test=Validation(**asdict(test)),
            train_loss=state.rows[-1][metric_names.TRAIN_LOSS],
            train_seconds=round(state.seconds, 2),
            weights=path,
        )

    def _parts(self) -> dict[str, Any]:
        """What changes while one seed is trained."""
        network = self.plan.network()
        optimizer = make_optimizer(self.config.optimizer, "optimizer")(network.parameters())
        schedule = make_schedule(self.config.schedule, steps=self.plan.steps)(optimizer)
        average = Average(network, self.config.ema) if self.config.ema else None
        return {"network": network, "optimizer": optimizer, "schedule": schedule, "average": average}

    def _restore(self, parts: dict[str, Any]) -> None:
        saved = self.state.parts
        if not saved:
            return
        for name in ("network", "optimizer", "schedule"):
            parts[name].load_state_dict(saved[name])
        if parts["average"] is not None:
            parts["average"].network.load_state_dict(saved["average"])
            parts["average"].updates = saved["updates"]
        torch.set_rng_state(saved["rng"])

    def _updates(self, parts: dict[str, Any], seed: int) -> Iterator[float]:
        """The updates of one epoch: the loss of each."""
        plan, average = self.plan, parts["average"]
        left = min(plan.epoch_steps, plan.steps - self.state.epoch * plan.epoch_steps)
        losses = plan.protocol.losses(parts["network"], plan.data, seed=seed, epoch=self.state.epoch)
        updates = descend(
            parts["network"],
            islice(losses, left),
            parts["optimizer"],
            parts["schedule"],
            clip_norm=self.config.clip_norm,
        )
        reported = time.monotonic()
        for step, loss in enumerate(updates, 1):
            if average is not None:
                average.update(parts["network"])
            if step < left and time.monotonic() - reported > SILENT_SECONDS:
                reported = time.monotonic()
                self.report(f"{self._place(seed, self.state.epoch + 1)}  step {step}/{left}  {self._left(step / left)}")
            yield loss

    def _end_epoch(
        self, seed: int, parts: dict[str, Any], *, losses: list[float], rate: float, step_seconds: float
    ) -> None:
        """Writes what the training goes on from, then the metrics, and reports them."""
        state, average = self.state, parts["average"]
        assert state.validation is not None
        saved = {name: parts[name].state_dict() for name in ("network", "optimizer", "schedule")}
        averaged = {} if average is None else {"average": average.network.state_dict(), "updates": average.updates}
        state.parts = {**saved, **averaged, "rng": torch.get_rng_state()}
        steps = min(state.epoch * self.plan.epoch_steps, self.plan.steps)
        figures = (
            seed,
            state.epoch,
            steps,
            rate,
            fmean(losses),
            state.validation["loss"],
            state.validation["accuracy"],
        )
        state.rows.append(dict(zip(COLUMNS, (*figures, step_seconds), strict=True)))
        write_state(self.folder.path, state)
        write_csv(self.folder.path / "metrics.csv", state.rows, COLUMNS)
        done = len(state.finished) * self.plan.epochs + state.epoch
        self.folder.progress(done, epochs=self.config.seeds * self.plan.epochs)
        self.epochs_done += 1
        accuracy = f"loss {fmean(losses):.4f}  val {state.validation['accuracy']:.3f}"
        self.report(f"{self._place(seed, state.epoch)}  {accuracy}  {self._left(0)}")

    def _place(self, seed: int, epoch: int) -> str:
        return f"seed {seed} ({len(self.state.finished) + 1}/{self.config.seeds})  epoch {epoch}/{self.plan.epochs}"

    def _left(self, share: float) -> str:
        """The time that is left, by that of the epochs of this process and the share of the one that runs."""
        done = self.epochs_done + share
        all_done = len(self.state.finished) * self.plan.epochs + self.state.epoch + share
        seconds = (time.monotonic() - self.began) / done * (self.config.seeds * self.plan.epochs - all_done)
        return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"
