"""The abstraction every space is written in: decisions, the sites where operations run, and the networks built."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from search_spaces.blocks import recalibrate
from search_spaces.errors import InvalidInputError, UnknownDecisionError
from search_spaces.operation import Operation, Shape
from search_spaces.rules import Rule, RuleMatrix
from search_spaces.svg import draw_table
from search_spaces.tensor_spec import TensorSpec

Choice = int | float | str
# One entry per decision: the index of the choice taken (hard, the cheap path), or a vector of weights over its choices.
Selection = Mapping[str, int | Tensor]


def image_shape(inputs: Mapping[str, TensorSpec]) -> Shape:
    """(channels, height, width) of the one input. Raises: InvalidInputError unless it is an image."""
    shapes = [spec.shape for spec in inputs.values()]
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise InvalidInputError(f"this needs networks that take one image (channels, height, width); got {shapes}")
    channels, height, width = shapes[0]
    return channels, height, width


@dataclass(frozen=True, slots=True)
class Decision:
    """A finite choice that the search makes, its choices in order of growing cost where they have one."""

    name: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if not self.choices or len(set(self.choices)) != len(self.choices):
            raise InvalidInputError(
                f"decision {self.name}: choices must be distinct and at least one, got {self.choices}"
            )

    def index(self, choice: Choice) -> int:
        """Position of `choice`. Raises: UnknownDecisionError if the decision lacks it."""
        # Python takes True for 1 and 3.0 for 3; layers do not.
        if choice not in self.choices or isinstance(choice, bool) or str(choice) not in map(str, self.choices):
            raise UnknownDecisionError(f"decision {self.name} has no choice {choice!r}; allowed: {list(self.choices)}")
        return self.choices.index(choice)


@dataclass(frozen=True, slots=True)
class Site:
    """A place where operations run, as a function of the decisions named in `scope`: values in, operations out."""

    name: str
    scope: tuple[str, ...]
    operations: Callable[[Mapping[str, Any]], Sequence[Operation]]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the chain that a device of several units places as a whole: its sites in the order they run.

    One tensor alone enters it, of the shape that `input_shape` gives for the decisions in `scope`.
    """

    name: str
    scope: tuple[str, ...]
    input_shape: Callable[[Mapping[str, Any]], Shape]
    sites: tuple[Site, ...]


def one_segment(input_shape: Shape, sites: Sequence[Site]) -> tuple[Segment, ...]:
    """The segments of a chain that a device of several units places as a whole."""
    return (Segment("network", (), lambda _: input_shape, tuple(sites)),)


