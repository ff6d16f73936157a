"""`espalier-report verify`: a run as it was written passes, and whatever a certificate rests on is compared."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import yaml

from hardware_models.measuring import host_profile
from hardware_models.measuring.measure import Measurement, versions
from search_spaces.architecture import architecture_of, build_space, read_architecture
from tests.reported_runs import COMMAND, change, ended, rewrite, searched, set_field
from tests.tiny_search import CELLS, MOBILE_SPACE, tiny_config
from trainers.analysis.loading import load_run
from trainers.cli.report_command import run as espalier_report
from trainers.cli.search import run_search
from trainers.data.image_set import DATASETS, ImageSet, Subset
from trainers.reports import verify
from trainers.reports.check import Check
from trainers.reports.verify import verify_run
from trainers.runs.config import validate
from trainers.search import deployment
from trainers.search.result_writer import RUN_FILES

TABLET = "devices.mid_tablet"
FILES = ("weights/mid_tablet.safetensors", "architectures/mid_tablet.json", *RUN_FILES)
HOST = "hardware.host.budgets.latency_ms=1e5"
KINDS = ("pointwise", "dense", "depthwise", "linear", "pool", "elementwise")
# What `espalier-search` would measure: a machine of round figures, so that no test depends on its own.
MEASURED = {
    "latency": {
        "model": "roofline",
        "weight_gb_per_s": 10.0,
        "activation_gb_per_s": 10.0,
        "kinds": {kind: {"throughput_gops": 10.0, "overhead_ms": 0.01} for kind in KINDS},
    },
    "error": {"method": "none", "n": 18, "mape": 0.2, "median_ape": 0.2, "within_20_share": 0.5, "spearman": 0.9},
    "bound": {"level": 0.9, "n": 18, "factor": 2.0},
    "source": "a test",
    "measured": ["nothing"],
    "inferred": ["all"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("runs"), "seed=0")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to change."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


def checks(run: Path, outcome: str) -> dict[str, Check]:
    return {check.what: check for check in verify_run(run) if check.outcome == outcome}


def failed(run: Path) -> set[str]:
    """The fields that failed; the name of a check that has none."""
    return {name for what, check in checks(run, "FAILED").items() for name in check.fields or (what,)}


def rehash(run: Path) -> None:
    """Makes result.json's hashes those of the files as they are: whoever changed a file changed its hash too."""
    files = json.loads((run / "result.json").read_text())["files"]
    change(run / "result.json", files={f: hashlib.sha256((run / f).read_bytes()).hexdigest() for f in files})


