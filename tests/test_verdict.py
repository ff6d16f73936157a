"""The lines that a user reads first: why larger networks lost, and what to mind before trusting the figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainers.runs.warnings import warnings_of
from trainers.search.console import MINDED, report_verdict

SAMPLE = Path(__file__).resolve().parents[1] / "notebooks" / "sample" / "strategies"


@pytest.fixture
def result() -> dict[str, Any]:
    """Of a real search."""
    content: dict[str, Any] = json.loads(min(SAMPLE.glob("*/result.json")).read_text(encoding="utf-8"))
    return content


def lines_of(result: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    report_verdict(result, Path("runs/search/a run"), lines.append)
    return lines


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ({"validation_accuracy": 0.5, "validation_loss": 1.0}, "validation 0.500 against 0.750"),
        (
            {"validation_accuracy": 0.75, "validation_loss": 1.0},
            "validation 0.750 against 0.750, loss 1 against 0.999988",
        ),
    ],
    ids=["accuracy", "loss"],
)
def test_a_larger_network_that_lost_is_told_with_what_decided(
    result: dict[str, Any], lost: dict[str, float], words: str
) -> None:
    device = next(iter(result["devices"].values()))
    device["validation"] |= {"accuracy": 0.75, "loss": 0.9999881}
    device["utilisation"][device["binding"]] = 0.5
    by_a_hair = {"utilisation": 0.51, "validation_accuracy": 0.75, "validation_loss": 1.0}
    device["larger_candidates_that_lost"] = [by_a_hair, {"utilisation": 0.91, **lost}]
    told = [line for line in lines_of(result) if line.startswith("  larger, lost")]
    assert told[0] == f"  larger, lost    uses 91.0%, {words}"


def test_what_to_mind_is_told_and_how_much_more_the_report_holds(result: dict[str, Any]) -> None:
    for device in result["devices"].values():
        device["margin"] = "point"
    warnings = warnings_of(result)
    assert len(warnings) > MINDED
    told = [line for line in lines_of(result) if line.startswith("mind")]
    assert len(told) == MINDED + 1
    assert told[0].endswith(f"{warnings[0].what}: {warnings[0].why}")
    assert told[-1] == f"mind    {len(warnings) - MINDED} more in report.html"
