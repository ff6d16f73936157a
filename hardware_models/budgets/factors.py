"""The costs of a space's sites on several devices, as one small table per metric over the decisions of each site."""

# Shapes: D devices, M metrics, U units of one device.

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.placement.placed_space import unit_decision
from hardware_models.profile import HardwareProfile
from search_spaces.errors import UnknownDecisionError
from search_spaces.operation import Operation, Shape
from search_spaces.space import SearchSpace

# What a device's price of an operation adds to each metric; peak memory adds weights here and activations below.
SUMMED = ("latency_ms", "gflops", "params_m", "weight_mb")

Array = NDArray[np.float64]
# From the choices of a scope to costs: summed (D, M, ...) and peak (D, ...).
Costs = Callable[[Mapping[str, Any]], tuple[Array, Array]]


@dataclass(frozen=True)
class Factor:
    """Costs over the choices of the decisions in `scope` (positions): summed (D, M, *choices), peak (D, *choices)."""

    scope: tuple[int, ...]
    summed: Array
    peak: Array


def compile_factors(space: SearchSpace, devices: Sequence[HardwareProfile]) -> list[Factor]:
    """Factors whose sum, with the largest peak, is the cost of every network of `space` on each device.

    A device of one latency model has one factor per site. One of several units has its own: a factor per site and
    unit, and one for what passes between segments; `space` must then be the `placed_space` of these devices.
    """
    factors: list[Factor] = []
    if any(not device.units for device in devices):
        prices = _Prices([(device, None) for device in devices])
        factors += [_factor(space, site.name, site.scope, _site_costs(prices, site.operations)) for site in space.sites]
    for row, device in enumerate(devices):
        if device.units:
            factors += list(_unit_factors(space, device, row, num_devices=len(devices)))
    return merge(factors)


def merge(factors: Sequence[Factor]) -> list[Factor]:
    """The same costs in fewer factors: each is added into one whose scope contains its own."""
    merged: list[Factor] = []
    for factor in sorted(factors, key=lambda f: -len(f.scope)):
        for k, host in enumerate(merged):
            if set(factor.scope) <= set(host.scope):
                shape = tuple(host.peak.shape[1 + a] if d in factor.scope else 1 for a, d in enumerate(host.scope))
                summed = host.summed + factor.summed.reshape(*factor.summed.shape[:2], *shape)
                peak = np.maximum(host.peak, factor.peak.reshape(len(factor.peak), *shape))
                merged[k] = Factor(host.scope, summed, peak)
                break
        else:
            merged.append(factor)
    return merged


class _Prices:
    """Costs of lists of operations where they can run, each operation and each list priced once.

    A place is a device, or a unit of one; a device of several units, named without one, costs nothing.
    """

    def __init__(self, places: Sequence[tuple[HardwareProfile, str | None]]) -> None:
        self.places = places
        self._prices: dict[Operation, Array] = {}
        self._totals: dict[tuple[Operation, ...], tuple[Array, Array]] = {}

    def total(self, operations: tuple[Operation, ...]) -> tuple[Array, Array]:
        """Summed costs (places, M) and the largest activation (places,)."""
        if operations not in self._totals:
            for op in operations:
                if op not in self._prices:
                    self._prices[op] = np.array([self._priced(*place, op) for place in self.places])
            stacked = np.array([self._prices[op] for op in operations]).reshape(
                len(operations), len(self.places), len(SUMMED) + 1
            )
            self._totals[operations] = stacked[..., :-1].sum(axis=0), stacked[..., -1].max(axis=0, initial=0.0)
        return self._totals[operations]

    def _priced(self, device: HardwareProfile, unit: str | None, operation: Operation) -> list[float]:
        if device.units and unit is None:
            return [0.0] * (len(SUMMED) + 1)
        price = device.price(operation, unit=unit)
        return [price[column] for column in (*SUMMED, "activation_mb")]


