"""Scores of networks: what an evaluator offers, the score of a network on a split, and fine-tuning."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from trainers.data.datasets import Batch, ImageData, Split
from trainers.data.task import Task


@dataclass(frozen=True)
class Score:
    """Accuracy as a share in [0, 1], and mean cross-entropy in nats, over `images` images."""

    accuracy: float
    loss: float
    images: int


class Evaluator(ABC):
    """Scores networks on the validation split, each by the same protocol."""

    @abstractmethod
    def validate(self, indices: tuple[int, ...]) -> Score:
        """The score of one network of the space, given by the positions (n,) of its choices."""

    @abstractmethod
    def network(self, indices: tuple[int, ...]) -> nn.Module:
        """The stand-alone network with the weights that it was scored with, in eval mode."""


def first_images(batches: Iterator[Batch], images: int) -> Iterator[Batch]:
    """Batches until `images` images have passed."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch[1])
        if seen >= images:
            return


@torch.no_grad()
def score(
    network: nn.Module, data: ImageData, split: Split, *, task: Task, images: int | None, batch_size: int
) -> Score:
    """Score of a network in eval mode on a split, on its first `images` images or on all of them."""
    network.eval()
    batches = data.batches(split, batch_size=batch_size, seed=0, epoch=0, augment=False)
    total, loss, count = 0.0, 0.0, 0
    for x, y in batches if images is None else first_images(batches, images):
        outputs = network(x)
        total += task.total_score(outputs, y)
        loss += float(task.total_loss(outputs, y))
        count += len(y)
    return Score(total / count, loss / count, count)


def finetune(
    network: nn.Module, data: ImageData, *, task: Task, steps: int, lr: float, batch_size: int, seed: int
) -> None:
    """Trains a network in place on the weights split: SGD with Nesterov momentum, learning rate falling as a cosine."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    network.train()
    done, epoch = 0, 0
    while done < steps:
        for x, y in data.batches("weights", batch_size=batch_size, seed=seed, epoch=epoch, augment=True):
            if done == steps:
                break
            optimizer.zero_grad(set_to_none=True)
            task.loss(network(x), y).backward()
            optimizer.step()
            schedule.step()
            done += 1
        epoch += 1
    network.eval()
