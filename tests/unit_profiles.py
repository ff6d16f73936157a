"""Devices of several units that several tests share."""

from collections.abc import Mapping, Sequence
from typing import Any

from spaces import ROOT

from hardware_models.placement.chain import Chain
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from search_spaces.operation import Operation

DESCRIPTION: dict[str, Any] = {
    "title": "A device made up for a test",
    "runtime": "none",
    "threads": None,
    "precision": "fp32",
    "budgets": {"latency_ms": 10.0},
    "error": None,
    "error_reason": "made up",
    "source": "a test",
    "measured": [],
    "inferred": [],
}
KINDS = ("pointwise", "dense", "depthwise", "grouped", "linear", "pool", "elementwise")


def roofline(gops: float, *, overhead_ms: float = 0.0, gb_per_s: float | None = None) -> dict[str, Any]:
    """A latency model with one throughput for what computes, one bandwidth for all bytes, one overhead."""
    busy = {kind: {"throughput_gops": gops, "overhead_ms": overhead_ms} for kind in KINDS[:5]}
    idle = {kind: {"throughput_gops": None, "overhead_ms": overhead_ms} for kind in KINDS[5:]}
    return {
        "model": "roofline",
        "weight_gb_per_s": gb_per_s,
        "activation_gb_per_s": gb_per_s,
        "kinds": {**busy, **idle},
    }


def chain_of(operations: Sequence[Operation]) -> Chain:
    """A chain by what its operations declare: each takes over what it reads and what it holds for later ones."""
    moving = [operation.in_elements + operation.held for operation in operations]
    return Chain(tuple(operations), (*moving, operations[-1].out_elements))


def unit(latency: Mapping[str, Any], *, load: float = 0.0, weight: float = 1.0, remote: bool = False) -> dict[str, Any]:
    return {"latency": dict(latency), "load": load, "weight": weight, "remote": remote}


def bus(gb_per_s: float, ms: float, between: Sequence[str] | None = None) -> dict[str, Any]:
    return {"kind": "bus", "between": between, "gb_per_s": gb_per_s, "ms": ms}


def wireless(mbit_per_s: float, round_trip_ms: float, payload_bits: int | None) -> dict[str, Any]:
    return {
        "kind": "network",
        "mbit_per_s": mbit_per_s,
        "round_trip_ms": round_trip_ms,
        "payload_bits": payload_bits,
    }


def content(units: Mapping[str, Any], links: Mapping[str, Any], entry: str, **other: Any) -> dict[str, Any]:
    """A profile as plain values."""
    return {**DESCRIPTION, "units": dict(units), "links": dict(links), "entry": entry, **other}


def device(
    name: str, units: Mapping[str, Any], links: Mapping[str, Any], *, entry: str, **other: Any
) -> HardwareProfile:
    return profile_from_dict(name, content(units, links, entry, **other))


def with_units(name: str, **changes: Any) -> HardwareProfile:
    """A shipped profile with fields of its units or links replaced: `npu={"load": 0.5}, memory={"ms": 0.1}`."""
    profile = load_profile(ROOT / "conf" / "hardware" / f"{name}.yaml")
    mapping = profile.model_dump(mode="json", exclude={"name"})
    for key, fields in changes.items():
        part = mapping["units"] if key in mapping["units"] else mapping["links"]
        part[key] |= fields
    return profile_from_dict(name, mapping)
