"""result.json and lineage.json: what a search writes is read as it is, anything else is refused by its field."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import InvalidInputError
from tests.sample_result import SAMPLE, sample_result, typed
from trainers.runs.files import write_text
from trainers.runs.lineage import read_lineage
from trainers.runs.result import read_result
from trainers.runs.result_parts import ACCURACIES

Content = dict[str, Any]
RUNS = sorted(path.parent for path in SAMPLE.glob("*/*/result.json"))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_file_of_an_earlier_version_is_read_and_written_with_the_same_values(run: Path, tmp_path: Path) -> None:
    result, lineage = read_result(run / "result.json"), read_lineage(run / "lineage.json")
    for name, content in (("result.json", result), ("lineage.json", lineage)):
        write_text(tmp_path / name, content.to_json())
        before, after = (json.loads((folder / name).read_text(encoding="utf-8")) for folder in (run, tmp_path))
        if name == "result.json":
            before["code"].setdefault("plugins", {})  # which was added since, as what follows
            before["data"].setdefault("left_out", {})
            before["data"] |= {"duplicates": None, "majority": None, "untested": []}
            for device in before["devices"].values():
                device["validation"]["balanced_accuracy"] = None
                device["accuracy"] |= {"balanced": dict.fromkeys(ACCURACIES), "deployed": None}
                device |= {
                    "best": [],
                    "stale": [],
                    **dict.fromkeys(("trained_size", "input_size", "file", "decided_by")),
                }
                device |= {"trained_smaller": False, "decided_by": [], "agreement": {}}
                rows = [device["taken"], *device["candidates"], *device["random_candidates"], *device["cut"]]
                for row in (*rows, *(device["larger_candidates_that_lost"] or [])):
                    row["evidence"] = {}
            before["search"] |= dict.fromkeys(("prior", "cpu_seconds", "peak_gpu_memory_mb", "pruning"))
            for found in (found for row in before["transfer"].values() for found in row.values()):
                found |= {"flash_kb": None, "sram_kb": None}
            before["search"] |= {"accelerator": "cpu", "processes": 1, "precision": "32-true"}
        assert after == before
    assert read_result(tmp_path / "result.json") == result


def test_a_profile_keeps_what_only_some_profiles_have() -> None:
    content = sample_result()
    more = {"units": {"cpu": {"remote": False}}, "error": None, "error_reason": "never measured"}
    content["devices"]["mid_tablet"]["profile"] |= more
    written = json.loads(typed(content).to_json())["devices"]["mid_tablet"]
    assert written["profile"] == content["devices"]["mid_tablet"]["profile"]


def at(content: Content, way: str) -> Content:
    for key in way.split("/"):
        content = content[key] if key else content
    return content


@pytest.mark.parametrize(
    ("place", "key", "value", "field"),
    [
        ("devices/mid_tablet", "met", "yes", "devices.mid_tablet.met"),
        ("devices/mid_tablet", "candidates", [], "devices.mid_tablet.candidates"),
        ("devices/mid_tablet/budgets", "latency_ms", -1.0, "devices.mid_tablet.budgets.latency_ms"),
        ("devices/mid_tablet", "more", 1, "devices.mid_tablet.more"),
        ("devices/mid_tablet", "taken", None, "devices.mid_tablet.taken"),
        ("devices/mid_tablet/accuracy", "finetuned", 1.5, "devices.mid_tablet.accuracy.finetuned"),
        ("devices/mid_tablet", "binding", "params_m", "devices.mid_tablet"),  # which has no budget
        ("devices/mid_tablet", "utilisation", {"latency_ms": 0.5}, "devices.mid_tablet"),
        ("devices/mid_tablet", "upper_level", None, "devices.mid_tablet"),  # then there is no upper latency
        ("devices/mid_tablet", "recounted", {"gflops": 1.0}, "devices.mid_tablet"),
        ("devices", "../elsewhere", {}, "devices.../elsewhere"),
        ("search", "choices_alive", {"mid_tablet": 1}, "search.choices_alive"),
        ("objective", "validation_accuracy", "high", "objective.validation_accuracy"),
        ("objective", "more", 1.0, "objective"),
        ("transfer", "mid_tablet", {}, "transfer.mid_tablet"),
        ("code", "changed", 1, "code.changed"),
        ("", "schema", 9, "schema"),
        ("", "seed", True, "seed"),
        ("", "files", None, "files"),
    ],
)
def test_a_field_that_no_search_writes_so_is_refused_by_its_name(
    tmp_path: Path, place: str, key: str, value: object, field: str
) -> None:
    content = sample_result()
    at(content, place)[key] = value
    (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"result\.json") as refused:
        read_result(tmp_path / "result.json")
    assert str(refused.value).splitlines()[1].strip().startswith(f"{field}: ")


@pytest.mark.parametrize("content", ["", '{"schema": 1', "[" * 100_000, "\xff", None])
def test_a_file_that_is_none_is_refused_by_its_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "result.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"result\.json"):
        read_result(tmp_path / "result.json")


def test_the_schema_imports_nothing_heavy() -> None:
    code = "import sys, trainers.runs.result; print({'torch', 'numpy', 'pandas', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
