"""From a chosen network to the file that its device runs: trained at its own image size, exported, tested, timed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR

from hardware_models.measuring.measure import Machine, Measurement, time_module
from search_spaces.blocks import recalibrate, without_resize
from trainers.data.datasets import ImageData
from trainers.deploy.onnx_file import onnx_file, score_file, time_file
from trainers.deploy.onnx_int8 import int8_file
from trainers.deploy.optimizers import make_optimizer, make_schedule
from trainers.deploy.standalone import Score, first_images, fit, score
from trainers.search.phases import ADAPTING, CERTIFYING, Progress
from trainers.search.plan import Plan


@dataclass(frozen=True)
class Finished:
    """A network after all its training, its test score, and the file of it with that file's own test score.

    Without `trainer.deploy` there is no file, and the network is trained and tested at the size of the search.
    """

    network: nn.Module
    finetuned: Score
    file: bytes | None = None
    deployed: Score | None = None


def finish(
    plan: Plan,
    network: nn.Module,
    indices: tuple[int, ...],
    progress: Progress,
    *,
    id: str,
    from_scratch: bool,
    int8: bool,
) -> Finished:
    """Trains a network, exports and tests it. `id` is that of its architecture.

    The file is of `int8` for a device that computes so, calibrated with as many images as batch norm is; else of fp32.
    """
    settings, data = plan.config.trainer, plan.data
    if settings.deploy:
        data, network = _deployed_data(plan, indices), without_resize(network).train(network.training)
        network.to(plan.device)
        if plan.trained_size(indices) != data.image_size and not from_scratch:
            recalibrate(network, _recalibration_images(plan, data))
    progress.enter(ADAPTING)
    train_network(plan, network.to(plan.device), data, from_scratch=from_scratch, on_step=progress.advance)
    progress.enter(CERTIFYING)
    finetuned = score(network, data, "test", images=None, batch_size=settings.step_images)
    network.cpu()  # to be exported and kept
    if not settings.deploy:
        return Finished(network, finetuned)
    file = onnx_file(network, data, {"architecture": id, "run": plan.config.run_key})
    if int8:
        file = int8_file(file, [image for image, _ in data.stored("weights", images=settings.recalibration_images)])
    deployed = score_file(file, data, "test", threads=torch.get_num_threads())
    return Finished(network, finetuned, file, deployed)


def timed(plan: Plan, module: nn.Module, indices: tuple[int, ...], *, threads: int, machine: Machine) -> Measurement:
    """Latency of a network on `machine`, as its file runs there; of the network alone where there will be none."""
    if plan.config.trainer.deploy:
        return time_file(module, _deployed_data(plan, indices), threads=threads, machine=machine)
    inputs = plan.space.inputs_of(plan.space.choices(indices))
    return time_module(module, inputs, threads=threads, machine=machine)


def size_of(plan: Plan, indices: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the images that a network ends its training with."""
    if not plan.config.trainer.deploy:
        return plan.trained_size(indices)
    _, height, width = plan.space.input_shape(plan.space.choices(indices))
    return height, width


def _deployed_data(plan: Plan, indices: tuple[int, ...]) -> ImageData:
    return plan.data_at(size_of(plan, indices))


def _recalibration_images(plan: Plan, data: ImageData) -> Iterator[Tensor]:
    settings = plan.config.trainer
    batches = data.batches("weights", batch_size=settings.step_images, seed=plan.config.seed, epoch=0, augment=True)
    return (x.to(plan.device) for x, _ in first_images(batches, settings.recalibration_images))


def train_network(
    plan: Plan,
    network: nn.Module,
    data: ImageData,
    *,
    from_scratch: bool,
    on_step: Callable[[], object] = lambda: None,
) -> None:
    """Trains a network further; one that no supernet gave its weights gets all the steps that a supernet would get."""
    config, settings, weights = plan.config, plan.config.trainer, network.parameters()
    if from_scratch:
        steps, clip_norm = settings.steps, settings.clip_norm
        optimizer = make_optimizer(config.optimizer, "optimizer")(weights)
        schedule = make_schedule(config.schedule, steps=steps)(optimizer)
    else:
        steps, clip_norm = settings.finetune_steps, None
        optimizer = SGD(weights, lr=settings.finetune_lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
        schedule = CosineAnnealingLR(optimizer, max(1, steps))
    fit(
        network,
        data,
        optimizer,
        schedule,
        steps=steps,
        batch_size=settings.step_images,
        seed=config.seed,
        clip_norm=clip_norm,
        on_step=on_step,
    )
