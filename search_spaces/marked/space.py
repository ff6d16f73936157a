"""A space written as one module of torch with marked parts: decisions, costs and networks come from building it."""

import json
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from search_spaces.bounds import refuse, wrong_number
from search_spaces.errors import InvalidInputError
from search_spaces.marked.layers import numbers_of
from search_spaces.marked.marks import Choice as Alternatives
from search_spaces.marked.marks import Repeated, building
from search_spaces.marked.number import Number
from search_spaces.marked.sites import Operations, find_sites
from search_spaces.operation_kinds import map_shape
from search_spaces.space import Choice, Decision, SearchSpace, Segment, Site, Supernet, one_segment
from search_spaces.tensor_spec import TensorSpec, zero_inputs
from search_spaces.tracing import calls_of, norms_to_fold, run_as_declared

# Of spaces that were met: a command makes the same one several times, and to find its sites may take seconds.
_SITES: dict[tuple[type[SearchSpace], str], tuple[Site, ...]] = {}
Guard = tuple[str, frozenset[Choice]]  # a decision, and the choices with which a module is in the network


@dataclass(frozen=True)
class Use:
    """Where a decision counts, or none (""): the path of a module, which is in the network if its guards hold."""

    path: str
    decision: str
    guards: tuple[Guard, ...]


