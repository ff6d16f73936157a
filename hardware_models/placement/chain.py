"""A network as a device of several units runs it: its operations one after the other, and what moves between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from hardware_models.budgets.factors import SUMMED
from hardware_models.metrics import PEAK_METRICS
from hardware_models.profile import METRICS, HardwareProfile
from search_spaces.operation import Operation
from search_spaces.space import Choice, SearchSpace


@dataclass(frozen=True)
class Chain:
    """Operations in the order they run, and how many elements move where a unit takes over.

    `moving` has one number before each operation and one at the end: it starts with the network's input and ends with
    its output.
    """

    operations: tuple[Operation, ...]
    moving: tuple[int, ...]


def network_chain(space: SearchSpace, choices: Mapping[str, Choice]) -> tuple[Chain, tuple[str, ...]]:
    """The chain of one network at the deployment shape, and the segment of each operation.

    One tensor enters a segment, whatever copies of it its first operations make for themselves.
    """
    operations: list[Operation] = []
    moving: list[int] = []
    segments: list[str] = []
    for segment in space.segments:
        own = [op for site in segment.sites for op in site.operations({name: choices[name] for name in site.scope})]
        channels, height, width = segment.input_shape({name: choices[name] for name in segment.scope})
        entering = [channels * height * width] * bool(own)
        moving += entering + [operation.in_elements + operation.held for operation in own[1:]]
        operations += own
        segments += [segment.name] * len(own)
    return Chain(tuple(operations), (*moving, space.num_classes)), tuple(segments)


def placed_costs(profile: HardwareProfile, chain: Chain, units: Sequence[str]) -> dict[str, float]:
    """Costs of a chain by metric with each operation on the unit given; memory is that of the device's own units."""
    prices = [profile.price(op, unit=unit) for op, unit in zip(chain.operations, units, strict=True)]
    moves = transfers_of(profile, chain, units)
    sums = {column: sum(price[column] for price in prices) for column in SUMMED}
    sums["latency_ms"] += sum(move["latency_ms"] for move in moves)
    activation_mb = max(part["activation_mb"] for part in (*prices, *moves))
    sums["peak_memory_mb"] = sums.pop("weight_mb") + activation_mb
    sums["sram_kb"] = activation_mb * PEAK_METRICS["sram_kb"]
    return {metric: sums[metric] for metric in METRICS}


def transfers_of(profile: HardwareProfile, chain: Chain, units: Sequence[str]) -> list[dict[str, float]]:
    """Costs of what moves before each operation and at the end, 0 where a unit follows itself."""
    assert profile.entry is not None  # checked with its units
    way = pairwise((profile.entry, *units, profile.entry))
    return [profile.transfer(moved, *step) for moved, step in zip(chain.moving, way, strict=True)]


def runs_of(chain: Chain, units: Sequence[str]) -> list[dict[str, Any]]:
    """The placement in order, operations by notation: a mapping of unit and operations for each stay on a unit."""
    pairs = zip(units, (operation.notation for operation in chain.operations), strict=True)
    return [
        {"unit": unit, "operations": [notation for _, notation in stay]}
        for unit, stay in groupby(pairs, key=lambda pair: pair[0])
    ]
