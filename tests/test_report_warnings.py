"""Warnings of a report: each is raised by what it speaks of, with its reason, and by nothing else."""

from copy import deepcopy
from typing import Any

import pytest

from trainers.runs.warnings import Warned, warnings_of

SOUND: dict[str, Any] = {
    "strategy": "pool",
    "search": {"entropy": 0.1},
    "attempts": 1,
    "processors": ["a"],
    "code": {"changed": False},
    "earlier_code": [],
    "data": {"images": {"test": 10_000}},
    "devices": {
        "phone": {
            "met": True,
            "refuted_by": None,
            "binding": "latency_ms",
            "budgets": {"latency_ms": 10.0},
            "utilisation": {"latency_ms": 0.95},
            "margin": "upper",
            "upper_level": 0.9,
            "upper_subject": "network",
            "measured": None,
            "cut": [],
            "accuracy": {"supernet": 0.9, "inherited": 0.91, "finetuned": 0.93, "random": 0.88},
            "profile": {"error": {"mape": 0.1}},
        }
    },
}


def warned(**fields: Any) -> list[Warned]:
    """Warnings of a sound result with some fields of its one device, or of the search, changed."""
    result = deepcopy(SOUND)
    for key, value in fields.items():
        (result if key in result else result["devices"]["phone"])[key] = value
    return warnings_of(result)


def test_a_sound_result_raises_none() -> None:
    assert warned() == []


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"search": {"entropy": 0.88}}, "the search did not decide"),
        ({"attempts": 2}, "more than one attempt"),
        ({"processors": ["a", "b"]}, "more than one kind of processor"),
        ({"earlier_code": [{"sha256": "0"}]}, "Espalier changed during the search"),
        ({"code": {"changed": True}}, "Espalier changed since its commit"),
        ({"data": {"images": {"test": 359}}}, "few test images"),
        ({"met": False, "refuted_by": "latency_ms"}, "a budget is not met"),
        ({"utilisation": {"latency_ms": 0.79}}, "over a fifth of the latency_ms budget left unused"),
        ({"margin": "point"}, "budget held without a margin"),
        ({"cut": [{"notation": "k3"}]}, "candidates were refuted"),
        ({"accuracy": {"supernet": 0.37, "inherited": 0.91, "random": 0.88}}, "wide discretisation gap"),
        ({"accuracy": {"supernet": 0.9, "inherited": 0.88, "random": 0.88}}, "random search is as good"),
        ({"profile": {"error": None, "error_reason": "never measured"}}, "latency of unknown error"),
        ({"profile": {"error": {"mape": 0.3}}}, "profile of wide error"),
        ({"upper_level": None, "upper_subject": None}, "no upper bound"),
        ({"upper_subject": "block"}, "bound of parts"),
    ],
)
def test_each_is_raised_by_its_cause_alone(fields: dict[str, Any], what: str) -> None:
    (found,) = warned(**fields)
    assert found.what == what and found.why
    assert found.device == (None if set(fields) & set(SOUND) else "phone")


@pytest.mark.parametrize("other", [{"processors": ["a", "b"]}, {"earlier_code": [{"sha256": "0"}]}])
def test_a_search_of_several_attempts_is_that_of_one_only_on_one_code_and_processor(other: dict[str, Any]) -> None:
    times = "it was resumed or begun again; times are not those of an uninterrupted run"
    assert warned(attempts=2)[0].why == f"{times}; results are"
    found = warned(attempts=2, **other)
    assert found[0].why == times and len(found) == 2


def test_the_random_strategy_is_told_neither_that_it_did_not_decide_nor_that_random_is_as_good() -> None:
    undecided = {"search": {"entropy": 0.88}, "accuracy": {"supernet": 0.9, "inherited": 0.88, "random": 0.88}}
    assert [w.what for w in warned(**undecided)] == ["the search did not decide", "random search is as good"]
    assert warned(strategy="random", **undecided) == []


def test_a_measurement_makes_what_is_not_known_of_a_profile_indifferent() -> None:
    assert warned(measured={"latency_ms": 9.0}, profile={"error": None}, upper_level=None) == []


def test_the_reason_of_an_unknown_error_is_the_profiles_own() -> None:
    (found,) = warned(profile={"error": None, "error_reason": "never measured"})
    assert found.why == "never measured"


def test_figures_name_fields_of_the_result() -> None:
    (found,) = warned(accuracy={"supernet": 0.37, "inherited": 0.91, "random": 0.88})
    assert found.figures == (
        ("supernet", ("devices", "phone", "accuracy", "supernet")),
        ("inherited", ("devices", "phone", "accuracy", "inherited")),
    )
