"""Where the operations of a network run on a device of several units: the fastest placement, exactly, and its costs.

Operations run one after the other, on one unit at a time. Where one unit follows another, all that is still needed of
what was computed moves to it: for a chain that is the one tensor between two operations, and the placement found is the
best there is. For residual and cell graphs some of it might better stay behind; there the cost found is that of a
placement which can be run, and a bound above the best one's.
"""

# Shapes: S networks, L operations of the longest of them, U units.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import PEAK
from hardware_models.placement.chain import Chain, Placement, network_chain, placed_costs, transfers_of
from hardware_models.placement.memory_placement import fastest_within_memory
from hardware_models.placement.placed_space import PlacedSpace, unit_decision
from hardware_models.profile import HardwareProfile
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
PROBE = 10**6  # elements that a link is timed with: its time is a constant plus a rate


def segment_placement(space: PlacedSpace, profile: HardwareProfile, choices: Mapping[str, Any]) -> tuple[str, ...]:
    """The unit of each operation of a network whose segments run where its choices say."""
    _, segments = network_chain(space, choices)
    return tuple(choices[unit_decision(profile.name, segment)] for segment in segments)


def fastest_placement(profile: HardwareProfile, chain: Chain) -> Placement:
    """The placement of least latency. Raises: InvalidInputError if the profile has no units, or a unit no price."""
    return fastest_placements(profile, [chain])[0]


def fastest_placements(profile: HardwareProfile, chains: Sequence[Chain]) -> list[Placement]:
    """The placement of least latency of each chain, by dynamic programming over its operations, all chains at once."""
    if not profile.units:
        raise InvalidInputError(f"profile {profile.name} has one latency model and no units to place operations on")
    if not chains:
        return []
    times_SLU, moving_SL, last_S, output_S = _padded(profile, chains)
    links = _Links(profile)
    rows = np.arange(len(chains))
    best_SU = links.entering_ms(moving_SL[:, 0]) + times_SLU[:, 0]
    came_from_LSU = np.zeros((times_SLU.shape[1], *best_SU.shape), dtype=np.int64)
    for step in range(1, times_SLU.shape[1]):
        reached_SUU = best_SU[:, :, None] + links.transfer_ms(moving_SL[:, step])
        came_from_LSU[step] = reached_SUU.argmin(axis=1)
        runs_S1 = (step <= last_S)[:, None]
        best_SU = np.where(runs_S1, reached_SUU.min(axis=1) + times_SLU[:, step], best_SU)
    total_SU = best_SU + links.leaving_ms(output_S)
    units_SL = np.zeros(moving_SL.shape, dtype=np.int64)
    unit_S = total_SU.argmin(axis=1)
    for step in reversed(range(times_SLU.shape[1])):
        units_SL[:, step] = unit_S
        unit_S = np.where(step <= last_S, came_from_LSU[step, rows, unit_S], unit_S)
    names = tuple(profile.units)
    return [Placement(tuple(names[u] for u in units_SL[s, : last_S[s] + 1]), float(total_SU[s].min())) for s in rows]


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
    memory_mb = float(problem.limits_M[PEAK])
    if np.isfinite(memory_mb):
        fits = by_segment.costs["peak_memory_mb"] <= memory_mb
        at_most_ms = by_segment.costs["latency_ms"] if fits else np.inf
        found = fastest_within_memory(profile, chain, memory_mb=memory_mb, at_most_ms=at_most_ms)
    else:
        found = fastest_placement(profile, chain)
    return by_segment if found is None else _placed_chain(profile, chain, found.units)


def _placed_chain(profile: HardwareProfile, chain: Chain, units: tuple[str, ...]) -> PlacedChain:
    moved_mb = max(move["activation_mb"] for move in transfers_of(profile, chain, units))
    return PlacedChain(chain, units, placed_costs(profile, chain, units), moved_mb)


class _Links:
    """Times of the links between the units of a device, each a constant plus a rate times the elements that move."""

    def __init__(self, profile: HardwareProfile) -> None:
        names = tuple(profile.units)
        none, some = (
            np.array([[profile.transfer(n, a, b)["latency_ms"] for b in names] for a in names]) for n in (0, PROBE)
        )
        self.constant_UU, self.ms_per_element_UU = none, (some - none) / PROBE
        self.entry = names.index(profile.entry or "")

    def transfer_ms(self, elements_S: Indices) -> Array:
        """Times (S, U, U) from one unit to another."""
        times: Array = self.constant_UU + elements_S[:, None, None] * self.ms_per_element_UU
        return times

    def entering_ms(self, elements_S: Indices) -> Array:
        return self.transfer_ms(elements_S)[:, self.entry, :]

    def leaving_ms(self, elements_S: Indices) -> Array:
        return self.transfer_ms(elements_S)[:, :, self.entry]


def _padded(profile: HardwareProfile, chains: Sequence[Chain]) -> tuple[Array, Indices, Indices, Indices]:
    """Times (S, L, U), moving elements (S, L), the place of each chain's last operation (S,) and its output (S,)."""
    known: dict[Operation, list[float]] = {}
    for chain in chains:
        for op in chain.operations:
            if op not in known:
                known[op] = [profile.price(op, unit=unit)["latency_ms"] for unit in profile.units]
    longest = max(len(chain.operations) for chain in chains)
    times_SLU = np.zeros((len(chains), longest, len(profile.units)))
    moving_SL = np.zeros((len(chains), longest), dtype=np.int64)
    for row, chain in enumerate(chains):
        times_SLU[row, : len(chain.operations)] = [known[op] for op in chain.operations]
        moving_SL[row, : len(chain.operations)] = chain.moving[:-1]
    last_S = np.array([len(chain.operations) - 1 for chain in chains])
    return times_SLU, moving_SL, last_S, np.array([chain.moving[-1] for chain in chains])
