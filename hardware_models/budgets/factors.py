"""The costs of a space's sites on several devices, as one small table per metric over the decisions of each site."""

# Shapes: D devices, M metrics.

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.metrics import METRICS
from hardware_models.placement.placed_space import unit_decision
from hardware_models.profile import HardwareProfile
from search_spaces.errors import UnknownDecisionError
from search_spaces.operation import Operation, Shape
from search_spaces.space import SearchSpace

# What a device's price of an operation adds to each metric: to memory its weights here, its activations below.
SUMMED = ("latency_ms", "gflops", "params_m", "weight_mb", "flash_kb")
NOTHING = (0.0,) * (len(METRICS) - len(SUMMED))  # of activations alone nothing is a sum

Array = NDArray[np.float64]
# From the choices of a scope to costs of places: summed (places, M) and peak (places,).
Costs = Callable[[Mapping[str, Any]], tuple[Array, Array]]


@dataclass(frozen=True)
class Factor:
    """Costs over the choices of the decisions in `scope` (positions): summed (D, M, *choices), peak (D, *choices).

    While they are compiled, a row is a place: a device, or a unit of one.
    """

    scope: tuple[int, ...]
    summed: Array
    peak: Array


def compile_factors(space: SearchSpace, devices: Sequence[HardwareProfile]) -> list[Factor]:
    """Factors whose sum, with the largest peak, is the cost of every network of `space` on each device.

    Devices of one latency model have one factor per site. One of several units has its own, zero in the rows of all
    others: a factor per site over the units that may run it, and one for what passes between segments; `space` must
    then be the `placed_space` of these devices.
    """
    num_devices, factors = len(devices), list[Factor]()
    position = {decision.name: k for k, decision in enumerate(space.decisions)}
    if plain := [row for row, device in enumerate(devices) if not device.units]:
        prices = _Prices([(devices[row], None) for row in plain])
        for site in space.sites:
            factors.append(
                _of_rows(plain, _over(space, site.name, site.scope, prices.costs(site.operations)), num_devices)
            )
    for row, device in enumerate(devices):
        prices = _Prices([(device, unit) for unit in device.units])
        for segment in space.segments if device.units else ():
            unit = position[unit_decision(device.name, segment.name)]
            for site in segment.sites:
                on_each = _over(space, site.name, site.scope, prices.costs(site.operations))
                summed, peak = (np.moveaxis(part, 0, -1)[None] for part in (on_each.summed, on_each.peak))
                factors.append(_of_rows([row], Factor((*on_each.scope, unit), summed, peak), num_devices))
        for scope, costs in _transfers(space, device) if device.units else ():
            factors.append(_of_rows([row], _over(space, "transfer", scope, costs), num_devices))
    return merge(factors)


def _of_rows(rows: Sequence[int], costs: Factor, num_devices: int) -> Factor:
    """Costs of some devices, which stand in these rows, beside zeros for all others."""
    summed, peak = (np.zeros((num_devices, *part.shape[1:])) for part in (costs.summed, costs.peak))
    summed[rows], peak[rows] = costs.summed, costs.peak
    return Factor(costs.scope, summed, peak)


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
    """Costs of lists of operations where they can run, on a device or on a unit of one, each priced once."""

    def __init__(self, places: Sequence[tuple[HardwareProfile, str | None]]) -> None:
        self.places = places
        self._prices: dict[Operation, Array] = {}
        self._totals: dict[tuple[Operation, ...], tuple[Array, Array]] = {}

    def costs(self, operations: Callable[[Mapping[str, Any]], Sequence[Operation]]) -> Costs:
        """Summed costs (places, M) and the largest activation (places,), of the operations of some choices."""
        return lambda values: self._total(tuple(operations(values)))

    def _total(self, operations: tuple[Operation, ...]) -> tuple[Array, Array]:
        total = self._totals.get(operations)  # looked up once: it hashes all operations
        if total is None:
            stacked = np.array([self._price(op) for op in operations]).reshape(-1, len(self.places), len(METRICS) + 1)
            total = stacked[..., :-1].sum(axis=0), stacked[..., -1].max(axis=0, initial=0.0)
            self._totals[operations] = total
        return total

    def _price(self, operation: Operation) -> Array:
        price = self._prices.get(operation)
        if price is None:
            costs = [device.price(operation, unit=unit) for device, unit in self.places]
            sums = [[*(cost[column] for column in SUMMED), *NOTHING] for cost in costs]
            price = np.array([[*row, cost["activation_mb"]] for row, cost in zip(sums, costs, strict=True)])
            self._prices[operation] = price
        return price


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
        summed = np.zeros((1, len(METRICS)))
        summed[0, 0] = moved["latency_ms"]
        return summed, np.array([moved["activation_mb"]])

    return costs


def _over(space: SearchSpace, name: str, scope: Sequence[str], costs: Costs) -> Factor:
    """The costs of every combination of the choices in a scope, with a row for each place where they are known."""
    position = {decision.name: k for k, decision in enumerate(space.decisions)}
    unknown = [decision for decision in scope if decision not in position]
    if unknown:
        raise UnknownDecisionError(f"site {name} of space {space.name} names decisions it lacks: {unknown}")
    # Scopes are kept in the order of the decisions, whatever order the site gives.
    places = tuple(sorted(position[decision] for decision in scope))
    decisions = [space.decisions[k] for k in places]
    choices = product(*(decision.choices for decision in decisions))
    cells = [costs({d.name: choice for d, choice in zip(decisions, chosen, strict=True)}) for chosen in choices]
    summed, peak = (np.stack(part, axis=-1) for part in zip(*cells, strict=True))
    shape = [len(decision.choices) for decision in decisions]
    return Factor(places, summed.reshape(*summed.shape[:-1], *shape), peak.reshape(len(peak), *shape))
