"""The lines that a user reads first: why larger networks lost, and warnings about the figures."""

from pathlib import Path
from typing import Any

import pytest

from tests.sample_result import sample_result, typed
from trainers.runs.warnings import warning_line, warnings_of
from trainers.search.verdict import SHOWN_WARNINGS, report_verdict


def lines_of(result: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    report_verdict(typed(result), Path("runs/search/a run"), lines.append)
    return lines


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.5, "validation 0.500 against 0.750"), (0.75, "validation 0.750 against 0.750, loss 1 against 0.999988")],
    ids=["accuracy", "loss"],
)
def test_a_larger_network_that_lost_is_shown_with_what_decided(accuracy: float, words: str) -> None:
    result = sample_result()
    device = next(iter(result["devices"].values()))
    device["validation"] |= {"accuracy": 0.75, "loss": 0.9999881}
    device["utilisation"][device["binding"]] = 0.5
    by_a_hair = {"notation": "a", "utilisation": 0.51, "validation_accuracy": 0.75, "validation_loss": 1.0}
    device["larger_candidates_that_lost"] = [
        by_a_hair,
        by_a_hair | {"utilisation": 0.91, "validation_accuracy": accuracy},
    ]
    shown = [line for line in lines_of(result) if line.startswith("  larger, lost")]
    assert shown[0] == f"  larger, lost    uses 91.0%, {words}"


def test_the_first_warnings_are_shown_and_how_many_more_the_report_has() -> None:
    result = sample_result()
    for device in result["devices"].values():
        device["margin"] = "point"
    warnings = warnings_of(typed(result))
    assert len(warnings) > SHOWN_WARNINGS
    shown = [line for line in lines_of(result) if line.startswith("warning ")]
    assert len(shown) == SHOWN_WARNINGS + 1
    assert shown[0] == warning_line(warnings[0], typed(result).model_dump())
    assert shown[-1] == f"warning {len(warnings) - SHOWN_WARNINGS} more in report.html"
