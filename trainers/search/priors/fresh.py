"""A freshly initialised network with one batch, which training-free scores look at, and how its maps are recorded."""

# Shapes: B batch, C channels, H height, W width.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces.registry import Registry
from trainers.data.task import Task

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU)


@dataclass(frozen=True, eq=False)
class Fresh:
    """A network in training mode with no step taken, and one batch of the weights split."""

    network: nn.Module
    inputs: Tensor
    targets: Tensor
    task: Task

    def loss(self, part: slice = slice(None)) -> Tensor:
        """The mean loss of the batch, or of a part of it."""
        return self.task.loss(self.network(self.inputs[part]), self.targets[part])

    def gradients(self, part: slice = slice(None)) -> list[tuple[Tensor, Tensor]]:
        """Each weight of a convolution or linear layer that the loss depends on, with its gradient."""
        weights = layer_weights(self.network)
        found = torch.autograd.grad(self.loss(part), weights, allow_unused=True)
        return [(weight, gradient) for weight, gradient in zip(weights, found, strict=True) if gradient is not None]


TrainingFreeScore = Callable[[Fresh], float]  # larger for a network that is expected to be better
PRIORS: Registry[TrainingFreeScore] = Registry("priors")


def layer_weights(network: nn.Module) -> list[Tensor]:
    """The weights of convolutions and linear layers, without biases and batch norms."""
    return [module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def activation_signs(fresh: Fresh) -> Tensor:
    """Which units of all activations are positive: bool (B, units)."""
    signs: list[Tensor] = []
    with torch.no_grad(), _hooked(_of_kind(fresh.network, ACTIVATIONS), lambda x, y: signs.append((x > 0).flatten(1))):
        fresh.network(fresh.inputs)
    return torch.cat(signs, dim=1)


@contextmanager
def recorded_maps(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the output maps (B, C, H, W) of the network's blocks while it runs within."""
    maps: list[Tensor] = []
    with _hooked(blocks_of(network), lambda x, y: maps.append(y)):
        yield maps


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The outermost numbered parts that have parts of their own; the batch norms of a network that has no two."""
    blocks: list[nn.Module] = []
    _collect_blocks(network, blocks)
    return blocks if len(blocks) > 1 else _of_kind(network, (nn.BatchNorm2d,))


def _collect_blocks(module: nn.Module, blocks: list[nn.Module]) -> None:
    for name, child in module.named_children():
        runs = not isinstance(child, nn.ModuleList | nn.ModuleDict)
        if name.isdigit() and runs and any(child.children()):
            blocks.append(child)
        else:
            _collect_blocks(child, blocks)


def _of_kind(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kinds)]


@contextmanager
def _hooked(modules: list[nn.Module], record: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Hands `record` the input, as it was before the module wrote over it, and the output of each run of a module."""
    inputs: dict[nn.Module, Tensor] = {}

    def before(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[module] = arguments[0].detach().clone() if getattr(module, "inplace", False) else arguments[0]

    def after(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        record(inputs.pop(module), output)

    handles = [module.register_forward_pre_hook(before) for module in modules]
    handles += [module.register_forward_hook(after) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
