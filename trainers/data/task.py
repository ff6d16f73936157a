"""What networks are trained for: the loss, the score that ranks them, and whether more of it is better."""

# Shapes: B batch, S images of a split, K classes.

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from search_spaces.errors import InvalidInputError
from search_spaces.registry import Registry


class Task(ABC):
    """Outputs of a network and the targets of a batch become a loss and a score, each summed over the batch."""

    score_name: ClassVar[str]  # as it stands in metrics and reports
    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def total_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum of the losses of the examples."""

    @abstractmethod
    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Score (B,) of each example, in [0, 1]."""

    def total_score(self, outputs: Tensor, targets: Tensor) -> float:
        """Sum of the scores of the examples."""
        return float(self.scores(outputs, targets).sum())

    def groups(self, targets: Tensor) -> Tensor | None:
        """The group of each example, int64 (B,), if a balanced score weighs groups alike, however large they are."""
        return None

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of the examples, differentiable: what is trained."""
        return self.total_loss(outputs, targets) / len(targets)

    def total_weight(self, targets: Tensor) -> float:
        """What `loss` divides the sum over the examples by: here their number."""
        return float(len(targets))

    def distillation_loss(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Mean loss against the outputs of a teacher. Raises: InvalidInputError if it has none."""
        raise InvalidInputError(f"sampler: got sandwich, but the task {self.score_name} has no outputs to distil")

    def weighted(self, weights_K: Tensor) -> "Task":
        """The task with a weight of each class in `loss`. Raises: InvalidInputError if it has no classes."""
        raise InvalidInputError(f"data.class_weights: got balanced, but the task {self.score_name} has no classes")

    def smoothed(self, share: float) -> "Task":
        """The task whose `loss` gives all classes alike a `share` of each label. Raises: as `weighted`."""
        raise InvalidInputError(f"label_smoothing: got {share}, but the task {self.score_name} has no classes")


class Classification(Task):
    """Logits (B, K) and class indices (B,): cross-entropy in nats, and accuracy, balanced over the classes."""

    score_name = "accuracy"

    def __init__(self, weights_K: Tensor | None = None, *, smoothing: float = 0.0) -> None:
        self.weights_K, self.smoothing = weights_K, smoothing

    def total_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="sum")

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float()

    def groups(self, targets: Tensor) -> Tensor | None:
        return targets

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weights_K = None if self.weights_K is None else self.weights_K.to(outputs)
        return F.cross_entropy(outputs, targets, weights_K, label_smoothing=self.smoothing)

    def total_weight(self, targets: Tensor) -> float:
        return super().total_weight(targets) if self.weights_K is None else float(self.weights_K[targets.cpu()].sum())

    def distillation_loss(self, outputs: Tensor, taught: Tensor) -> Tensor:
        return F.cross_entropy(outputs, taught.softmax(dim=1))

    def weighted(self, weights_K: Tensor) -> Task:
        return Classification(weights_K, smoothing=self.smoothing)

    def smoothed(self, share: float) -> Task:
        return Classification(self.weights_K, smoothing=share)


def balanced_weights(labels_S: Tensor, num_classes: int) -> Tensor:
    """Weights (K,) by which every class adds alike to a loss: images over classes times the images of each."""
    return len(labels_S) / (num_classes * labels_S.bincount(minlength=num_classes)).float()


TASKS: Registry[type[Task]] = Registry("tasks")
