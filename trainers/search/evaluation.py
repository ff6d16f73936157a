"""Scores of networks: what an evaluator offers, the score of a network on a split, and its own training."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from search_spaces.registry import Registry
from search_spaces.space import Supernet
from trainers.data.datasets import Batch, ImageData
from trainers.data.splits import Split

if TYPE_CHECKING:
    from trainers.search.plan import Plan


@dataclass(frozen=True)
class Score:
    """Accuracy as a share in [0, 1], and mean cross-entropy in nats, over `images` images; 0 images: looked up.

    `balanced_accuracy` is the mean over the classes that have images of the accuracy on each.
    """

    accuracy: float
    loss: float
    images: int
    balanced_accuracy: float | None = None


class Evaluator(ABC):
    """Scores networks for the validation split, each by the same protocol.

    `supernet` is trained where the evaluator needs one, else none. Keyword-only arguments are its configuration.
    """

    needs_supernet: ClassVar[bool] = False  # whether its scores are of weights that a trained supernet gives

    def __init__(self, plan: "Plan", supernet: Supernet | None) -> None:
        self.plan, self.supernet = plan, supernet

    @abstractmethod
    def validate(self, indices: tuple[int, ...]) -> Score:
        """The score of one network of the space, given by the positions (n,) of its choices."""

    def network(self, indices: tuple[int, ...]) -> nn.Module:
        """The stand-alone network in eval mode: fresh, a function of the seed, unless scoring has given it weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.config.seed)
            network = self.plan.space.network(self.plan.space.choices(indices)).eval()
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


EVALUATORS: Registry[type[Evaluator]] = Registry("evaluators")


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
    scores, groups, loss = [], [], 0.0
    for x, y in batches if images is None else first_images(batches, images):
        outputs = network(x)
        scores.append(data.task.scores(outputs, y))
        groups.append(data.task.groups(y))
        loss += float(data.task.total_loss(outputs, y))
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
) -> None:
    """Trains a network in place on the weights split for `steps` batches; it ends in eval mode."""
    network.train()
    done, epoch = 0, 0
    while done < steps:
        for x, y in data.batches("weights", batch_size=batch_size, seed=seed, epoch=epoch, augment=True):
            if done == steps:
                break
            optimizer.zero_grad(set_to_none=True)
            data.task.loss(network(x), y).backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
            optimizer.step()
            schedule.step()
            done += 1
        epoch += 1
    network.eval()
