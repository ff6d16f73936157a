"""result.json and lineage.json: what a search writes is read as it is, anything else is refused by its field."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import InvalidInputError
from tests.sample_result import SAMPLE, sample_result, typed
from trainers.runs.files import TornFileError, write_text
from trainers.runs.lineage import read_lineage
from trainers.runs.result import read_result

Content = dict[str, Any]
RUNS = sorted(path.parent for path in SAMPLE.glob("*/*/result.json"))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_file_of_an_earlier_version_is_read_and_written_with_the_same_values(run: Path, tmp_path: Path) -> None:
    result, lineage = read_result(run / "result.json"), read_lineage(run / "lineage.json")
    for name, content in (("result.json", result), ("lineage.json", lineage)):
        write_text(tmp_path / name, content.to_json())
        before, after = (json.loads((folder / name).read_text(encoding="utf-8")) for folder in (run, tmp_path))
        if name == "result.json":
            before["code"].setdefault("plugins", {})  # which was added since
        assert after == before
    assert read_result(tmp_path / "result.json") == result


def test_a_profile_keeps_what_only_some_profiles_have() -> None:
    content = sample_result()
    more = {"units": {"cpu": {"remote": False}}, "error": None, "error_reason": "never measured"}
    content["devices"]["mid_tablet"]["profile"] |= more
    written = json.loads(typed(content).to_json())["devices"]["mid_tablet"]
    assert written["profile"] == content["devices"]["mid_tablet"]["profile"]


def tablet(**fields: Any) -> Callable[[Content], Any]:
    return lambda content: content["devices"]["mid_tablet"].update(fields)


def pop(*way: str) -> Callable[[Content], Any]:
    def change(content: Content) -> None:
        for key in way[:-1]:
            content = content[key]
        del content[way[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (tablet(met="yes"), "devices.mid_tablet.met"),
        (tablet(measured=3), "devices.mid_tablet.measured"),
        (tablet(candidates=[]), "devices.mid_tablet.candidates"),
        (tablet(margin="none"), "devices.mid_tablet.margin"),
        (tablet(held_by={"latency_ms": "guessed", "gflops": "upper"}), "devices.mid_tablet.held_by.latency_ms"),
        (tablet(budgets={"latency_ms": -1.0, "gflops": 1.0}), "devices.mid_tablet.budgets.latency_ms"),
        (tablet(more=1), "devices.mid_tablet.more"),
        (pop("devices", "mid_tablet", "taken"), "devices.mid_tablet.taken"),
        (
            lambda c: c["devices"]["mid_tablet"]["accuracy"].update(finetuned=1.5),
            "devices.mid_tablet.accuracy.finetuned",
        ),
        (lambda c: c["devices"].update({"../elsewhere": c["devices"].pop("mid_tablet")}), "devices.../elsewhere.[key]"),
        (lambda c: c["search"].update(train_seconds=float("inf")), "search.train_seconds"),
        (lambda c: c["search"]["choices_alive"].pop("mid_tablet"), "search"),
        (lambda c: c["objective"].pop("mid_tablet/gflops"), "objective"),
        (lambda c: c["objective"].update(validation_accuracy="high"), "objective.validation_accuracy"),
        (pop("transfer", "mid_tablet", "iot_terminal"), "transfer"),
        (pop("code", "changed"), "code.changed"),
        (lambda c: c.update(schema=9), "schema"),
        (lambda c: c.update(seed=True), "seed"),
        (pop("files"), "files"),
    ],
)
def test_a_field_that_no_search_writes_so_is_refused_by_its_name(
    tmp_path: Path, change: Callable[[Content], Any], field: str
) -> None:
    content = sample_result()
    change(content)
    (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidInputError) as refused:
        read_result(tmp_path / "result.json")
    assert str(refused.value).splitlines()[1].strip().startswith(f"{field}: ")
    assert "result.json" in str(refused.value) and not isinstance(refused.value, TornFileError)


@pytest.mark.parametrize(
    "fields",
    [
        {"binding": "params_m"},
        {"refuted_by": "params_m"},
        {"utilisation": {"latency_ms": 0.5}},
        {"held": {"latency_ms": 1.0, "gflops": 1.0, "params_m": 1.0}},
        {"predicted": {"latency_ms": 1.0}},
        {"upper_level": None},
        {"recounted": {"gflops": 1.0}},
    ],
)
def test_metrics_that_one_field_of_a_device_has_and_another_lacks_are_refused(fields: Content) -> None:
    content = sample_result()
    content["devices"]["mid_tablet"].update(fields)
    with pytest.raises(ValueError, match=r"devices\.mid_tablet"):
        typed(content)


@pytest.mark.parametrize("content", ["", '{"schema": 1', "[" * 100_000, "\xff"])
def test_a_torn_file_is_told_from_a_malformed_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(TornFileError, match=r"result\.json"):
        read_result(tmp_path / "result.json")


def test_the_schema_imports_nothing_heavy() -> None:
    code = "import sys, trainers.runs.result; print({'torch', 'numpy', 'pandas', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
