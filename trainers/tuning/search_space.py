"""The search space of a study: examples of its points, and what no trial changes."""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainers.runs.config import dotted_values, fingerprint_fields, table_hashes

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def examples(space: "Mapping[str, BaseDistribution]") -> list[dict[str, Any]]:
    """Parameters of a few trials that together take each choice and both ends of each interval."""
    ends: dict[str, Sequence[Any]] = {
        key: distribution.choices if hasattr(distribution, "choices") else [distribution.low, distribution.high]  # type: ignore[attr-defined]
        for key, distribution in space.items()
    }
    longest = max(map(len, ends.values()), default=1)
    return [{key: values[min(k, len(values) - 1)] for key, values in ends.items()} for k in range(longest)]


def fixed_values(jobs: Iterable[Mapping[str, Any]], space: Iterable[str], own: Container[str]) -> dict[str, Any]:
    """Dotted key: value, of what the results of these jobs depend on besides the trial; all values, if it has several.

    Those follow from choices of the space, as the learning rates that optimizers come with. Keys of the space are left
    out, and the study's `own` with all below them.
    """
    searched = {key.lstrip("+") for key in space}
    found: dict[str, list[Any]] = {}
    for job in jobs:
        asked = {key: value for key, value in fingerprint_fields(job).items() if key not in own}
        hardware = job.get("hardware")
        more = {
            "content of look-up tables": table_hashes(hardware, job.get("evaluator")),
            "order of devices": list(hardware or ()),
        }
        for key, value in (dotted_values(asked) | more).items():
            if key not in searched and value not in found.setdefault(key, []):
                found[key].append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def unknown_figures(job: Mapping[str, Any], names: Iterable[str], space: Iterable[str]) -> list[str]:
    """What is wrong with names of objectives, where the jobs are searches whose devices are known by now."""
    hardware = job.get("hardware")
    if not isinstance(hardware, Mapping) or any(key.lstrip("+").startswith("hardware") for key in space):
        return []
    allowed = ["validation_accuracy", "utilisation", "seconds"]
    for device, profile in hardware.items():
        limited = [metric for metric, limit in (profile.get("budgets") or {}).items() if limit is not None]
        allowed += [f"{device}/{figure}" for figure in ("validation_accuracy", *limited)]
    return [
        f"{name}: no such figure of a search; allowed: {', '.join(allowed)}" for name in names if name not in allowed
    ]