class Supernet(nn.Module, ABC):
    """All networks of a space in one set of shared weights. Mixed passes run the choices of `active` only."""

    def __init__(self, space: "SearchSpace") -> None:
        super().__init__()
        self._active = {d.name: tuple(range(len(d.choices))) for d in space.decisions}

    @property
    def active(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the choices that mixed passes run, by decision: all of them until `restrict`."""
        return self._active

    @property
    def layers(self) -> Sequence[nn.Module]:
        """Modules that share the decisions of a cell, each called with the selection as second argument; or none."""
        return ()

    @property
    def edge_operations(self) -> Mapping[str, nn.Module]:
        """The operations of all edges in all layers, by name; empty where choices share their weights."""
        return {}

    def restrict(self, active: Mapping[str, Sequence[int]]) -> None:
        """Mixed passes run these choices (indices by decision) from now on. Decisions that are not named stay.

        Raises: UnknownDecisionError for a decision that the space lacks; InvalidInputError for one left without choice.
        """
        unknown, empty = sorted(set(active) - set(self._active)), [name for name in active if not len(active[name])]
        if unknown:
            raise UnknownDecisionError(f"cannot restrict decisions that the space lacks: {unknown}")
        if empty:
            raise InvalidInputError(f"decisions keep at least one choice; got none for {empty}")
        self._active |= {name: tuple(int(k) for k in indices) for name, indices in active.items()}

    def recalibrate(self, selection: Selection, batches: Iterable[Any]) -> None:
        """Gives batch norms the statistics of `batches` as the network of `selection` sees them; ends in eval mode."""
        recalibrate(Path(self, selection), batches)

    @abstractmethod
    def forward(self, x: Any, selection: Selection) -> Tensor:
        """Output (B, classes) of a tensor, or of a tuple if the space has several inputs.

        A decision given by index runs that choice alone, sliced.
        """

    @abstractmethod
    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        """The stand-alone network of these choices with its share of the weights copied, nothing unused in it."""


class Path(nn.Module):
    """One network of a supernet, run inside it: what `extract` would give, without copying its weights."""

    def __init__(self, supernet: Supernet, selection: Selection) -> None:
        super().__init__()
        self.supernet, self.selection = supernet, selection

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.supernet(inputs[0] if len(inputs) == 1 else inputs, self.selection)


class SearchSpace(ABC):
    """Decisions, sites and networks of one family. Subclasses set `name` and are rebuilt from `spec()`.

    A space costs its networks at their deployed `inputs`; networks of images train at any image size. Networks take
    their inputs one after the other, in the order of `inputs`; a supernet takes the one, or a tuple of several.
    """

    name: str
    decisions: tuple[Decision, ...]
    sites: tuple[Site, ...]
    # The same operations as those of `sites`, in the order they run; the last segment ends in `num_classes` numbers.
    # None in a space whose networks are no chain of parts: it cannot be placed on several units.
    segments: tuple[Segment, ...] = ()
    inputs: Mapping[str, TensorSpec]
    num_classes: int
    # Decisions whose choice cannot be mixed (an image size): a selection gives them by index, or by a one-hot vector.
    hard_decisions: frozenset[str] = frozenset()
    # Conditions between choices that every network obeys.
    rules: tuple[Rule, ...] = ()
    # Decisions that each choose one operation of the same set by its name, as the edges of a cell do.
    operation_decisions: frozenset[str] = frozenset()

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Keyword arguments, as plain JSON values, that build this space again."""

    @classmethod
    def filled(cls, arguments: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        """Keyword arguments with those that a user left open, as null, as images (height, width) ask for."""
        return dict(arguments)

    @abstractmethod
    def supernet(self) -> Supernet: ...

    @property
    def searched(self) -> "SearchSpace":
        """The space of the same decisions whose networks a search trains: smaller ones where a space has them."""
        return self

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        """The stand-alone network of these choices, freshly initialised: what `Supernet.extract` fills."""
        return self.supernet().extract(choices)

    def inputs_of(self, choices: Mapping[str, Choice]) -> Mapping[str, TensorSpec]:
        """What this network takes when deployed."""
        return self.inputs

    def input_shape(self, choices: Mapping[str, Choice]) -> Shape:
        """(channels, height, width) of the image that this network takes when deployed."""
        return image_shape(self.inputs_of(choices))

    @property
    def deploy_shape(self) -> Shape:
        """(channels, height, width) of the largest image that a network takes when deployed."""
        return image_shape(self.inputs)

    def only(self, choices: Mapping[str, Choice]) -> Self:
        """The space of this one network. Raises: as `check`."""
        self.check(choices)
        alone = copy.copy(self)
        vars(alone).pop("rule_matrix", None)
        alone.decisions = tuple(Decision(d.name, (choices[d.name],)) for d in self.decisions)
        alone.rules = ()
        return alone

    def decision(self, name: str) -> Decision:
        """Raises: UnknownDecisionError if there is none of this name."""
        for decision in self.decisions:
            if decision.name == name:
                return decision
        raise UnknownDecisionError(f"space {self.name} has no decision {name!r}")

    # What people read and tests build; a space overrides what it knows better.

    @classmethod
    def small(cls, **changes: Any) -> Self:
        """A version for tests, with few channels, pixels and classes; `changes` are keyword arguments of the space."""
        return cls(**changes)

    def notation(self, choices: Mapping[str, Choice]) -> str:
        """The network in one line; as the field writes it, where it has a way to."""
        return " ".join(f"{decision.name}={choices[decision.name]}" for decision in self.decisions)

    def identity(self, choices: Mapping[str, Choice]) -> Hashable:
        """What is the same for choices that compute the same function: here all choices."""
        return tuple(choices[decision.name] for decision in self.decisions)

    def features(self, choices: Mapping[str, Choice]) -> list[float]:
        """Numbers of a network that a linear model of its quality reads: here one for each choice, 0 or 1."""
        return [float(choices[decision.name] == choice) for decision in self.decisions for choice in decision.choices]

    def read_notation(self, notation: str) -> dict[str, Choice]:
        """The choices that `notation` names; for text that is none it may raise any ValueError or LookupError."""
        by_text = {f"{d.name}={choice}": (d.name, choice) for d in self.decisions for choice in d.choices}
        return dict(by_text[word] for word in notation.split(" ") if word in by_text)

    def parse(self, notation: str) -> dict[str, Choice]:
        """The network that `notation` writes: of a decision that it does not use, the first choice.

        Raises: InvalidInputError if no network of the space is written so.
        """
        first = self.choices(self.rule_matrix.best(np.zeros(self.num_choices)))
        refusal = f"{notation!r} is no network of the space {self.name}"
        example = f"one is written {self.notation(first)!r}"
        try:
            choices = first | self.read_notation(notation)
            self.check(choices)
        except (ValueError, LookupError) as error:
            why = f"; {error}" if isinstance(error, InvalidInputError) else ""
            raise InvalidInputError(f"{refusal}{why}; {example}") from error
        if self.notation(choices) != notation:
            raise InvalidInputError(f"{refusal}; {example}")
        return choices

    def draw(self, choices: Mapping[str, Choice]) -> str:
        """SVG text of the network, in words too for whoever cannot see it: here a table of its choices.

        Raises: UnknownDecisionError if the choices are not of this space.
        """
        self.check(choices)
        return draw_table(self.name, {name: str(choice) for name, choice in choices.items()})

    @property
    def num_networks(self) -> int:
        """Combinations of choices, rules aside."""
        return prod(len(decision.choices) for decision in self.decisions)

    @property
    def num_choices(self) -> int:
        return sum(len(decision.choices) for decision in self.decisions)

    @cached_property
    def rule_matrix(self) -> RuleMatrix:
        """The rules as rows over all choices."""
        return RuleMatrix(self.decisions, self.rules)

    def check(self, choices: Mapping[str, Choice]) -> None:
        """Raises: UnknownDecisionError unless `choices` gives every decision one of its choices, and nothing else;

        InvalidInputError if they break a rule.
        """
        missing = [d.name for d in self.decisions if d.name not in choices]
        extra = sorted(set(choices) - {d.name for d in self.decisions})
        if missing or extra:
            raise UnknownDecisionError(
                f"space {self.name}: decisions missing {missing}, unknown {extra}; "
                f"give each of its {len(self.decisions)} decisions"
            )
        for decision in self.decisions:
            decision.index(choices[decision.name])
        broken = [rule.name for rule in self.rules if not rule.holds(choices)]
        if broken:
            raise InvalidInputError(f"space {self.name}: the choices break its rules {', '.join(broken)}")

    def indices(self, choices: Mapping[str, Choice]) -> tuple[int, ...]:
        """Positions of `choices`, in the order of `decisions`."""
        self.check(choices)
        return tuple(decision.index(choices[decision.name]) for decision in self.decisions)

    def choices(self, indices: Sequence[int]) -> dict[str, Choice]:
        """The inverse of `indices`."""
        return {d.name: d.choices[int(i)] for d, i in zip(self.decisions, indices, strict=True)}

    def selection(self, indices: Sequence[int]) -> dict[str, int]:
        """The hard selection of one network."""
        return {d.name: int(i) for d, i in zip(self.decisions, indices, strict=True)}

    def operations(self, choices: Mapping[str, Choice]) -> list[Operation]:
        """Every operation of one network at the deployment shape, site by site."""
        self.check(choices)
        return [op for site in self.sites for op in site.operations({name: choices[name] for name in site.scope})]
