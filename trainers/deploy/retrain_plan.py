"""A training with nothing trained yet: its data, its protocol, its network as it begins."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from search_spaces.architecture import build_network, build_space
from search_spaces.blocks import without_resize
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import bytes_of
from trainers.data.datasets import ImageData, data_config, load_data
from trainers.deploy.onnx_file import file_network
from trainers.deploy.protocol import Protocol, Teacher
from trainers.deploy.retrain_job import Job
from trainers.deploy.standalone import load_weights

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A training with nothing trained yet: its data at the image size of the network, its steps and its protocol."""

    job: Job
    data: ImageData
    protocol: Protocol
    epoch_steps: int
    steps: int

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.epoch_steps)

    def network(self) -> nn.Module:
        """The network as it begins, a function of the global seed, or of the weights that it goes on from."""
        network = without_resize(build_network(self.job.architecture))
        if self.job.config.weights is not None:
            path, id = Path(self.job.config.weights).expanduser(), self.job.architecture.id
            try:
                load_weights(network, path, id=id, needs_owner=False)
            except InvalidInputError as error:
                raise InvalidInputError(f"weights: {error}") from error
        return network


def prepare(job: Job, report: Report) -> Plan:
    """Reads and checks all that a training needs. Raises: InvalidInputError that names the key."""
    config, architecture = job.config, job.architecture
    channels, *size = build_space(architecture).input_shape(architecture.choices)
    data = load_data(data_config(config.data), image_size=(size[0], size[1]), joined=config.joined)
    images = data.size("weights")
    if config.batch_size > images:
        raise InvalidInputError(
            f"batch_size: got {config.batch_size}, but only {images} images are trained on; lower it"
        )
    if config.cutout >= min(size):
        raise InvalidInputError(
            f"cutout: got {config.cutout}, allowed: less than the image of {size[0]}x{size[1]} pixels"
        )
    task = data.task.smoothed(config.label_smoothing) if config.label_smoothing else data.task
    protocol = Protocol(task, config.batch_size, config.mixup, config.cutout, _teacher(job, data, report))
    epoch_steps = images // config.batch_size
    plan = Plan(job, data, protocol, epoch_steps, config.steps or config.epochs * epoch_steps)
    plan.network()  # before anything is written: the weights may not fit
    height, width = size
    report(
        f"{architecture.space}  {build_space(architecture).notation(architecture.choices)}  "
        f"(input {channels}x{height}x{width}); {data.name}, {images:,} images trained on"
    )
    if job.note is not None:
        report(job.note)
    return plan


def _teacher(job: Job, data: ImageData, report: Report) -> Teacher | None:
    settings = job.config.distill
    if settings.teacher is None:
        return None
    report(f"teacher {settings.teacher}: it sees every batch as the network does")
    try:
        network = file_network(bytes_of(Path(settings.teacher).expanduser()), data)
        network(next(data.batches("weights", batch_size=1, seed=0, epoch=0, augment=False))[0])  # does it run?
    except (InvalidInputError, OSError, ValueError) as error:
        raise InvalidInputError(f"distill.teacher: {settings.teacher}: {error}") from error
    return Teacher(network, settings.weight, settings.temperature)
