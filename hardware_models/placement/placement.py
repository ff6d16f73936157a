"""Where the operations of a network run on a device of several units: the fastest placement, exactly, and its costs.

Operations run one after the other, on one unit at a time. Where one unit follows another, all that is still needed of
what was computed moves to it: for a chain that is the one tensor between two operations, and the placement found is the
best there is. For residual and cell graphs some of it might better stay behind; there the cost found is that of a
placement which can be run, and a bound above the best one's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.metrics import METRICS
from hardware_models.placement.chain import Chain, network_chain, placed_costs, transfers_of
from hardware_models.placement.placed_space import PlacedSpace, unit_decision
from hardware_models.profile import HardwareProfile

ROUNDING = 1e-12  # relative: sums of the same numbers in another order differ by less


@dataclass(frozen=True)
class Placement:
    """The unit of each operation of a chain, and the latency of it all in ms, transfers included."""

    units: tuple[str, ...]
    latency_ms: float


@dataclass(frozen=True)
class PlacedChain:
    """A network's chain, the unit of each operation, its costs by metric, and the most that moved from or to memory."""

    chain: Chain
    units: tuple[str, ...]
    costs: dict[str, float]
    transferred_mb: float


def place(problem: BudgetProblem, indices: Sequence[int]) -> PlacedChain:
    """Where one network of a problem runs: its fastest placement within the memory budget; by segments if none fits.

    Within the same memory the fastest placement of operations is at least as fast as that of whole segments.
    """
    space, profile = problem.table.space, problem.profile
    assert isinstance(space, PlacedSpace)  # as every table's of a device with units
    choices = space.choices(indices)
    chain, _ = network_chain(space, choices)
    by_segment = _placed_chain(profile, chain, segment_placement(space, profile, choices))
    memory_mb = float(problem.limits_M[METRICS.index("peak_memory_mb")])
    at_most_ms = by_segment.costs["latency_ms"] if by_segment.costs["peak_memory_mb"] <= memory_mb < inf else inf
    found = fastest_placement(profile, chain, memory_mb=memory_mb, at_most_ms=at_most_ms)
    return by_segment if found is None else _placed_chain(profile, chain, found.units)


def segment_placement(space: PlacedSpace, profile: HardwareProfile, choices: Mapping[str, Any]) -> tuple[str, ...]:
    """The unit of each operation of a network whose segments run where its choices say."""
    _, segments = network_chain(space, choices)
    return tuple(choices[unit_decision(profile.name, segment)] for segment in segments)


def _placed_chain(profile: HardwareProfile, chain: Chain, units: tuple[str, ...]) -> PlacedChain:
    moved_mb = max(move["activation_mb"] for move in transfers_of(profile, chain, units))
    return PlacedChain(chain, units, placed_costs(profile, chain, units), moved_mb)


def fastest_placement(
    profile: HardwareProfile, chain: Chain, *, memory_mb: float = inf, at_most_ms: float = inf
) -> Placement | None:
    """The placement of least latency with `peak_memory_mb` of at most `memory_mb`, or none if there is none.

    `at_most_ms`, the latency of a placement known to fit, makes it faster to find. Labels are extended operation by
    operation; one goes if another is no worse in latency and memory, or if even an unlimited rest would be too slow.
    Raises: InvalidInputError if a unit has no price.
    """
    assert profile.entry is not None  # checked with its units
    steps = _steps(profile, chain)
    limits = memory_mb * (1 + ROUNDING), at_most_ms * (1 + ROUNDING)
    labels = {profile.entry: [_Label(0.0, 0.0, 0.0, ())]}
    for step, rest in zip(steps, _least_to_go(steps), strict=True):
        labels = {unit: _best(_extended(labels, step, unit), limits, rest[unit]) for unit in step.run}
    if not labels[profile.entry]:
        return None
    fastest = labels[profile.entry][0]
    return Placement(fastest.units[:-1], fastest.latency_ms)


@dataclass(frozen=True, slots=True)
class _Label:
    """A way to have run the operations so far, the last on a given unit: its latency and what it took of memory."""

    latency_ms: float
    weight_mb: float
    activation_mb: float
    units: tuple[str, ...]


@dataclass(frozen=True)
class _Step:
    """Prices of one operation by unit and of the transfers before it by pair: ms, and MB in the device's memory."""

    run: dict[str, tuple[float, float, float]]
    move: dict[tuple[str, str], tuple[float, float]]


def _steps(profile: HardwareProfile, chain: Chain) -> list[_Step]:
    """A step for each operation, and a last one that runs nothing where the output is needed."""
    steps: list[_Step] = []
    sources = entry = [str(profile.entry)]
    for operation, elements in zip((*chain.operations, None), chain.moving, strict=True):
        run = dict.fromkeys(entry, (0.0, 0.0, 0.0))
        if operation is not None:
            prices = {unit: profile.price(operation, unit=unit) for unit in profile.units}
            run = {unit: (p["latency_ms"], p["weight_mb"], p["activation_mb"]) for unit, p in prices.items()}
        moves = {(a, b): profile.transfer(elements, a, b) for a in sources for b in run}
        steps.append(_Step(run, {pair: (move["latency_ms"], move["activation_mb"]) for pair, move in moves.items()}))
        sources = list(run)
    return steps


def _least_to_go(steps: Sequence[_Step]) -> list[dict[str, float]]:
    """The least latency of all that follows each step, by the unit that it runs on."""
    to_go = [dict.fromkeys(steps[-1].run, 0.0)]
    for before, step in zip(reversed(steps[:-1]), reversed(steps), strict=False):
        after = to_go[-1]
        to_go.append({a: min(step.move[a, b][0] + step.run[b][0] + after[b] for b in step.run) for a in before.run})
    return to_go[::-1]


def _extended(labels: dict[str, list[_Label]], step: _Step, unit: str) -> list[_Label]:
    """Every label after one more step, run on `unit`."""
    run_ms, weight_mb, activation_mb = step.run[unit]
    extended = []
    for source, reached in labels.items():
        move_ms, moved_mb = step.move[source, unit]
        for label in reached:
            latency_ms = label.latency_ms + move_ms + run_ms
            peak_mb = max(label.activation_mb, moved_mb, activation_mb)
            extended.append(_Label(latency_ms, label.weight_mb + weight_mb, peak_mb, (*label.units, unit)))
    return extended


def _best(labels: Sequence[_Label], limits: tuple[float, float], to_go_ms: float) -> list[_Label]:
    """The labels that can still end within the limits and that no other is at least as good as, fastest first."""
    memory_mb, at_most_ms = limits
    kept: list[_Label] = []
    for label in sorted(labels, key=lambda one: (one.latency_ms, one.weight_mb, one.activation_mb)):
        if label.weight_mb + label.activation_mb > memory_mb or label.latency_ms + to_go_ms > at_most_ms:
            continue
        if memory_mb == inf:
            return [label]
        if not any(o.weight_mb <= label.weight_mb and o.activation_mb <= label.activation_mb for o in kept):
            kept.append(label)
    return kept
