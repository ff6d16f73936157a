"""`espalier-report verify` passes over nothing: each field of a result is checked, or named as not checked."""

import json
import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from hardware_models.measuring import host
from hardware_models.measuring.measure import Measurement, versions
from search_spaces.architecture import read_architecture
from search_spaces.errors import EspalierError
from tests.reported_runs import change, searched
from tests.tiny_search import MOBILE_SPACE, tiny_config
from trainers.analysis.loading import Run, load_run
from trainers.analysis.run_files import read_result
from trainers.cli.search import run_search
from trainers.data.datasets import ImageData, load_data
from trainers.reports import verify
from trainers.reports.check import Check
from trainers.reports.recount import Rebuilt, rebuild
from trainers.reports.verify import checks_of, verify_run
from trainers.runs.config import SearchConfig, validate
from trainers.search import certificate
from trainers.search.plan import CHANNELS, data_config

HOST = ("hardware=[host,iot_terminal]", "hardware.host.budgets.latency_ms=1e5")
# What `espalier-search` would measure: a machine of round figures, so that no test depends on its own.
MEASURED = {
    "latency": {
        "model": "roofline",
        "weight_gb_per_s": 10.0,
        "activation_gb_per_s": 10.0,
        "kinds": {
            kind: {"throughput_gops": 10.0, "overhead_ms": 0.01}
            for kind in ("pointwise", "dense", "depthwise", "linear", "pool", "elementwise")
        },
    },
    "error": {"method": "none", "n": 18, "mape": 0.2, "median_ape": 0.2, "within_20_share": 0.5, "spearman": 0.9},
    "bound": {"level": 0.9, "n": 18, "factor": 2.0},
    "source": "a test",
    "measured": ["nothing"],
    "inferred": ["all"],
}


@dataclass(frozen=True)
class Verified:
    """A finished run, of which the expensive part of its verification is done."""

    run: Run
    config: SearchConfig
    data: ImageData
    rebuilt: Rebuilt

    def checks(self, result: dict[str, Any]) -> list[Check]:
        return checks_of(replace(self.run, result=result), self.config, data=self.data, rebuilt=self.rebuilt)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on two priced devices, one whose strategy learns nothing, and one on this machine and a priced device."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host, "measure_host_profile", lambda *, threads, cache_dir: MEASURED)
        measured = searched(folder, *HOST, "trainer.candidates=3")
    random = searched(folder, "strategy=random", "trainer.candidates=3")
    return {"priced": searched(folder, "seed=0", "trainer.candidates=3"), "random": random, "host": measured}


