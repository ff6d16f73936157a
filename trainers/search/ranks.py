"""The processes that train one supernet together: each takes its share of every batch, and all end a step alike."""

# Shapes: B images of a batch on one process, C channels.

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from search_spaces.errors import EspalierError
from trainers.data.task import Task


class ProcessesDifferError(EspalierError):
    """The processes of a training no longer hold the same weights, choices or random numbers."""


class Ranks:
    """Process `number` of `size`. They compute together within `together`; outside of it each is alone.

    A mean over processes is that of all images of a step, for their shares are of one size.
    """

    def __init__(self, number: int = 0, size: int = 1) -> None:
        self.number, self.size = number, size
        self._together = False

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within it all processes do the same, and batch norms in training use the statistics of all their images."""
        if self.size == 1:
            yield
            return
        self._together = True
        try:
            with _GlobalBatchNorm(self):
                yield
        finally:
            self._together = False

    def average(self, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The mean of each tensor over the processes; all of them must have those that are not none."""
        means = list(tensors)
        if not self._together:
            return means
        for device in dict.fromkeys(tensor.device for tensor in tensors if tensor is not None):
            own = [(k, tensor) for k, tensor in enumerate(tensors) if tensor is not None and tensor.device == device]
            flat = torch.cat([tensor.detach().flatten() for _, tensor in own])
            dist.all_reduce(flat)
            flat /= self.size
            for (k, tensor), part in zip(own, flat.split([tensor.numel() for _, tensor in own]), strict=True):
                means[k] = torch.empty_like(tensor).copy_(part.view(tensor.shape))
        return means

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces the gradients of parameters that have one by their means over the processes."""
        if self._together:
            trained = [parameter for parameter in parameters if parameter.grad is not None]
            for parameter, mean in zip(trained, self.average([p.grad for p in trained]), strict=True):
                parameter.grad = mean

    def mean(self, value: float) -> float:
        """The mean of a number over the processes."""
        if not self._together:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total) / self.size

    def draw(self, generator: np.random.Generator, num: int) -> np.ndarray:
        """Uniform numbers (B,) for the images of this process; all processes draw those of all images."""
        if not self._together:
            return generator.random(num)
        return generator.random(num * self.size)[self.number * num : (self.number + 1) * num]

    def from_first(self, content: bytes) -> bytes:
        """What the first process has, on all of them."""
        if self.size == 1:
            return content
        length = torch.tensor(len(content))
        dist.broadcast(length, 0)
        found = bytearray(content if self.number == 0 else int(length))
        buffer = torch.frombuffer(found, dtype=torch.uint8)
        dist.broadcast(buffer, 0)
        return bytes(found)

    def check_alike(self, digest: str) -> None:
        """Raises: ProcessesDifferError unless all processes have the same digest, in hexadecimal digits."""
        if self.size == 1:
            return
        own = torch.frombuffer(bytearray.fromhex(digest), dtype=torch.uint8)
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        other = [number for number, each in enumerate(found) if not torch.equal(each, found[0])]
        if other:
            raise ProcessesDifferError(
                f"processes {', '.join(map(str, other))} hold other weights, choices or random numbers than process 0; "
                "a part of the search computes differently on each: look for one that draws random numbers of its own "
                "or takes gradients without Ranks.average, or search with trainer.devices=1"
            )


class ShardedTask(Task):
    """A task whose mean loss over the processes is that of all their examples, where examples weigh differently."""

    def __init__(self, task: Task, ranks: Ranks) -> None:
        self.task, self.ranks = task, ranks

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weight = self.task.total_weight(targets)
        return self.task.loss(outputs, targets) * (weight / self.ranks.mean(weight))

    def total_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.task.total_loss(outputs, targets)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.task.scores(outputs, targets)

    def distillation_loss(self, outputs: Tensor, taught: Tensor) -> Tensor:
        return self.task.distillation_loss(outputs, taught)


class _Average(torch.autograd.Function):
    """The mean over the processes, differentiable: of the gradients, too, it is the mean."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, size: int) -> Tensor:
        ctx.size = size
        return _averaged(value, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _averaged(gradients[0], ctx.size), None


def _averaged(value: Tensor, size: int) -> Tensor:
    value = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(value)
    return value / size


class _GlobalBatchNorm(TorchFunctionMode):
    """Batch norms in training, in whatever module, normalise by the mean and variance of all processes' images."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
        dims, shape = [d for d in range(x.dim()) if d != 1], [1, -1, *[1] * (x.dim() - 2)]
        values = x.float() if x.dtype.itemsize < 4 else x
        var_C, mean_C = torch.var_mean(values, dims, correction=0)
        all_mean_C = self._average(mean_C)
        all_var_C = self._average(var_C + (mean_C - all_mean_C).square())
        if running_mean is not None and running_var is not None:
            num = x.numel() // x.shape[1] * self.ranks.size
            with torch.no_grad():
                running_mean.lerp_(all_mean_C, momentum)
                running_var.lerp_(all_var_C * (num / (num - 1)), momentum)
        scale_C = (all_var_C + eps).rsqrt()
        scale_C = scale_C if weight is None else scale_C * weight
        y = (values - all_mean_C.view(shape)) * scale_C.view(shape)
        return (y if bias is None else y + bias.view(shape)).to(x.dtype)

    def _average(self, value: Tensor) -> Tensor:
        averaged: Tensor = _Average.apply(value, self.ranks.size)
        return averaged
