"""Whether every choice of a space changes what a network computes at the size of image that it is trained at."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from search_spaces.operation import Operation
from search_spaces.space import Choice, SearchSpace, Selection

SAME = 1e-9  # of the largest gradient, in double precision


@dataclass(frozen=True)
class IdleChoice:
    """Two choices of a decision that train as one: kernels, say, that reach beyond the map on all its sides."""

    decision: str
    choices: tuple[Choice, Choice]


def idle_choices(space: SearchSpace, image_shape: tuple[int, int, int]) -> list[IdleChoice]:
    """Neighbouring choices that differ neither in function at images (C, H, W) nor in cost but for the kernel's taps.

    Found by the gradient of one mixed pass of a supernet: two choices that compute the same have the same. Known after
    the first time, for the jobs of a sweep.
    """
    key = (type(space), json.dumps(space.spec(), sort_keys=True), image_shape)
    if key not in _known:
        _known[key] = _find_idle(space, image_shape)
    return _known[key]


_known: dict[tuple[type[SearchSpace], str, tuple[int, int, int]], list[IdleChoice]] = {}


def _find_idle(space: SearchSpace, image_shape: tuple[int, int, int]) -> list[IdleChoice]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        supernet = space.supernet().double().requires_grad_(False)
        for module in supernet.modules():  # a block may start as the identity
            if isinstance(module, nn.BatchNorm2d) and module.weight is not None:
                nn.init.uniform_(module.weight, 0.5, 1.5)
        mixed: dict[str, torch.Tensor] = {
            d.name: torch.rand(len(d.choices), dtype=torch.float64).softmax(0).requires_grad_()
            for d in space.decisions
            if d.name not in space.hard_decisions
        }
        largest = {d.name: len(d.choices) - 1 for d in space.decisions}
        selection: Selection = {**largest, **mixed}
        supernet(torch.randn(2, *image_shape, dtype=torch.float64), selection).square().sum().backward()
    found = []
    choices = {d.name: d.choices[-1] for d in space.decisions}
    for decision in (d for d in space.decisions if d.name in mixed):
        gradient = mixed[decision.name].grad
        for k in range(len(decision.choices) - 1):
            if gradient is not None and abs(gradient[k] - gradient[k + 1]) > SAME * gradient.abs().max():
                continue
            pair = decision.choices[k], decision.choices[k + 1]
            one, other = (_without_taps(space, {**choices, decision.name: choice}) for choice in pair)
            if one == other:
                found.append(IdleChoice(decision.name, pair))
    return found


def _without_taps(space: SearchSpace, choices: Mapping[str, Choice]) -> list[Operation]:
    return [replace(operation, kernel=1, kernel_width=None) for operation in space.operations(choices)]
