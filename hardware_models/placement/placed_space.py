"""A space whose networks are also placed: the unit that runs each segment is a decision like any other.

A search over it decides on networks and on where their parts run at once, with the same exact selection, pruning and
pools; the networks themselves are those of the space below.
"""

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hardware_models.profile import HardwareProfile
from search_spaces.errors import InvalidInputError
from search_spaces.space import Choice, Decision, SearchSpace, Selection, Supernet
from search_spaces.tensor_spec import TensorSpec


def unit_decision(device: str, segment: str) -> str:
    """Name of the decision which unit of `device` runs `segment`."""
    return f"{device}.{segment}.unit"


def placed_space(space: SearchSpace, devices: Sequence[HardwareProfile]) -> SearchSpace:
    """`space` with the placement of its segments on each device of several units; `space` itself if there is none."""
    return PlacedSpace(space, devices) if any(device.units for device in devices) else space


def placement_of(space: SearchSpace, device: HardwareProfile) -> tuple[int, ...]:
    """Positions in `space` of the decisions where `device` runs each segment; none for a device of one unit."""
    if not device.units:
        return ()
    names = {unit_decision(device.name, segment.name) for segment in space.segments}
    return tuple(k for k, decision in enumerate(space.decisions) if decision.name in names)


class PlacedSpace(SearchSpace):
    """The networks of `base`, each with a unit for every segment on every device of several units.

    Raises: InvalidInputError if `base` has no segments.
    """

    def __init__(self, base: SearchSpace, devices: Sequence[HardwareProfile]) -> None:
        if not base.segments:
            several = ", ".join(device.name for device in devices if device.units)
            raise InvalidInputError(
                f"space {base.name} has no segments to place on the units of {several}; choose a space that has, or "
                "devices of one latency model"
            )
        self.base, self.name = base, base.name
        placements = [
            Decision(unit_decision(device.name, segment.name), tuple(device.units))
            for device in devices
            if device.units
            for segment in base.segments
        ]
        self.decisions = (*base.decisions, *placements)
        self.sites, self.segments, self.rules = base.sites, base.segments, base.rules
        self.inputs, self.num_classes = base.inputs, base.num_classes
        self.hard_decisions, self.operation_decisions = base.hard_decisions, base.operation_decisions

    def spec(self) -> dict[str, Any]:
        return self.base.spec()

    def supernet(self) -> Supernet:
        return PlacedSupernet(self)

    @property
    def searched(self) -> SearchSpace:
        if self.base.searched is self.base:
            return self
        placed = copy.copy(self)
        placed.base = self.base.searched
        return placed

    def network(self, choices: Mapping[str, Choice]) -> nn.Module:
        return self.base.network(self.unplaced(choices))

    def inputs_of(self, choices: Mapping[str, Choice]) -> Mapping[str, TensorSpec]:
        return self.base.inputs_of(choices)

    def notation(self, choices: Mapping[str, Choice]) -> str:
        """That of the network, wherever it runs."""
        return self.base.notation(self.unplaced(choices))

    def identity(self, choices: Mapping[str, Choice]) -> Hashable:
        """That of the network, wherever it runs."""
        return self.base.identity(self.unplaced(choices))

    def features(self, choices: Mapping[str, Choice]) -> list[float]:
        """Those of the network, wherever it runs."""
        return self.base.features(self.unplaced(choices))

    def read_notation(self, notation: str) -> dict[str, Choice]:
        return self.base.read_notation(notation)

    def draw(self, choices: Mapping[str, Choice]) -> str:
        return self.base.draw(self.unplaced(choices))

    def unplaced(self, choices: Mapping[str, Choice]) -> dict[str, Choice]:
        """The choices that are the network's own."""
        return {decision.name: choices[decision.name] for decision in self.base.decisions}


class PlacedSupernet(Supernet):
    """The supernet of the space below; where a network runs changes nothing of what it computes."""

    def __init__(self, space: PlacedSpace) -> None:
        super().__init__(space)
        self.own = tuple(decision.name for decision in space.base.decisions)
        self.base = space.base.supernet()

    def restrict(self, active: Mapping[str, Sequence[int]]) -> None:
        super().restrict(active)
        self.base.restrict({name: indices for name, indices in active.items() if name in self.own})

    def forward(self, x: Any, selection: Selection) -> Tensor:
        return self.base(x, {name: selection[name] for name in self.own})

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        return self.base.extract({name: choices[name] for name in self.own})


def unplaced(space: SearchSpace, choices: Mapping[str, Choice]) -> tuple[SearchSpace, dict[str, Choice]]:
    """The space and the choices of the network by itself, without where it runs."""
    if isinstance(space, PlacedSpace):
        return space.base, space.unplaced(choices)
    return space, dict(choices)