def _site_costs(prices: _Prices, operations: Callable[[Mapping[str, Any]], Sequence[Operation]]) -> Costs:
    return lambda values: prices.total(tuple(operations(values)))


def _unit_factors(space: SearchSpace, device: HardwareProfile, row: int, *, num_devices: int) -> Iterator[Factor]:
    """The factors of one device of several units, zero in the rows of all others."""
    prices = _Prices([(device, unit) for unit in device.units])

    def alone(costs: Costs) -> Costs:
        def of_all(values: Mapping[str, Any]) -> tuple[Array, Array]:
            own = costs(values)
            summed, peak = (np.zeros((num_devices, *part.shape)) for part in own)
            summed[row], peak[row] = own
            return summed, peak

        return of_all

    def on_each_unit(operations: Callable[[Mapping[str, Any]], Sequence[Operation]]) -> Costs:
        def costs(values: Mapping[str, Any]) -> tuple[Array, Array]:
            summed_UM, peak_U = prices.total(tuple(operations(values)))
            return summed_UM.T, peak_U

        return costs

    for segment in space.segments:
        unit = unit_decision(device.name, segment.name)
        for site in segment.sites:
            yield _factor(space, site.name, site.scope, alone(on_each_unit(site.operations)), unit=unit)
    for scope, costs in _transfers(space, device):
        yield _factor(space, "transfer", scope, alone(costs))


def _transfers(space: SearchSpace, device: HardwareProfile) -> Iterator[tuple[tuple[str, ...], Costs]]:
    """Scope and costs of what passes into each segment, and of what the last one leaves."""
    assert device.entry is not None  # checked with its units
    units = [unit_decision(device.name, segment.name) for segment in space.segments]
    first, num_classes = space.segments[0], space.num_classes
    yield (*first.scope, units[0]), _transfer_costs(device, first.input_shape, device.entry, units[0])
    for segment, (source, target) in zip(space.segments[1:], pairwise(units), strict=True):
        yield (*segment.scope, source, target), _transfer_costs(device, segment.input_shape, source, target)
    yield (units[-1],), _transfer_costs(device, lambda _: (num_classes, 1, 1), units[-1], device.entry)


def _transfer_costs(
    device: HardwareProfile, shape_of: Callable[[Mapping[str, Any]], Shape], source: str, target: str
) -> Costs:
    """Costs of one transfer. `source` and `target` name the decision of a segment's unit, or a unit."""

    def costs(values: Mapping[str, Any]) -> tuple[Array, Array]:
        channels, height, width = shape_of(values)
        moved = device.transfer(channels * height * width, values.get(source, source), values.get(target, target))
        return np.array([moved["latency_ms"], 0.0, 0.0, 0.0]), np.array(moved["activation_mb"])

    return costs


def _factor(space: SearchSpace, name: str, scope: Sequence[str], costs: Costs, *, unit: str | None = None) -> Factor:
    """The costs of every combination of the choices in a scope.

    `unit` names a decision that comes after those of the scope, over whose choices `costs` gives a further axis.
    """
    position = {decision.name: k for k, decision in enumerate(space.decisions)}
    unknown = [decision for decision in scope if decision not in position]
    if unknown:
        raise UnknownDecisionError(f"site {name} of space {space.name} names decisions it lacks: {unknown}")
    # Scopes are kept in the order of the decisions, whatever order the site gives.
    places = tuple(sorted(position[decision] for decision in scope))
    decisions = [space.decisions[k] for k in places]
    shape = tuple(len(decision.choices) for decision in decisions)
    cells = [
        costs({d.name: d.choices[k] for d, k in zip(decisions, where, strict=True)})
        for where in product(*(range(size) for size in shape))
    ]
    summed, peak = (np.stack(part, axis=axis) for axis, part in zip((2, 1), zip(*cells, strict=True), strict=True))
    if unit is not None:
        places, shape = (*places, position[unit]), (*shape, len(space.decision(unit).choices))
    return Factor(places, summed.reshape(*summed.shape[:2], *shape), peak.reshape(len(peak), *shape))
