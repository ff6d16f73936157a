"""Regret against a benchmark's table: the best of its networks within the same budgets, by hand."""

from pathlib import Path
from typing import Any

import pytest
from tiny_search import CONF, networks_of, small_space
from yaml import safe_load

from search_spaces.errors import InvalidInputError
from trainers.search.regret import best_within

SPACE = small_space()
DEVICE = safe_load((CONF / "hardware" / "mid_tablet.yaml").read_text(encoding="utf-8"))


def gflops(notation: str) -> float:
    return sum(op.macs for op in SPACE.operations(SPACE.parse(notation))) / 1e9


NOTATIONS = sorted((SPACE.notation(SPACE.choices(network)) for network in networks_of(SPACE)), key=gflops)
ACCURACIES = {notation: place / 100 for place, notation in enumerate(NOTATIONS)}  # the dearer the better


def device(budget: float) -> dict[str, Any]:
    return {**DEVICE, "budgets": {"gflops": budget}}


@pytest.mark.parametrize("place", [0, 10, 63])
def test_the_best_within_a_budget_is_the_dearest_that_meets_it(place: int) -> None:
    budget = gflops(NOTATIONS[place])
    best = max(accuracy for notation, accuracy in ACCURACIES.items() if gflops(notation) <= budget)
    found = best_within(SPACE, ACCURACIES, "mid_tablet", device(budget * (1 + 1e-9)), margin="upper")
    assert found == best


def test_rows_of_other_spaces_are_passed_over() -> None:
    accuracies = {"|none~0|": 1.0, NOTATIONS[0]: 0.5}
    assert best_within(SPACE, accuracies, "mid_tablet", device(1.0), margin="upper") == 0.5


def test_a_device_that_cannot_be_priced_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError):
        best_within(SPACE, ACCURACIES, "mid_tablet", {**DEVICE, "budgets": {}}, margin="upper")
