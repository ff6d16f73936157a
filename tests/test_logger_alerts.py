"""Alerts: each cause reported once, and silence where there is none."""

from typing import Any

import pytest

from trainers.loggers.alerts import epoch_alerts

CALM = {
    "epoch": 3,
    "step": 30,
    "val/acc": 0.8,
    "arch/entropy": 0.9,
    "arch/skip_connect_share": 0.2,
    "prune/choices_alive": 40.0,
    "hw/phone/met": 0.0,
    "hw/tablet/met": 1.0,
}


def row(**changes: float) -> dict[str, Any]:
    return CALM | {"epoch": 4} | {key.replace("__", "/"): value for key, value in changes.items()}


def titles(previous: dict[str, Any] | None, row: dict[str, Any]) -> list[str]:
    return [title for title, _ in epoch_alerts(previous, row)]


def test_an_epoch_like_the_one_before_alerts_nobody() -> None:
    assert epoch_alerts(CALM, row()) == []


def test_a_budget_is_met_once() -> None:
    met = row(hw__phone__met=1.0)
    assert epoch_alerts(CALM, met) == [
        ("budget met: phone", "from epoch 4 every network left for phone meets its budgets")
    ]
    assert epoch_alerts(met, met | {"epoch": 5}) == []


def test_budgets_that_are_met_from_the_first_epoch_are_reported() -> None:
    assert titles(None, CALM) == ["budget met: tablet"]


@pytest.mark.parametrize(("share", "reported"), [(0.5, False), (0.51, True)])
def test_a_majority_of_skips_is_a_collapse(share: float, reported: bool) -> None:
    assert titles(CALM, row(arch__skip_connect_share=share)) == ["collapse: skip_connect"] * reported


def test_a_collapse_that_lasts_is_reported_once() -> None:
    collapsed = row(arch__skip_connect_share=0.7)
    assert epoch_alerts(collapsed, collapsed | {"epoch": 5}) == []


def test_entropy_that_falls_by_itself_is_a_collapse_and_one_that_pruning_lowers_is_not() -> None:
    assert titles(CALM, row(arch__entropy=0.4)) == ["collapse: entropy"]
    assert titles(CALM, row(arch__entropy=0.4, prune__choices_alive=20.0)) == []


def test_an_accuracy_that_halves_is_a_collapse() -> None:
    assert epoch_alerts(CALM, row(val__acc=0.1)) == [
        ("collapse: accuracy", "epoch 4: validation accuracy fell from 0.800 to 0.100")
    ]
    assert epoch_alerts(CALM, row(val__acc=0.5)) == []


def test_a_space_without_skips_has_no_share_of_them() -> None:
    rows = [{key: value for key, value in r.items() if "share" not in key} for r in (CALM, row())]
    assert epoch_alerts(rows[0], rows[1]) == []