def edit_config(run: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Changes config.yaml, and the hashes that follow from it."""
    content = yaml.safe_load((run / "config.yaml").read_text())
    edit(content)
    (run / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    set_field(run, "hashes.config", validate(content).digest)
    rehash(run)


def save_weights(run: Path, device: str, change: Callable[[dict[str, Any]], None], owner: str | None = None) -> None:
    """Changes the weights of a device; they remain those of its network, or of `owner`, and get a new hash."""
    path = run / "weights" / f"{device}.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    own = read_architecture(run / "architectures" / f"{device}.json").id
    safetensors.torch.save_file(tensors, path, {"architecture": owner or own})
    rehash(run)


def test_a_run_as_it_was_written_passes(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert espalier_report(["verify", str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith(f"ok, 0 failed, {len(verify.NOT_CHECKED)} not checked")
    devices = [f"{name}: {what}" for name in ("mid_tablet", "iot_terminal") for what in verify.LINES]
    for due in (*(f"file {name}" for name in FILES), *devices, "cost table", "data split", "configuration", "lineage"):
        assert f"ok           {due}" in lines


@pytest.mark.slow
def test_cells_and_a_device_of_several_units_pass(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, *CELLS, "hardware=[nb201_pixel3,split_phone_server]", "strategy.pool_size=32")
    run_search(config, lambda line: None, command=COMMAND)
    assert failed(config.run_folder) == set()


CHANGES = {
    f"{TABLET}.id": "0" * 64,
    f"{TABLET}.notation": "32px",
    f"{TABLET}.architecture": "architectures/iot_terminal.json",
    f"{TABLET}.recounted.gflops": 0.5,
    f"{TABLET}.recounted.params_m": 0.5,
    f"{TABLET}.predicted.latency_ms": 1.0,
    f"{TABLET}.predicted.peak_memory_mb": 1.0,
    f"{TABLET}.upper.latency_ms": 1.0,
    f"{TABLET}.upper_level": 0.99,
    f"{TABLET}.placement": [],
    f"{TABLET}.budgets.gflops": 1.9,
    f"{TABLET}.margin": "point",
    f"{TABLET}.profile.bound.factor": 1.0,
    f"{TABLET}.measured_reason": None,
    f"{TABLET}.met": False,
    f"{TABLET}.refuted_by": "gflops",
    f"{TABLET}.held.latency_ms": 1.0,
    f"{TABLET}.held_by.latency_ms": "measured",
    f"{TABLET}.utilisation.latency_ms": 0.5,
    f"{TABLET}.accuracy.images": 81,
    "transfer.mid_tablet.iot_terminal.latency_ms": 1.0,
    "transfer.mid_tablet.iot_terminal.within": False,
    "objective.utilisation": 0.999,
    "objective.validation_accuracy": 0.999,
    "hashes.config": "0" * 64,
    "hashes.cost_table": "0" * 64,
    "data.split_hash": "0" * 64,
    "data.images.test": 7,
    "data.duplicates.test_in_training": 7,
    "data.majority.share": 0.99,
    f"{TABLET}.accuracy.balanced.finetuned": 0.123,
    "search.choices_alive.mid_tablet": 1,
    "seed": 7,
    "strategy": "random",
    "space": "nasbench201",
    "command": "another",
    "attempts": 7,
}


def test_each_changed_field_fails(run: Path) -> None:
    accuracy = json.loads((run / "result.json").read_text())["devices"]["mid_tablet"]["accuracy"]["finetuned"]
    for field, value in CHANGES.items():
        set_field(run, field, value)
    set_field(run, "data.untested", ["3"])
    set_field(run, f"{TABLET}.accuracy.finetuned", accuracy + (-0.1 if accuracy > 0.5 else 0.1))
    set_field(run, "versions.torch", "1.0.0")
    started = {f"status.json.{name}" for name in ("hashes.config", "hashes.cost_table", "versions.torch")}
    assert {*CHANGES, *started, "data.untested.0", f"{TABLET}.accuracy.finetuned", "status"} <= failed(run)


def test_each_file_is_hashed(run: Path) -> None:
    files = json.loads((run / "result.json").read_text())["files"]
    every = {f"files.{name}" for name in FILES}
    change(run / "result.json", files=dict.fromkeys(files, "0" * 64))
    assert every <= failed(run)
    change(run / "result.json", files={"../../../../etc/hostname": "0" * 64})  # outside the run, so it is not read
    assert {*every, "files.../../../../etc/hostname"} <= failed(run)
    change(run / "result.json", files=files)
    for name in FILES:
        (run / name).unlink()
    assert every - {"files.config.yaml"} <= failed(run)


def test_another_configuration_with_its_own_hash_gives_itself_away(run: Path) -> None:
    """Cheaper prices, hashes and all: the table built from them is not the one that was searched with."""

    def cheaper(content: dict[str, Any]) -> None:
        content["hardware"]["mid_tablet"]["latency"]["weight_gb_per_s"] *= 2
        content["hardware"]["mid_tablet"]["budgets"]["latency_ms"] = 75

    edit_config(run, cheaper)
    due = {"hashes.cost_table", f"{TABLET}.budgets.latency_ms", f"{TABLET}.predicted.latency_ms"}
    assert due <= failed(run)


def with_another_kernel(run: Path) -> tuple[Path, dict[str, Any]]:
    """The file of an architecture, and its choices but for one."""
    path = run / "architectures" / "mid_tablet.json"
    architecture = read_architecture(path)
    decision = build_space(architecture).decision("stage0.block0.kernel")
    taken = architecture.choices[decision.name]
    return path, {**architecture.choices, decision.name: next(c for c in decision.choices if c != taken)}


def test_another_choice_in_an_architecture_fails_by_its_id(run: Path) -> None:
    path, choices = with_another_kernel(run)
    change(path, choices=choices)
    rehash(run)
    assert any("mid_tablet.json: field 'id'" in check.why for check in checks(run, "FAILED").values())


def test_another_network_in_place_of_the_one_found_fails(run: Path) -> None:
    path, choices = with_another_kernel(run)
    path.write_text(architecture_of(build_space(read_architecture(path)), choices).to_json())
    rehash(run)
    assert {f"{TABLET}.id", f"{TABLET}.weights", "prune.csv.mid_tablet.stage0.block0.kernel"} <= failed(run)


def test_weights_that_are_not_those_of_the_network_fail(run: Path) -> None:
    save_weights(run, "mid_tablet", lambda tensors: tensors["classifier.bias"].mul_(1.0001), owner="0" * 64)
    weights = run / "weights" / "iot_terminal.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    rehash(run)
    lineage = {f"lineage.json.models.{name}.id" for name in ("mid_tablet", "iot_terminal")}
    assert {*lineage, f"{TABLET}.weights", "devices.iot_terminal.weights"} <= failed(run)


def test_weights_that_test_otherwise_fail(run: Path) -> None:
    save_weights(run, "mid_tablet", lambda tensors: tensors["classifier.bias"][4].add_(1e6))
    set_field(run, f"{TABLET}.accuracy.finetuned", 0.95123)  # of ten kinds of image it names one
    assert f"{TABLET}.accuracy.finetuned" in failed(run)


def test_a_pruning_log_that_leaves_another_network_fails(run: Path) -> None:
    lines = (run / "prune.csv").read_text().splitlines()
    last = next(i for i in reversed(range(len(lines))) if ",mid_tablet," in lines[i])
    (run / "prune.csv").write_text("\n".join([*lines[:last], *lines[last + 1 :]]) + "\n")
    rehash(run)
    assert failed(run) == {"mid_tablet: network"}


def test_a_status_that_ended_otherwise_fails(run: Path) -> None:
    change(run / "status.json", status="unmet", attempt=2, hashes={"config": "0"})
    assert {"status", "attempts", "status.json.hashes.config"} <= failed(run)


def test_a_torn_or_malformed_result_fails_by_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (run / "result.json").read_text()
    for spoiled in (whole[:500], whole.replace('"seed"', '"sown"', 1)):
        (run / "result.json").write_text(spoiled)
        assert espalier_report(["verify", str(run)]) == 1
        assert "result.json" in capsys.readouterr().out


def test_what_this_machine_lacks_is_not_checked_and_fails_nothing(run: Path, tmp_path: Path) -> None:
    set_field(run, "versions.torch", "1.0.0")
    rewrite(run / "status.json", lambda content: content["versions"].update(torch="1.0.0"))
    assert failed(run) == set() and "versions" in checks(run, "not checked")
    data = {"name": "fashion_mnist", "root": str(tmp_path / "nowhere")}
    edit_config(run, lambda content: content["data"].update(data))
    assert {"data split", "mid_tablet: finetuned accuracy"} <= set(checks(run, "not checked"))


def test_the_data_are_read_once(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, subsets = DATASETS["digits"], list[Subset]()

    def count(subset: Subset) -> ImageSet:
        subsets.append(subset)
        return read(subset=subset)

    monkeypatch.setitem(DATASETS._registered, "digits", count)
    assert failed(finished) == set()
    assert len(subsets) == 1


def measured_search(runs: Path, times_ms: list[float], *overrides: str) -> Path:
    """A run on this machine, whose budget is 1e5 ms and whose networks take these times."""
    left = list(times_ms)

    def time_module(*arguments: Any, **settings: Any) -> Measurement:
        found = left.pop(0)
        return Measurement(found, found, found, 50, 1, "onnxruntime", versions(), "a machine")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_profile, "measure_host_profile", lambda *, threads, cache_dir: MEASURED)
        patch.setattr(deployment, "time_module", time_module)
        config = tiny_config(runs, *MOBILE_SPACE, HOST, "trainer.max_cuts=2", *overrides)
        run_search(config, lambda line: None)
    return config.run_folder


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on this machine, over its budget at first, and on a priced device."""
    return measured_search(tmp_path_factory.mktemp("hosts"), [2e5, 1.0], "hardware=[host,iot_terminal]")


def test_prices_measured_on_the_machine_that_searched_are_not_checked(on_host: Path) -> None:
    assert len(load_run(on_host).device_results["host"].cut) == 1
    assert failed(on_host) == set()
    assert {"cost table", "host: latency predicted", "iot_terminal: on host"} <= set(checks(on_host, "not checked"))


@pytest.mark.parametrize(("latency_ms", "broken"), [(99.0, "utilisation.latency_ms"), (2e5, "met")])
def test_another_measurement_is_not_that_of_the_lineage_and_decides(
    on_host: Path, tmp_path: Path, latency_ms: float, broken: str
) -> None:
    run = Path(shutil.copytree(on_host, tmp_path / on_host.name))
    set_field(run, "devices.host.measured.latency_ms", latency_ms)
    assert {"lineage.json.measurements.host.latency_ms", f"devices.host.{broken}"} <= failed(run)


@pytest.mark.slow
def test_a_run_none_of_whose_networks_meets_its_budget_passes(tmp_path: Path) -> None:
    run = measured_search(tmp_path, [2e5, 2e5], "hardware=[host]")
    assert load_run(run).state.state == "unmet" and failed(run) == set()


def test_each_run_of_a_sweep_is_checked_in_a_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    altered = Path(shutil.copytree(run, run.parent / "altered"))
    set_field(altered, "devices.mid_tablet.met", False)
    open_run = ended(run, "interrupted", "interrupted", error="ended by SIGTERM")
    assert espalier_report(["verify", str(run.parent)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("altered  ") and " 0 failed" not in lines[0]
    faults = [line for line in lines if line.startswith("FAILED")]
    assert faults == lines[1 : 1 + len(faults)] and any("mid_tablet" in line for line in faults)
    assert any(line.startswith("interrupted  not verified: ") for line in lines)
    assert any(line.startswith(f"{run.name}  ") and " 0 failed" in line for line in lines)
    shutil.rmtree(altered)
    assert espalier_report(["verify", str(run.parent)]) == 0
    assert espalier_report(["verify", str(run / "weights")]) == 2
    assert espalier_report(["verify", str(open_run)]) == 2
    assert COMMAND in capsys.readouterr().err  # which ends it


def test_help_answers_without_torch() -> None:
    code = (
        "import sys; from trainers.cli.report_command import run\n"
        "try: run(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'jinja2', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "espalier-report verify runs/" in done.stdout and "Exit codes" in done.stdout