@pytest.fixture
def verified(request: pytest.FixtureRequest, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Verified:
    """The run of that name. Its files stay as they are, so each is hashed once."""
    monkeypatch.setattr(verify, "versions", cache(verify.versions))
    hashes = verify.file_hashes
    hashed = cache(lambda folder, name: hashes(folder, [name])[name])
    monkeypatch.setattr(verify, "file_hashes", lambda folder, names: {name: hashed(folder, name) for name in names})
    run = load_run(runs[request.param])
    config = validate(run.config)
    data = load_data(data_config(config.data), channels=CHANNELS)
    assert run.result is not None
    return Verified(run, config, data, rebuild(run.path, config, run.result, data))


def copied(runs: dict[str, Path], name: str, folder: Path) -> Path:
    return Path(shutil.copytree(runs[name], folder / runs[name].name))


def failed(checks: list[Check]) -> str:
    return "\n".join(check.line for check in checks if check.outcome == "FAILED")


def is_told(checks: list[Check], path: str) -> bool:
    """Whether a check has failed, or one names the field, or what holds it, as not checked."""
    named = [field for check in checks if check.outcome == "not checked" for field in check.fields]
    return bool(failed(checks)) or any(fnmatchcase(path, field) or fnmatchcase(path, f"{field}.*") for field in named)


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value of a JSON file, those that hold others too."""
    if path:
        yield path
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield from places(content[key], (*path, key))


def others(value: Any) -> list[Any]:
    """What could stand in place of a value."""
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value * 1.001, value + 1] if value else [1]
        case str():
            return [f"{value}x"]
        case None:
            return [1]
        case list():
            return [value[:-1], [*value, value[0]]] if value else [[1]]
        case _:
            return [{**value, "more": 1}]


def changed(content: dict[str, Any], below: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The content with one value changed, or with one key gone: which, to what, and the whole."""
    gone = object()
    for path in places(content):
        if not ".".join(map(str, path)).startswith(below):
            continue
        *way, last = path
        copy = deepcopy(content)
        place = copy
        for key in way:
            place = place[key]
        for value in [*others(place[last]), *([gone] if isinstance(place, dict) else [])]:
            if value is gone:
                del place[last]
            else:
                place[last] = value
            yield ".".join(map(str, path)), "gone" if value is gone else value, copy


def is_refused(content: dict[str, Any], folder: Path) -> bool:
    """Whether what loads a result refuses it, by name: so does `verify` then."""
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    try:
        read_result(folder / "result.json")
    except EspalierError:
        return True
    return False


@pytest.mark.parametrize(
    ("verified", "below", "fewest"),
    [("priced", "", 800), ("host", "devices.host", 300), ("host", "transfer", 50), ("random", "devices.mid", 200)],
    indirect=["verified"],
)
def test_whatever_changes_in_a_result_is_told(verified: Verified, below: str, fewest: int, tmp_path: Path) -> None:
    result = verified.run.result
    assert result is not None and failed(verified.checks(result)) == ""
    silent, tried = [], 0
    for path, value, content in changed(result, below):
        tried += 1
        if not is_told(verified.checks(content), path) and not is_refused(content, tmp_path):
            silent.append((path, value))
    assert silent == []
    assert tried > fewest


def altered(run: Path, **fields: Any) -> None:
    """Changes fields of result.json, dotted ways with double underscores."""
    content = json.loads((run / "result.json").read_text())
    for field, value in fields.items():
        *way, last = field.split("__")
        place = content
        for key in way:
            place = place[key]
        place[last] = value
    (run / "result.json").write_text(json.dumps(content))


def test_costs_of_a_host_that_agree_with_each_other_and_not_with_its_files_are_named(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    run = copied(runs, "host", tmp_path)
    result = json.loads((run / "result.json").read_text())
    budgets, share = {**result["devices"]["host"]["budgets"], "latency_ms": 198.0}, 0.5
    altered(
        run,
        devices__host__measured__latency_ms=99.0,
        devices__host__measured__p50_ms=99.0,
        devices__host__measured__p90_ms=99.5,
        devices__host__held__latency_ms=99.0,
        devices__host__budgets=budgets,
        devices__host__utilisation__latency_ms=share,
        devices__host__binding="latency_ms",
        devices__host__recounted__gflops=0.5,
    )
    lines = failed(verify_run(run))
    for field in ("measured.latency_ms", "budgets.latency_ms", "recounted.gflops"):
        assert f"devices.host.{field} is " in lines
    assert "lineage.json.measurements.host.latency_ms is " in lines


def test_a_measurement_whose_lineage_is_nested_without_an_end_fails_by_its_file(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    run = copied(runs, "host", tmp_path)
    (run / "lineage.json").write_text("[" * 200_000)
    lines = failed(verify_run(run))
    for check in ("lineage", "host: network"):
        assert re.search(rf"{check}: cannot read .*lineage\.json: maximum recursion depth exceeded", lines)


def test_a_host_over_its_budget_is_not_met_whatever_it_says(runs: dict[str, Path], tmp_path: Path) -> None:
    run = copied(runs, "host", tmp_path)
    altered(run, devices__host__measured__latency_ms=2e5)
    lines = failed(verify_run(run))
    assert "devices.host.met is True, found False" in lines
    assert "devices.host.refuted_by is None, found 'latency_ms'" in lines


def test_weights_without_their_hashes_are_named(runs: dict[str, Path], tmp_path: Path) -> None:
    """A little other weights, which test as well; who changed them took the hashes away, and with them a check."""
    run = copied(runs, "priced", tmp_path)
    for path in (run / "weights").iterdir():
        owner = read_architecture(run / "architectures" / f"{path.stem}.json").id
        tensors = safetensors.torch.load_file(path)
        tensors["classifier.bias"] *= 1.0001
        safetensors.torch.save_file(tensors, path, {"architecture": owner})
    result = json.loads((run / "result.json").read_text())
    hashes = result.pop("files")
    (run / "result.json").write_text(json.dumps(result))
    assert "files: got nothing" in failed(verify_run(run))
    change(run / "result.json", files={name: digest for name, digest in hashes.items() if "weights" not in name})
    lines = failed(verify_run(run))
    assert "file weights/mid_tablet.safetensors: files.weights/mid_tablet.safetensors is missing" in lines
    assert "lineage.json.models.mid_tablet.id is " in lines


def test_a_file_without_its_hash_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    run = copied(runs, "priced", tmp_path)
    files = json.loads((run / "result.json").read_text())["files"]
    del files["metrics.csv"]
    change(run / "result.json", files=files)
    (run / "metrics.csv").write_text((run / "metrics.csv").read_text().replace("1,", "2,", 1))
    assert "file metrics.csv: files.metrics.csv is missing" in failed(verify_run(run))


def test_a_better_validation_than_that_of_the_network_taken_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    """The objective is made to agree."""
    run = copied(runs, "priced", tmp_path)
    result = json.loads((run / "result.json").read_text())
    result["devices"]["mid_tablet"]["validation"]["accuracy"] = 1.0
    other = result["devices"]["iot_terminal"]["validation"]["accuracy"]
    more = {"mid_tablet/validation_accuracy": 1.0, "validation_accuracy": (1.0 + other) / 2}
    altered(run, devices=result["devices"], objective={**result["objective"], **more})
    lines = failed(verify_run(run))
    assert "mid_tablet: taken: devices.mid_tablet.taken.validation_accuracy is " in lines
    assert "objective" not in lines


def test_a_candidate_that_none_was_is_named(runs: dict[str, Path], tmp_path: Path) -> None:
    run = copied(runs, "priced", tmp_path)
    rows = json.loads((run / "result.json").read_text())["devices"]["mid_tablet"]["candidates"]
    best = {**rows[0], "notation": rows[0]["notation"].replace("k3", "k5", 1), "validation_accuracy": 1.0}
    altered(run, devices__mid_tablet__candidates=[best, *rows[1:]])
    assert "devices.mid_tablet.taken.notation is " in failed(verify_run(run))
    altered(run, devices__mid_tablet__candidates=[*rows, {**best, "validation_accuracy": 0.0}])
    assert "devices.mid_tablet.candidates has 4 networks, of at most 3" in failed(verify_run(run))
    altered(run, devices__mid_tablet__candidates=[rows[0], {**rows[1], "utilisation": 5.0}, rows[2]])
    assert "devices.mid_tablet.candidates.1.utilisation is 5.0" in failed(verify_run(run))


def test_the_best_random_network_is_the_one_taken_where_nothing_is_learnt(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    run = copied(runs, "random", tmp_path)
    accuracy = json.loads((run / "result.json").read_text())["devices"]["mid_tablet"]["accuracy"]
    altered(run, devices__mid_tablet__accuracy__random=0.0 if accuracy["inherited"] else 1.0)
    assert "devices.mid_tablet.accuracy.random is " in failed(verify_run(run))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", "another"),
        ("attempt", 2),
        ("error", "none"),
        ("status", "unmet"),
        ("progress", {"epoch": 1, "epochs": 2}),
        ("progress", None),
    ],
)
def test_a_status_that_ended_otherwise_is_named(runs: dict[str, Path], tmp_path: Path, field: str, value: Any) -> None:
    run = copied(runs, "priced", tmp_path)
    change(run / "status.json", **{field: value})
    assert failed(verify_run(run))


@pytest.mark.parametrize(("times_ms", "state"), [([2e5, 1.0], "done"), ([2e5], "unmet")])
def test_a_run_that_cut_networks_passes_and_says_that_their_measurements_are_gone(
    times_ms: list[float], state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine is over its budget of 1e5 ms at first, or always."""
    left = list(times_ms)

    def time_module(*arguments: Any, **settings: Any) -> Measurement:
        found = left.pop(0) if len(left) > 1 else left[0]
        return Measurement(found, found, found, 50, 1, "onnxruntime", versions(), "a machine")

    monkeypatch.setattr(host, "measure_host_profile", lambda *, threads, cache_dir: MEASURED)
    monkeypatch.setattr(certificate, "time_module", time_module)
    config = tiny_config(tmp_path, *MOBILE_SPACE, "hardware=[host]", HOST[1], "trainer.max_cuts=2")
    result = run_search(config, lambda line: None)
    assert result["status"] == state and len(result["devices"]["host"]["cut"]) == 1
    checks = verify_run(config.run_folder)
    assert failed(checks) == ""
    assert any("devices.host.cut" in check.fields for check in checks)
    altered(config.run_folder, devices__host__cut=[])
    assert "devices.host.taken" in failed(verify_run(config.run_folder))
