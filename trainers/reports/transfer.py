"""What each network costs on every device of its run, by the prices of its operations."""

from collections.abc import Iterator, Mapping
from typing import Any

from hardware_models.budgets.factors import SUMMED
from hardware_models.placement.chain import network_chain, placed_costs
from hardware_models.placement.placed_space import PlacedSpace
from hardware_models.placement.placement import segment_placement
from hardware_models.profile import HardwareProfile
from search_spaces.space import Choice, SearchSpace
from trainers.reports.check import Check, compared
from trainers.reports.figures import HOST
from trainers.reports.recount import Rebuilt
from trainers.search.certificate import COUNTED_TO


def transfer_checks(result: Mapping[str, Any], rebuilt: Rebuilt) -> Iterator[Check]:
    """Check of `transfer`, and what of it is not checked."""
    recorded, names = result["transfer"], list(rebuilt.networks)

    def told_ms(name: str, device: str) -> float:
        own = name == device
        found: float = (result["devices"][name]["predicted"] if own else recorded[name][device])["latency_ms"]
        return found

    found = {name: {device: _costs(rebuilt, name, device, told_ms(name, device)) for device in names} for name in names}
    yield compared("transfer", recorded, found, field="transfer")
    others = [(name, host) for host in rebuilt.hosts for name in names if name != host]
    if others:
        yield Check("transfer to a host", "not checked", HOST, tuple(f"transfer.{n}.{h}.latency_ms" for n, h in others))


def _costs(rebuilt: Rebuilt, name: str, device: str, told_ms: float) -> dict[str, Any]:
    """Estimates of a network on a device, its largest share of a budget, and whether it is within all of them.

    The cost table, which the search went by, has a part only in where a device of several units runs it.
    """
    problem, space = rebuilt.problems[device], rebuilt.space
    profile, choices = problem.profile, rebuilt.networks[name].architecture.choices
    placed = space.choices(rebuilt.indices(choices, device))
    totals = rebuilt.with_told(device, _totals(profile, space, placed), told_ms)
    used = max(problem.held(metric, totals[metric]) / limit for metric, limit in problem.limits.items())
    return {
        **{metric: profile.estimate(metric, total) for metric, total in totals.items()},
        "latency_upper_ms": None if profile.bound is None else profile.upper("latency_ms", totals["latency_ms"]),
        "utilisation": used,
        "within": used <= 1 + COUNTED_TO,
    }


def _totals(profile: HardwareProfile, space: SearchSpace, choices: Mapping[str, Choice]) -> dict[str, float]:
    """What the prices of a network's operations sum to, by metric."""
    if isinstance(space, PlacedSpace) and profile.units:
        return placed_costs(profile, network_chain(space, choices)[0], segment_placement(space, profile, choices))
    prices = [profile.price(operation) for operation in space.operations(choices)]
    sums = {column: sum(price[column] for price in prices) for column in SUMMED}
    sums["latency_ms"] += profile.constant_ms
    sums["peak_memory_mb"] = sums.pop("weight_mb") + max(price["activation_mb"] for price in prices)
    return sums
