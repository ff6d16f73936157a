"""A model space of nni as a marked module: each mutable becomes the mark that means the same, in place."""

from collections.abc import Collection
from itertools import combinations, product
from typing import Any

from nni.mutable import Categorical, CategoricalMultiple, Mutable
from nni.nas.nn.pytorch import Cell, InputChoice, LayerChoice, ModelSpace, Repeat
from nni.nas.nn.pytorch.base import MutableModule, ParametrizedModule
from nni.nas.nn.pytorch.choice import ChosenInputs
from torch import nn

from search_spaces.errors import InvalidInputError
from search_spaces.marked.layers import can_share
from search_spaces.marked.marks import Builder, Choice, Repeated
from search_spaces.marked.number import Number
from search_spaces.space import Decision

# Attributes of nni's modules that are no part of a network.
_OF_NNI = ("trace_args", "trace_kwargs", "_mutables", "_frozen_context", "_label_scope")


def options(label: str, mutable: Any) -> dict[str, Any]:
    """Values of a mutable as nni has them, by their text: `3` for 3, `0+2` for inputs 0 and 2.

    Raises: InvalidInputError for a mutable without a list of values.
    """
    if isinstance(mutable, Categorical):
        return {"_".join(str(value).split()): value for value in mutable.values}
    if isinstance(mutable, CategoricalMultiple) and mutable.n_chosen is not None:
        chosen = combinations(mutable.values, mutable.n_chosen)
        return {"+".join(map(str, values)): list(values) for values in chosen}
    raise InvalidInputError(
        f"space.target: {label!r} is {mutable!r}, which has no list of values to choose from; known are nni.choice, "
        "LayerChoice, Repeat and an InputChoice of a fixed n_chosen"
    )


def check_kind(network: nn.Module) -> None:
    """Raises: InvalidInputError for what is no model space, and for a space of nni's cells."""
    name = type(network).__name__
    if not isinstance(network, ModelSpace):
        raise InvalidInputError(f"space.target: {name} is no ModelSpace of nni; a marked module takes space=module")
    for path, module in network.named_modules():
        if isinstance(module, Cell):
            raise InvalidInputError(
                f"space.target: {path} of {name} is a Cell of nni, whose weights do not survive its own freezing; "
                "allowed: spaces of LayerChoice, Repeat, InputChoice and searched layers. For searched cells choose "
                "space=darts or space=nasbench201"
            )


def marked(space: nn.Module, builder: Builder, labels: Collection[str]) -> nn.Module:
    """The marked form of a model space with these labels, made in place; `builder` collects its decisions.

    Raises: InvalidInputError, with all mutables that have no such form.
    """
    conversion = Conversion(builder)
    network = conversion.convert(space)
    lost = sorted(set(labels) - set(builder.decisions)) if builder.choices is None else []
    if lost and not conversion.problems:
        conversion.problems.append(f"no layer reads {', '.join(lost)}")
    if conversion.problems:
        raise InvalidInputError(
            f"space.target: {type(space).__name__} has what this cannot read:\n  "
            + "\n  ".join(dict.fromkeys(conversion.problems))
            + "\nwrite it of LayerChoice, Repeat, InputChoice, and of MutableConv2d, MutableBatchNorm2d and "
            "MutableLinear with searched sizes, or give a LayerChoice of several"
        )
    return network


class Conversion:
    """Of one model space. `problems` has, of each class, what has no marked form."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.problems: list[str] = []
        self._numbers: dict[int, Number] = {}  # by identity: layers share the expressions of their sizes

    def convert(self, module: nn.Module) -> nn.Module:
        """The marked form of a module; a module of no mutable stays, its children converted."""
        if isinstance(module, LayerChoice):
            candidates = [self.convert(module[name]) for name in module.names]
            return Choice(module.label, dict(zip(options(module.label, module.choice), candidates, strict=True)))
        if isinstance(module, InputChoice):
            return self._inputs(module)
        if isinstance(module, Repeat):
            blocks = [self.convert(block) for block in module.blocks]
            depth = self._number(module.depth_choice, module._dry_run_depth, f"the depth of Repeat {module.label}")
            return Repeated(depth, blocks, self.builder.selected)
        if isinstance(module, ParametrizedModule):
            self._set_numbers(module)
        elif isinstance(module, MutableModule):
            labels = sorted({label for mutable in module.mutables for label in mutable.simplify()})
            if labels or type(module).freeze is not MutableModule.freeze:
                read = ", ".join(labels) or "mutables"
                self.problems.append(f"{type(module).__name__}: code of its own reads {read}")
        for name, child in list(module.named_children()):
            setattr(module, name, self.convert(child))
        for name in _OF_NNI:
            vars(module).pop(name, None)
        return module

    def _inputs(self, module: InputChoice) -> nn.Module:
        if module.reduction == "none":
            self.problems.append(f"InputChoice {module.label}: reduction none; allowed: sum, mean, concat")
        chosen = options(module.label, module.choice)
        return Choice(module.label, {text: ChosenInputs(value, module.reduction) for text, value in chosen.items()})

    def _set_numbers(self, module: ParametrizedModule) -> None:
        """Makes a layer of nni the layer of torch, its searched sizes numbers."""
        searched = {name: value for name, value in module.trace_kwargs.items() if isinstance(value, Mutable)}
        kind, name = module._bound_type, type(module).__name__
        if searched and (kind is None or not can_share(kind)):
            self.problems.append(f"{name}: searched {', '.join(searched)}, and no weights that sizes share")
            return
        for argument, value in searched.items():
            built = getattr(module, argument)
            pair = isinstance(built, tuple)
            if not pair and not isinstance(built, int):
                self.problems.append(f"{name}: searched {argument}, which is no size")
                continue
            number = self._number(value, built[0] if pair else built, f"{name} of {argument} {value!r}")
            setattr(module, argument, (number, number) if pair else number)
        if kind is not None:
            module.__class__ = kind

    def _number(self, value: Any, built: Any, where: str) -> int:
        """A size as a searched number in a supernet, and as `built` in one network."""
        if self.builder.choices is not None or not isinstance(value, Mutable):
            return int(built)
        if id(value) not in self._numbers:
            found = self._searched(value, where)
            if found is None:
                return int(built)
            self._numbers[id(value)] = found
        number = self._numbers[id(value)]
        if int(number) != built:
            self.problems.append(f"{where}: {built} where its parts are largest, {int(number)} elsewhere")
        return number

    def _searched(self, value: Any, where: str) -> Number | None:
        """None for one whose values are no sizes, which is a problem."""
        decisions = tuple(Decision(label, tuple(leaf.values)) for label, leaf in value.simplify().items())
        keys = list(product(*(range(len(decision.choices)) for decision in decisions)))
        samples = [{d.name: d.choices[k] for d, k in zip(decisions, key, strict=True)} for key in keys]
        sizes = [value.freeze(sample) for sample in samples]
        parts = [part for decision in decisions for part in decision.choices]
        if any(type(size) is not int or size < 0 for size in sizes) or any(isinstance(part, bool) for part in parts):
            self.problems.append(f"{where}: {sorted(set(map(str, sizes)))}; allowed: whole numbers, 0 or more")
            return None
        for decision in decisions:
            self.builder.declare(decision)
        return Number(decisions, dict(zip(keys, sizes, strict=True)))
