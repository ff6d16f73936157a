"""A device of several units: processors of one chip, or a device and a server, and the links between them."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field

from hardware_models.latency_models.latency_model import AnyLatencyModel
from hardware_models.schema import InRange, NonNegative, Positive, Section

UnitName = Annotated[str, Field(strict=True, min_length=1)]
Pair = tuple[UnitName, UnitName]


class Unit(Section):
    """One processor of the device, or of a machine it can reach (`remote`), and the share of it that a network gets.

    `load` is the share of the unit that others use, `weight` the share of the rest that this network is granted: it
    takes 1 / (weight * (1 - load)) of the latency model's time. What runs on a remote unit is not in the device's
    memory.
    """

    latency: AnyLatencyModel
    load: Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]
    weight: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False), InRange]
    remote: Annotated[bool, Field(strict=True)] = False

    @property
    def slowdown(self) -> float:
        """Time that an operation takes over its time on the unit alone."""
        return 1.0 / (self.weight * (1.0 - self.load))


class Bus(Section):
    """A link within a machine: `ms` to hand over, then 10^9 bytes per second at the profile's precision.

    `between` names the two units it joins; without it, it joins every pair that has no link of its own.
    """

    kind: Literal["bus"]
    between: Pair | None = None
    gb_per_s: Positive
    ms: NonNegative

    def transfer_ms(self, elements: int, *, bytes_per_element: int) -> float:
        """Milliseconds to move that many elements one way."""
        return self.ms + elements * bytes_per_element / self.gb_per_s * 1e-6


class Network(Section):
    """A link between machines: half a round trip, then 10^6 bits per second.

    An element is sent in `payload_bits`; without it, at the profile's precision. Packing and unpacking a payload of
    another width is not priced.
    """

    kind: Literal["network"]
    between: Pair | None = None
    mbit_per_s: Positive
    round_trip_ms: NonNegative
    payload_bits: Literal[8, 16, 32] | None

    def transfer_ms(self, elements: int, *, bytes_per_element: int) -> float:
        """Milliseconds to move that many elements one way."""
        bits = 8 * bytes_per_element if self.payload_bits is None else self.payload_bits
        return self.round_trip_ms / 2 + elements * bits / self.mbit_per_s * 1e-3


Link = Annotated[Bus | Network, Field(discriminator="kind")]


def link_between(links: Mapping[str, Bus | Network], one: str, other: str) -> Bus | Network | None:
    """The link of two units: their own, else the one that joins every pair, else none."""
    own = next((link for link in links.values() if link.between and set(link.between) == {one, other}), None)
    return own or next((link for link in links.values() if link.between is None), None)


def unit_problems(units: Mapping[str, Unit], links: Mapping[str, Bus | Network], entry: str | None) -> Iterator[str]:
    """What keeps checked units and links from making a device, each with its key below the profile."""
    names = ", ".join(units)
    if not units:
        yield "units: got none; allowed: one or more, each with a latency model"
    if entry is None or entry not in units:
        yield f"entry: got {entry!r}; allowed: the unit where the input lies and the output must be, of {names}"
    elif units[entry].remote:
        yield f"entry: got {entry!r}, which is remote; allowed: a unit of the device itself"
    for name, unit in units.items():
        if unit.latency.constant_ms > 0:
            yield (
                f"units.{name}.latency: got a constant of {unit.latency.constant_ms:g} ms for the whole network; "
                "allowed: a model that gives every millisecond to an operation, as units run parts of a network"
            )
    for name, link in links.items():
        if link.between and (link.between[0] == link.between[1] or not set(link.between) <= set(units)):
            yield f"links.{name}.between: got {list(link.between)}; allowed: two units of {names}"
    pairs = [tuple(sorted(link.between)) for link in links.values() if link.between]
    for pair in sorted(set(pairs)):
        if pairs.count(pair) > 1:
            yield f"links: {pair[0]} and {pair[1]} are joined more than once; keep one link"
    if sum(link.between is None for link in links.values()) > 1:
        yield "links: more than one link without `between`; one alone can join every other pair"
    for one, other in combinations(units, 2):
        if link_between(links, one, other) is None:
            yield f"links: none joins {one} and {other}; add one between them, or one without `between` for all pairs"
