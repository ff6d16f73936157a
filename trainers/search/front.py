"""The points of a front: one device under many budgets, and what came of each."""

from collections.abc import Mapping
from typing import Any

from trainers.runs.result import DeviceResult

FRONT_FILE = "front.csv"


def front_rows(devices: Mapping[str, DeviceResult], points: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each point, with its budgets, the figures that decide of them, and its network."""
    return [_row(point, device, devices[point]) for point, device in points.items()]


def _row(point: str, device: str, found: DeviceResult) -> dict[str, Any]:
    return {
        "point": point,
        "device": device,
        **{f"budget_{metric}": limit for metric, limit in found.budgets.items()},
        **{f"held_{metric}": figure for metric, figure in found.held.items()},
        **{f"held_{metric}_by": origin for metric, origin in found.held_by.items()},
        **{f"predicted_{metric}": figure for metric, figure in found.predicted.items()},
        "met": found.met,
        "deployable": found.file is not None,
        "validation_accuracy": found.validation.accuracy,
        "finetuned_accuracy": found.accuracy.finetuned,
        "stale_choices": len(found.stale),
        "id": found.id,
        "notation": found.notation,
        "architecture": found.architecture,
    }