class MarkedSpace(SearchSpace):
    """Subclasses set `name`, `inputs` and `num_classes`, and give `spec` and `build`."""

    @classmethod
    def filled(cls, arguments: Mapping[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
        """With the data's `image_size` where none is given."""
        left_open = "image_size" in arguments and arguments["image_size"] is None
        return {**arguments, "image_size": list(image_size)} if left_open else dict(arguments)

    def takes_images(
        self, image_size: int | Sequence[int], *, channels: int, num_classes: int, problems: Iterable[str] = ()
    ) -> None:
        """Sets what every space of images has. Raises: InvalidInputError, with further `problems` if there are any."""
        sides = [image_size] * 2 if isinstance(image_size, int) else list(image_size)
        found = [*problems, *wrong_number("channels", channels), *wrong_number("num_classes", num_classes, least=2)]
        found += [problem for side in sides for problem in wrong_number("image_size", side)]
        if len(sides) != 2:
            found.append(f"space.image_size: got {sides}, allowed: pixels of a side, or height and width")
        refuse(found)
        self.image_size, self.channels, self.num_classes = sides, channels, num_classes
        self.inputs = {"image": TensorSpec((channels, *sides))}

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, its searched parts marked by `search_spaces.marked.marks`."""

    def supernet(self) -> Supernet:
        from search_spaces.marked.supernet import MarkedSupernet

        return MarkedSupernet(self)

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        self.check(choices)
        with building(choices):
            return self.build()

    def outline(self, choices: Mapping[str, Choice]) -> nn.Module:
        """The network of these choices on the meta device: layers and sizes, but no numbers."""
        with torch.device("meta"), building(choices):
            return self.build()

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:  # type: ignore[override]
        return self._whole[0]

    @cached_property
    def sites(self) -> tuple[Site, ...]:  # type: ignore[override]
        key = (type(self), json.dumps(self.spec(), sort_keys=True))
        if key not in _SITES:
            _SITES[key] = find_sites(self.decisions, self.operations_at, known=self._whole[2])
        return _SITES[key]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:  # type: ignore[override]
        """One, of the whole network; none where it has several inputs."""
        shapes = [map_shape(spec.shape) for spec in self.inputs.values()]
        return one_segment(shapes[0], self.sites) if len(shapes) == 1 else ()

    def notation(self, choices: Mapping[str, Choice]) -> str:
        used = self.used(choices)
        return " ".join(f"{d.name}={choices[d.name]}" for d in self.decisions if d.name in used)

    def identity(self, choices: Mapping[str, Choice]) -> Hashable:
        """The choices of what is in the network: those of parts that others leave out change nothing."""
        used = self.used(choices)
        return tuple(choices[d.name] if d.name in used else None for d in self.decisions)

    def features(self, choices: Mapping[str, Choice]) -> list[float]:
        """One number for each choice, 0 for all of a part that is left out."""
        used = self.used(choices)
        return [float(d.name in used and choices[d.name] == c) for d in self.decisions for c in d.choices]

    def used(self, choices: Mapping[str, Choice]) -> set[str]:
        """The decisions about parts that are in the network."""
        met = [use for use in self._whole[1] if all(choices[name] in kept for name, kept in use.guards)]
        return {use.decision for use in met} - {""}

    def draw(self, choices: Mapping[str, Choice]) -> str:
        from search_spaces.marked.drawing import draw_layers

        self.check(choices)
        return draw_layers(self, choices)

    @cached_property
    def _whole(self) -> tuple[tuple[Decision, ...], tuple[Use, ...], dict[str, set[str]]]:
        """Decisions, where each of them counts, and by path of a layer those that its cost depends on for sure."""
        with torch.device("meta"), building() as builder:
            network = self.build()
        if not builder.decisions:
            raise InvalidInputError(f"space {self.name}: nothing in its network is marked as searched")
        uses = list(_uses("", network, ()))
        unused = sorted(set(builder.decisions) - {use.decision for use in uses})
        if unused:
            raise InvalidInputError(f"space {self.name}: no layer uses the searched {', '.join(unused)}")
        certain: dict[str, set[str]] = {}
        for use in uses:
            certain.setdefault(use.path, set()).update(name for name, _ in use.guards)
            certain[use.path] |= {use.decision} - {""}
        return tuple(builder.decisions.values()), tuple(uses), certain

    def operations_at(self, choices: Mapping[str, Choice]) -> Operations:
        network = self.outline(choices).eval()
        with torch.device("meta"):
            run_as_declared(network)
            for parent, conv, norm in norms_to_fold(network):
                layer: Any = getattr(parent, conv)
                layer.bias = nn.Parameter(
                    torch.empty(layer.out_channels, dtype=layer.weight.dtype)
                )  # what the norm becomes
                setattr(parent, norm, nn.Identity())
            given = zero_inputs(self.inputs_of(choices))
            inputs = [x.to(torch.get_default_dtype()) if x.is_floating_point() else x for x in given]
        try:
            calls = calls_of(network, inputs)
        except RuntimeError as error:
            shapes = [tuple(x.shape) for x in inputs]
            raise InvalidInputError(
                f"{self.notation(choices)}: the network cannot run on {shapes}: {error}; where it takes other images, "
                "say so by data.channels and data.image_size"
            ) from error
        found: dict[str, list[Any]] = {}
        for call in calls:
            found.setdefault(call.path, []).append(call.operation)
        return {path: tuple(operations) for path, operations in found.items()}


def _uses(path: str, module: nn.Module, guards: tuple[Guard, ...]) -> Iterator[Use]:
    """Where decisions count in a module, which is in the network if the guards hold."""
    names = {d.name for number in numbers_of(module) for d in number.decisions}
    if isinstance(module, Alternatives):
        names.add(module.decision.name)
    yield from (Use(path, name, guards) for name in sorted(names) or [""])
    for name, child in module.named_children():
        inner = guards
        if isinstance(module, Alternatives):
            inner = (*guards, (module.decision.name, frozenset({name})))
        elif isinstance(module, Repeated) and isinstance(module.depth, Number):
            inner = (*guards, *_guards(module.depth, int(name)))
        yield from _uses(f"{path}.{name}" if path else name, child, inner)


def _guards(depth: Number, block: int) -> Iterator[Guard]:
    """The choices with which a depth may reach a block, of decisions that others of their choices exclude it with."""
    for place, decision in enumerate(depth.decisions):
        reaching = {key[place] for key, value in depth.values.items() if value > block}
        if len(reaching) < len(decision.choices):
            yield decision.name, frozenset(decision.choices[k] for k in reaching)
