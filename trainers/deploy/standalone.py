"""Networks that stand alone: loaded, trained, and scored on a split."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import check_regular
from trainers.data.datasets import Batch, ImageData
from trainers.data.splits import Split
from trainers.data.task import Task


@dataclass(frozen=True)
class Score:
    """Accuracy as a share in [0, 1], and mean cross-entropy in nats, over `images` images; 0 images: looked up.

    `balanced_accuracy` is the mean over the classes that have images of the accuracy on each.
    """

    accuracy: float
    loss: float
    images: int
    balanced_accuracy: float | None = None


def device_of_weights(network: nn.Module) -> torch.device:
    """Where a network computes; the CPU if it has no weights."""
    return next(network.parameters(), torch.empty(0)).device


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
    chosen = batches if images is None else first_images(batches, images)
    device = device_of_weights(network)
    return score_of(data.task, ((network(x.to(device)).cpu(), y) for x, y in chosen))


def score_of(task: Task, batches: Iterable[tuple[Tensor, Tensor]]) -> Score:
    """Score of outputs of a network, (B, ...), beside the targets of each batch."""
    scores, groups, loss = [], [], 0.0
    for outputs, y in batches:
        scores.append(task.scores(outputs, y))
        groups.append(task.groups(y))
        loss += float(task.total_loss(outputs, y))
    scores_S = torch.cat(scores).double()
    known = [group for group in groups if group is not None]
    balanced = _mean_of_groups(scores_S, torch.cat(known)) if known else None
    return Score(float(scores_S.mean()), loss / len(scores_S), len(scores_S), balanced)


def _mean_of_groups(scores_S: Tensor, groups_S: Tensor) -> float:
    """The mean over groups of the mean score of each."""
    counts, sums = groups_S.bincount(), groups_S.bincount(weights=scores_S)
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def fit(
    network: nn.Module,
    data: ImageData,
    optimizer: Optimizer,
    schedule: LRScheduler,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    clip_norm: float | None = None,
    on_step: Callable[[], object] = lambda: None,
) -> None:
    """Trains a network in place on the weights split for `steps` batches; it ends in eval mode."""
    done, epoch, device = 0, 0, device_of_weights(network)
    while done < steps:
        batches = data.batches("weights", batch_size=batch_size, seed=seed, epoch=epoch, augment=True)
        chosen = ((x.to(device), y.to(device)) for x, y in islice(batches, steps - done))
        losses = (data.task.loss(network(x), y) for x, y in chosen)
        for _ in descend(network, losses, optimizer, schedule, clip_norm=clip_norm):
            done += 1
            on_step()
        epoch += 1
    network.eval()


def descend(
    network: nn.Module,
    losses: Iterator[Tensor],
    optimizer: Optimizer,
    schedule: LRScheduler,
    *,
    clip_norm: float | None,
) -> Iterator[float]:
    """Updates the weights by one loss of the network, in training mode, after another; gives the value of each."""
    network.train()
    for loss in losses:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        optimizer.step()
        schedule.step()
        yield float(loss.detach())


def load_weights(network: nn.Module, path: Path, *, id: str, needs_owner: bool = True) -> None:
    """Fills a network, of the architecture `id`, from a file, which names its own or, unless it `needs_owner`, none.

    Raises: InvalidInputError unless the weights are those of this network.
    """
    try:
        check_regular(path)
        network.load_state_dict(load_file(path))
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("architecture", None if needs_owner else id)
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be loaded into its network: {error}") from error
    if owner != id:
        raise InvalidInputError(f"{path} has the weights of network {owner}, this is {id}; give its own")
