"""Warnings of a report: each is raised by what it speaks of, with its reason, and by nothing else."""

from copy import deepcopy
from typing import Any

import pytest

from tests.sample_result import sample_result, typed
from trainers.runs.warnings import Warned, warning_line, warnings_of

CODE = {"version": "0", "commit": None, "changed": None, "sha256": "0"}
CUT = {"notation": "k3", "utilisation": 1.0, "validation_accuracy": 0.5, "validation_loss": 1.0}
COPIES = dict.fromkeys(("test_in_training", "test_in_validation", "validation_in_training", "in_two_classes"), 0)
SOUND = sample_result()
SOUND["data"]["majority"] = {"name": "fly", "share": 0.9}
PHONE = "mid_tablet"
SOUND["search"]["entropy"], SOUND["data"]["images"]["test"], SOUND["code"]["changed"] = 0.1, 10_000, False
for each in SOUND["devices"].values():
    each["accuracy"] = {"supernet": 0.9, "inherited": 0.91, "finetuned": 0.93, "random": 0.88, "images": 10_000}
    each["validation"] |= {"accuracy": 0.92, "images": 10_000}
    each["file"] = {
        "path": "onnx/a.onnx",
        "bytes": 1,
        "channels": 1,
        "size": [8, 8],
        "mean": [0.5],
        "std": [0.5],
        "classes": ["fly", "bee"],
    }
    each["utilisation"], each["binding"] = dict.fromkeys(each["budgets"], 0.95), "latency_ms"
    each["profile"]["error"]["mape"] = 0.1


def warned(**fields: Any) -> list[Warned]:
    """Warnings of a sound result with some fields of one device, or of the search, changed."""
    result = deepcopy(SOUND)
    for key, value in fields.items():
        part = result if key in result else result["devices"][PHONE]
        part[key] = part[key] | value if isinstance(value, dict) else value
    return warnings_of(typed(result))


def test_a_sound_result_raises_none() -> None:
    assert warned() == []


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"search": {"entropy": 0.88}}, "the search did not decide"),
        ({"attempts": 2}, "more than one attempt"),
        ({"processors": ["a", "b"]}, "more than one kind of processor"),
        ({"earlier_code": [CODE]}, "Espalier changed during the search"),
        ({"code": {"changed": True}}, "Espalier changed since its commit"),
        ({"data": {"images": SOUND["data"]["images"] | {"test": 359}}}, "few test images"),
        ({"data": {"duplicates": COPIES | {"test_in_training": 3}}}, "the same images in two parts"),
        ({"data": {"duplicates": COPIES | {"in_two_classes": 2}}}, "the same images in two classes"),
        ({"data": {"untested": ["bee", "7"]}}, "classes without test images"),
        ({"met": False, "refuted_by": "latency_ms"}, "a budget is not met"),
        ({"utilisation": {"latency_ms": 0.79}}, "over a fifth of the latency_ms budget left unused"),
        ({"margin": "point"}, "budget held without a margin"),
        ({"cut": [CUT | {"refuted_by": "latency_ms"}]}, "candidates were refuted"),
        ({"validation": {"accuracy": 0.97}}, "wide gap from validation to test"),
        ({"file": None}, "not deployable"),
        ({"accuracy": {"finetuned": 0.9}}, "no better than the majority class"),
        ({"accuracy": {"inherited": 0.88}}, "random search is as good"),
        ({"profile": {"error": None, "error_reason": "never measured"}}, "latency of unknown error"),
        ({"profile": {"error": SOUND["devices"][PHONE]["profile"]["error"] | {"mape": 0.3}}}, "profile of wide error"),
        ({"upper_subject": "block"}, "bound of parts"),
    ],
)
def test_each_is_raised_by_its_cause_alone(fields: dict[str, Any], what: str) -> None:
    (found,) = warned(**fields)
    assert found.what == what and found.why
    assert found.device == (None if set(fields) & set(SOUND) else PHONE)


@pytest.mark.parametrize("other", [{"processors": ["a", "b"]}, {"earlier_code": [CODE]}])
def test_attempts_give_the_results_of_one_only_on_one_code_and_processor(other: dict[str, Any]) -> None:
    assert warned(attempts=2)[0].why.endswith("results are")
    found = warned(attempts=2, **other)
    assert not found[0].why.endswith("results are") and len(found) == 2


def test_no_warning_compares_the_random_strategy_with_itself() -> None:
    undecided = {"search": {"entropy": 0.88}, "accuracy": {"inherited": 0.88}}
    assert [w.what for w in warned(**undecided)] == ["the search did not decide", "random search is as good"]
    assert warned(strategy="random", **undecided) == []


def test_without_a_bound_or_an_error_a_profile_is_doubted_unless_a_measurement_decides() -> None:
    unknown: dict[str, Any] = {"profile": {"error": None, "error_reason": "never measured"}}
    upper = {"gflops": 1.0, "params_m": 1.0, "peak_memory_mb": 1.0}
    result = deepcopy(SOUND)
    device = result["devices"][PHONE]
    device |= {
        "upper": upper,
        "upper_level": None,
        "upper_subject": None,
        "profile": device["profile"] | unknown["profile"],
    }
    found = warnings_of(typed(result))
    assert [w.what for w in found] == ["latency of unknown error", "no upper bound"]
    assert found[0].why == "never measured"
    times: dict[str, Any] = dict.fromkeys(("latency_ms", "p50_ms", "p90_ms", "min_ms"), 9.0)
    words: dict[str, Any] = {"runtime": "onnxruntime", "versions": {}, "machine": "a machine"}
    device["measured"] = {**times, "repeats": 50, "threads": 1, **words}
    assert warnings_of(typed(result)) == []


def test_a_warning_is_told_with_its_figures() -> None:
    copies = COPIES | {"test_in_training": 3, "validation_in_training": 1200}
    (found,) = warned(data={"duplicates": copies})
    line = warning_line(found, {"data": {"duplicates": copies}})
    assert "test in training 3" in line and "validation in training 1,200" in line
    (found,) = warned(accuracy={"inherited": 0.37, "random": 0.3})
    content = {"accuracy": {"inherited": 0.37}, "validation": {"accuracy": 0.9}}
    assert "inherited 0.370" in warning_line(found, {"devices": {PHONE: content}})


def test_figures_name_fields_of_the_result() -> None:
    (found,) = warned(accuracy={"inherited": 0.37, "random": 0.3})
    assert found.figures == (
        ("validation", ("devices", PHONE, "validation", "accuracy")),
        ("inherited", ("devices", PHONE, "accuracy", "inherited")),
    )
