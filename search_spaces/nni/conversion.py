"""A model space of nni as a marked module: each mutable becomes the mark that means the same, in place."""

from itertools import combinations, product
from typing import Any

from nni.mutable import Categorical, CategoricalMultiple, Mutable
from nni.nas.nn.pytorch import Cell, InputChoice, LayerChoice, Repeat
from nni.nas.nn.pytorch.base import MutableModule, ParametrizedModule
from nni.nas.nn.pytorch.choice import ChosenInputs
from torch import nn

from search_spaces.errors import InvalidInputError
from search_spaces.marked.layers import can_share
from search_spaces.marked.marks import Builder, Choice, Repeated
from search_spaces.marked.number import Number
from search_spaces.space import Decision

_OF_NNI = (
    "trace_args",
    "trace_kwargs",
    "_mutables",
    "_frozen_context",
    "_label_scope",
)  # no part of a network
_PAIRS = ("kernel_size", "stride", "padding", "dilation")


def options(label: str, mutable: Any) -> dict[str, Any]:
    """Values of a mutable as nni has them, by their text: `3` for 3, `0+2` for inputs 0 and 2.

    Raises: InvalidInputError for a mutable without a list of values.
    """
    if isinstance(mutable, Categorical):
        return {str(value): value for value in mutable.values}
    if isinstance(mutable, CategoricalMultiple) and mutable.n_chosen is not None:
        chosen = combinations(mutable.values, mutable.n_chosen)
        return {"+".join(map(str, values)): list(values) for values in chosen}
    raise InvalidInputError(
        f"space.target: {label!r} is {mutable!r}, which has no list of values to choose from; known are nni.choice, "
        "LayerChoice, Repeat and an InputChoice of a fixed n_chosen"
    )


def refuse_cells(network: nn.Module) -> None:
    """Raises: InvalidInputError for a space of nni's cells."""
    for path, module in network.named_modules():
        if isinstance(module, Cell):
            raise InvalidInputError(
                f"space.target: {path} of {type(network).__name__} is a Cell of nni, whose weights do not survive its "
                "own freezing; allowed: spaces of LayerChoice, Repeat, InputChoice and searched layers. For searched "
                "cells choose space=darts or space=nasbench201"
            )


class Conversion:
    """Of one model space; `builder` collects its decisions."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self._numbers: dict[int, Number] = {}  # by identity: layers share the expressions of their sizes

    def convert(self, module: nn.Module, path: str = "") -> nn.Module:
        """The marked form of a module; a module of no mutable stays, its children converted.

        Raises: InvalidInputError for a mutable that has no such form.
        """
        if isinstance(module, LayerChoice):
            made = {str(name): self.convert(module[name], f"{path}.{name}") for name in module.names}
            return Choice(module.label, made)
        if isinstance(module, InputChoice):
            return self._inputs(module, path)
        if isinstance(module, Repeat):
            blocks = [self.convert(block, f"{path}.{place}") for place, block in enumerate(module.blocks)]
            depth = self._number(module.depth_choice, module._dry_run_depth, path)
            return Repeated(depth, blocks, self.builder.selected)
        if isinstance(module, ParametrizedModule):
            self._set_numbers(module, path)
        elif isinstance(module, MutableModule) and module.mutables:
            raise InvalidInputError(
                f"space.target: {path or 'the network'}, a {type(module).__name__}, uses "
                f"{', '.join(map(repr, module.mutables))} in code of its own, and how its weights are shared is not "
                "known; write it of LayerChoice, Repeat, InputChoice and searched MutableConv2d, MutableBatchNorm2d "
                "and MutableLinear"
            )
        for name, child in list(module.named_children()):
            setattr(module, name, self.convert(child, f"{path}.{name}" if path else name))
        for name in _OF_NNI:
            vars(module).pop(name, None)
        return module

    def _inputs(self, module: InputChoice, path: str) -> nn.Module:
        if module.reduction == "none":
            raise InvalidInputError(f"space.target: {path}: an InputChoice needs a reduction: sum, mean or concat")
        chosen = options(module.label, module.choice)
        return Choice(module.label, {text: ChosenInputs(value, module.reduction) for text, value in chosen.items()})

    def _set_numbers(self, module: ParametrizedModule, path: str) -> None:
        """Makes a layer of nni the layer of torch, its searched sizes numbers."""
        searched = {name: value for name, value in module.trace_kwargs.items() if isinstance(value, Mutable)}
        kind = module._bound_type
        if searched and (kind is None or not can_share(kind)):
            names = ", ".join(f"{name}={value!r}" for name, value in searched.items())
            raise InvalidInputError(
                f"space.target: {path} is a {type(module).__name__} with the searched {names}, which shares no "
                "weights; MutableConv2d, MutableBatchNorm2d and MutableLinear do. Give a LayerChoice of several"
            )
        for name, value in searched.items():
            pair = name in _PAIRS
            before = getattr(module, name)
            number = self._number(value, before[0] if pair else before, f"{path}: {name}")
            setattr(module, name, (number, number) if pair else number)
        if kind is not None:
            module.__class__ = kind

    def _number(self, value: Any, built: Any, where: str) -> int:
        """A size as a searched number in a supernet, and as `built` in one network."""
        if self.builder.choices is not None or not isinstance(value, Mutable):
            return int(built)
        if id(value) not in self._numbers:
            self._numbers[id(value)] = self._searched(value, where)
        number = self._numbers[id(value)]
        if int(number) != built:
            raise InvalidInputError(
                f"space.target: {where}={value!r} is not largest where all its values are; write it so that it grows "
                "with each of them"
            )
        return number

    def _searched(self, value: Any, where: str) -> Number:
        leaves = value.simplify()
        decisions = tuple(Decision(label, tuple(leaf.values)) for label, leaf in leaves.items())
        for decision in decisions:
            self.builder.declare(decision)
        values = {}
        for key in product(*(range(len(decision.choices)) for decision in decisions)):
            sample = {d.name: d.choices[k] for d, k in zip(decisions, key, strict=True)}
            values[key] = value.freeze(sample)
        if any(type(size) is not int or size < 0 for size in values.values()):
            raise InvalidInputError(
                f"space.target: {where}={value!r} must be a whole number, 0 or more; got {sorted(set(values.values()))}"
            )
        return Number(decisions, values)
