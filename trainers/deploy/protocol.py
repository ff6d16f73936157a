"""What a training protocol adds to batches, losses and weights: mixup, cutout, distillation, averages of weights."""

# Shapes: B batch, C channels, H height, W width, K classes.

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.data.datasets import Batch, ImageData
from trainers.data.image_set import key_generator
from trainers.data.task import Task


@dataclass(frozen=True)
class Teacher:
    """Another network, from a batch (B, C, H, W) to its logits (B, K), its share `weight` of the loss, the temperature.

    It sees each batch as the network in training does: augmented, cut out, mixed.
    Source: Beyer et al., arXiv:2106.05237, who find that this matters.
    """

    network: Callable[[Tensor], Tensor]
    weight: float
    temperature: float


@dataclass(frozen=True)
class Protocol:
    """How networks are trained: `mixup` is the parameter of a Beta distribution, `cutout` a side in pixels; 0: none."""

    task: Task
    batch_size: int
    mixup: float = 0.0
    cutout: int = 0
    teacher: Teacher | None = None

    def losses(self, network: nn.Module, data: ImageData, *, seed: int, epoch: int) -> Iterator[Tensor]:
        """The loss of each batch of an epoch; what is drawn is a function of (seed, epoch, batch)."""
        batches = data.batches("weights", batch_size=self.batch_size, seed=seed, epoch=epoch, augment=True)
        for k, batch in enumerate(batches):
            yield self.loss(network, batch, key=(seed, epoch, k))

    def loss(self, network: nn.Module, batch: Batch, *, key: tuple[int, ...]) -> Tensor:
        """The loss of one batch. Mixed images have the loss of both of their labels, in the same shares."""
        x, y = batch
        if self.cutout:
            x = cut_out(x, self.cutout, key_generator("cutout", *key))
        if not self.mixup:
            outputs = network(x)
            return self._taught(self.task.loss(outputs, y), outputs, x)
        generator = key_generator("mixup", *key)
        share = mixing_share(self.mixup, generator)
        partner = torch.randperm(len(y), generator=generator)
        x = share * x + (1 - share) * x[partner]
        outputs = network(x)
        labelled = share * self.task.loss(outputs, y) + (1 - share) * self.task.loss(outputs, y[partner])
        return self._taught(labelled, outputs, x)

    def _taught(self, labelled: Tensor, outputs: Tensor, x: Tensor) -> Tensor:
        """The loss with the teacher's share of it."""
        if self.teacher is None:
            return labelled
        taught = distillation_loss(outputs, self.teacher.network(x), self.teacher.temperature)
        return (1 - self.teacher.weight) * labelled + self.teacher.weight * taught


def cut_out(x_BCHW: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Images with a square of `side` pixels at 0, the mean of the data, about any pixel; beyond an edge it is cut off.

    Source: DeVries and Taylor, arXiv:1708.04552.
    """
    num, _, height, width = x_BCHW.shape
    inside = []
    for pixels in (height, width):
        first_B1 = torch.randint(pixels, (num, 1), generator=generator) - side // 2
        place = torch.arange(pixels)
        inside.append((place >= first_B1) & (place < first_B1 + side))
    square_BHW = inside[0][:, :, None] & inside[1][:, None, :]
    return x_BCHW.masked_fill(square_BHW[:, None], 0.0)


def mixing_share(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha). Source: Zhang et al., arXiv:1710.09412."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def distillation_loss(outputs_BK: Tensor, taught_BK: Tensor, temperature: float) -> Tensor:
    """Mean over images of the divergence of the student from the teacher, both softened, times temperature squared.

    Source: Hinton et al., arXiv:1503.02531.
    """
    student, teacher = (F.log_softmax(logits / temperature, dim=1) for logits in (outputs_BK, taught_BK))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class Average:
    """An exponential moving average of the weights and statistics of a network.

    After its t-th update the average has min(decay, (1 + t) / (10 + t)) of what it was: it soon forgets where it began.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.updates = copy.deepcopy(network).eval(), decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.updates += 1
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates))
        new = network.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(new[name], 1 - kept)
            else:
                value.copy_(new[name])
