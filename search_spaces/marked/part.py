"""One network of a supernet of marked parts, copied out of it."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from search_spaces.marked.layers import as_built, sliced, tensor_sizes
from search_spaces.marked.marks import Choice as Alternatives
from search_spaces.marked.marks import Repeated
from search_spaces.marked.number import Number
from search_spaces.marked.selected import Selected
from search_spaces.space import Choice


def part_of(network: nn.Module, choices: Mapping[str, Choice]) -> nn.Module:
    """A copy of what the network of `choices` has of `network`: its modules, at the same paths, and its weights.

    Of a layer with searched sizes it has the leading part of each dimension, and the centre of kernels.
    """
    part = copy.copy(network)
    for name, value in vars(network).items():
        if isinstance(value, Number | tuple | list):
            vars(part)[name] = _plain(value, choices)
    part._modules = {
        name: child if child is None else part_of(child, choices) for name, child in _kept(network, choices).items()
    }
    as_built(part)
    if isinstance(part, Alternatives | Repeated):
        part.selected = Selected()
    if isinstance(part, Alternatives):
        part.kept = list(part._modules)
    sizes = tensor_sizes(part) if type(part) is not type(network) or vars(part) != vars(network) else {}
    part._parameters = {
        name: p if p is None else nn.Parameter(sliced(p.data, sizes.get(name)).clone(), requires_grad=p.requires_grad)
        for name, p in network._parameters.items()
    }
    part._buffers = {
        name: b if b is None else sliced(b, sizes.get(name)).clone() for name, b in network._buffers.items()
    }
    return part


def _plain(value: Any, choices: Mapping[str, Choice]) -> Any:
    """A searched number as that of one network, also within a tuple or a list."""
    if isinstance(value, Number):
        return value.values[tuple(d.index(choices[d.name]) for d in value.decisions)]
    if type(value) in (tuple, list):
        return type(value)(_plain(each, choices) for each in value)
    return value


def _kept(network: nn.Module, choices: Mapping[str, Choice]) -> Mapping[str, nn.Module | None]:
    """Children of a module that are in the network."""
    if isinstance(network, Alternatives):
        chosen = str(choices[network.decision.name])
        return {chosen: network._modules[chosen]}
    if isinstance(network, Repeated):
        depth = _plain(network.depth, choices)
        return dict(list(network._modules.items())[:depth]) or {"0": nn.Identity()}
    return network._modules
