"""The result of a real search of two devices, to change in tests."""

import json
from pathlib import Path
from typing import Any

from trainers.runs.result import Result

SAMPLE = Path(__file__).parents[1] / "notebooks" / "sample"
RUN = min((SAMPLE / "strategies").glob("*/result.json")).parent


def sample_result() -> dict[str, Any]:
    """A fresh copy of its result.json."""
    content: dict[str, Any] = json.loads((RUN / "result.json").read_text(encoding="utf-8"))
    return content


def typed(content: dict[str, Any]) -> Result:
    return Result.model_validate_json(json.dumps(content))
