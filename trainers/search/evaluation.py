"""Accuracy of stand-alone networks with weights inherited from a supernet, and their fine-tuning."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from trainers.data.datasets import Batch, ImageData, Split


@dataclass(frozen=True)
class Score:
    """Accuracy as a share in [0, 1], and mean cross-entropy in nats, over `images` images."""

    accuracy: float
    loss: float
    images: int


def first_images(batches: Iterator[Batch], images: int) -> Iterator[Batch]:
    """Batches until `images` images have passed."""
    seen = 0
    for batch in batches:
        yield batch
        seen += len(batch[1])
        if seen >= images:
            return


@torch.no_grad()
def score(network: nn.Module, data: ImageData, split: Split, *, images: int | None, batch_size: int) -> Score:
    """Score of a network in eval mode on a split, on its first `images` images or on all of them."""
    network.eval()
    batches = data.batches(split, batch_size=batch_size, seed=0, epoch=0, augment=False)
    correct, loss, count = 0, 0.0, 0
    for x, y in batches if images is None else first_images(batches, images):
        logits = network(x)
        correct += int((logits.argmax(1) == y).sum())
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
        count += len(y)
    return Score(correct / count, loss / count, count)


def finetune(network: nn.Module, data: ImageData, *, steps: int, lr: float, batch_size: int, seed: int) -> None:
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
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
            schedule.step()
            done += 1
        epoch += 1
    network.eval()
