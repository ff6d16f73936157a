"""The fastest placement of a network's operations whose share of the device's memory is within a limit, exactly."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hardware_models.placement.chain import Chain, Placement
from hardware_models.profile import HardwareProfile

ROUNDING = 1e-12  # relative: sums of the same numbers in another order differ by less


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


def fastest_within_memory(
    profile: HardwareProfile, chain: Chain, *, memory_mb: float, at_most_ms: float = float("inf")
) -> Placement | None:
    """The placement of least latency with `peak_memory_mb` of at most `memory_mb`, or none if there is none.

    `at_most_ms`, the latency of a placement known to fit, makes it faster to find. Labels are extended operation by
    operation; one goes if another is no worse in latency and memory, or if even an unlimited rest would be too slow.
    """
    assert profile.entry is not None  # checked with its units
    steps = [_step(profile, chain, k) for k in range(len(chain.operations))]
    leaving = _moves(profile, chain.moving[-1], profile.units, [profile.entry])
    to_go = _least_to_go(steps, {unit: leaving[unit, profile.entry][0] for unit in profile.units})
    limits = memory_mb * (1 + ROUNDING), at_most_ms * (1 + ROUNDING)
    labels = {profile.entry: [_Label(0.0, 0.0, 0.0, ())]}
    for step, rest in zip(steps, to_go, strict=True):
        labels = {unit: _best(_extended(labels, step, unit), limits, rest[unit]) for unit in step.run}
    ends = [_moved(label, unit, *leaving[unit, profile.entry]) for unit, reached in labels.items() for label in reached]
    fitting = _best(ends, limits, 0.0)
    if not fitting:
        return None
    fastest = min(fitting, key=lambda label: label.latency_ms)
    return Placement(fastest.units, fastest.latency_ms)


def _step(profile: HardwareProfile, chain: Chain, k: int) -> _Step:
    assert profile.entry is not None  # checked with its units
    run = {}
    for unit in profile.units:
        price = profile.price(chain.operations[k], unit=unit)
        run[unit] = (price["latency_ms"], price["weight_mb"], price["activation_mb"])
    sources = profile.units if k else [profile.entry]
    return _Step(run, _moves(profile, chain.moving[k], sources, profile.units))


def _moves(
    profile: HardwareProfile, elements: int, sources: Iterable[str], targets: Iterable[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    targets = list(targets)
    priced = {(a, b): profile.transfer(elements, a, b) for a in sources for b in targets}
    return {pair: (price["latency_ms"], price["activation_mb"]) for pair, price in priced.items()}


def _least_to_go(steps: Sequence[_Step], leaving_ms: dict[str, float]) -> list[dict[str, float]]:
    """The least latency of all that follows each operation, by the unit that it runs on."""
    to_go = [leaving_ms]
    for step in reversed(steps[1:]):
        after = to_go[-1]
        to_go.append({a: min(step.move[a, b][0] + step.run[b][0] + after[b] for b in step.run) for a in leaving_ms})
    return to_go[::-1]


def _extended(labels: dict[str, list[_Label]], step: _Step, unit: str) -> list[_Label]:
    """Every label after one more operation, run on `unit`."""
    run_ms, weight_mb, activation_mb = step.run[unit]
    extended = []
    for source, reached in labels.items():
        move_ms, moved_mb = step.move[source, unit]
        for label in reached:
            latency_ms = label.latency_ms + move_ms + run_ms
            peak_mb = max(label.activation_mb, moved_mb, activation_mb)
            extended.append(_Label(latency_ms, label.weight_mb + weight_mb, peak_mb, (*label.units, unit)))
    return extended


def _moved(label: _Label, unit: str, move_ms: float, moved_mb: float) -> _Label:
    return _Label(label.latency_ms + move_ms, label.weight_mb, max(label.activation_mb, moved_mb), label.units)


def _best(labels: Sequence[_Label], limits: tuple[float, float], to_go_ms: float) -> list[_Label]:
    """The labels that can still end within the limits and that no other is at least as good as."""
    memory_mb, at_most_ms = limits
    kept: list[_Label] = []
    for label in sorted(labels, key=lambda one: (one.latency_ms, one.weight_mb, one.activation_mb)):
        if label.weight_mb + label.activation_mb > memory_mb or label.latency_ms + to_go_ms > at_most_ms:
            continue
        if not any(o.weight_mb <= label.weight_mb and o.activation_mb <= label.activation_mb for o in kept):
            kept.append(label)
    return kept
