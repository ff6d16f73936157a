"""`espalier-report verify`: a run as it was written passes, and whatever was changed since is caught and named."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import yaml

from hardware_models.budgets.cost_table import CostTable
from search_spaces.architecture import architecture_of, build_space, read_architecture
from tests.reported_runs import COMMAND, change, searched, set_field
from tests.tiny_search import CELLS, tiny_config
from trainers.cli.report_command import run as espalier_report
from trainers.cli.search import run_search
from trainers.data.datasets import SOURCES, DataConfig
from trainers.reports.verify import verify_run
from trainers.runs.config import validate
from trainers.search.result_writer import RUN_FILES

TABLET = "devices.mid_tablet"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("runs"), "seed=0")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to change."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


def failed(run: Path) -> list[str]:
    return [check.line for check in verify_run(run) if check.outcome == "FAILED"]


def unchecked(run: Path) -> list[str]:
    return [check.line for check in verify_run(run) if check.outcome == "not checked"]


def rehash(run: Path) -> None:
    """Makes result.json's hashes those of the files as they are: whoever changed a file changed its hash too."""
    files = json.loads((run / "result.json").read_text())["files"]
    change(run / "result.json", files={f: hashlib.sha256((run / f).read_bytes()).hexdigest() for f in files})


def edit_config(run: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Changes config.yaml, and the hashes that follow from it."""
    content = yaml.safe_load((run / "config.yaml").read_text())
    edit(content)
    (run / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    hashes = json.loads((run / "result.json").read_text())["hashes"]
    change(run / "result.json", hashes={**hashes, "config": validate(content).digest})
    rehash(run)


def test_a_run_as_it_was_written_passes(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert espalier_report(["verify", str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("ok, 0 failed, 3 not checked")
    assert sum(line.startswith("ok ") for line in lines) > 50
    for due in ("file weights/mid_tablet.safetensors", "cost table", "data split", "configuration", "versions"):
        assert f"ok           {due}" in lines
    for part in ("recounted", "pruning log", "predicted, upper bound", "budgets met, as told", "fine-tuned accuracy"):
        assert f"ok           iot_terminal: {part}" in lines


def test_cells_and_a_device_of_several_units_pass(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, *CELLS, "hardware=[nb201_pixel3,split_phone_server]", "strategy.pool_size=32")
    run_search(config, lambda line: None, command=COMMAND)
    assert failed(config.run_folder) == []


# Changed together, no more than three in what one line compares.
CHANGES: list[dict[str, Any]] = [
    {
        f"{TABLET}.predicted.latency_ms": 1.0,
        f"{TABLET}.predicted.peak_memory_mb": 1.0,
        f"{TABLET}.upper.latency_ms": 1.0,
        f"{TABLET}.recounted.gflops": 0.5,
        f"{TABLET}.recounted.params_m": 0.5,
        f"{TABLET}.budgets.gflops": 1.9,
        f"{TABLET}.margin": "point",
        f"{TABLET}.upper_level": 0.99,
        f"{TABLET}.met": False,
        f"{TABLET}.binding": "gflops",
        f"{TABLET}.refuted_by": "gflops",
        f"{TABLET}.notation": "32px",
        f"{TABLET}.id": "0" * 64,
        f"{TABLET}.accuracy.finetuned": 0.999,
        "objective.seconds": 1e6,
        "objective.mid_tablet/latency_ms": 1.0,
        "transfer.mid_tablet.iot_terminal.latency_ms": 1.0,
        "transfer.mid_tablet.iot_terminal.within": False,
        "hashes.config": "0" * 64,
        "hashes.cost_table": "0" * 64,
        "hashes.data_split": "0" * 64,
        "data.images.test": 7,
        "seed": 7,
        "strategy": "random",
        "status": "unmet",
    },
    {
        f"{TABLET}.held.latency_ms": 1.0,
        f"{TABLET}.held_by.latency_ms": "measured",
        f"{TABLET}.utilisation.latency_ms": 0.5,
        f"{TABLET}.accuracy.images": 81,
        f"{TABLET}.profile.bound.factor": 1.0,
        "objective.utilisation": 0.999,
        "data.split_hash": "0" * 64,
        "space": "nasbench201",
    },
]


@pytest.mark.parametrize("changes", CHANGES, ids=["many", "others"])
def test_each_changed_field_is_named(run: Path, changes: dict[str, Any]) -> None:
    for field, value in changes.items():
        set_field(run, field, value)
    lines = "\n".join(failed(run))
    assert [field for field in changes if f"{field} is " not in lines] == []


def test_a_fault_of_the_cost_table_shows_in_what_networks_cost_elsewhere(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check sums the prices of the operations itself: a table that was a percent off then is so now."""
    named = CostTable.named

    def off(*args: Any) -> dict[str, float]:
        return {metric: 1.01 * total for metric, total in named(*args).items()}

    monkeypatch.setattr(CostTable, "named", off)
    table = json.loads((run / "result.json").read_text())["transfer"]["mid_tablet"]["iot_terminal"]
    set_field(run, "transfer.mid_tablet.iot_terminal.latency_ms", 1.01 * table["latency_ms"])
    assert any("transfer.mid_tablet.iot_terminal.latency_ms is " in line for line in failed(run))


def test_a_changed_hash_of_a_file_is_named(run: Path) -> None:
    files = json.loads((run / "result.json").read_text())["files"]
    change(run / "result.json", files={**files, "metrics.csv": "0" * 64})
    assert any("files.metrics.csv is " in line for line in failed(run))


@pytest.mark.parametrize(
    "field", ["versions", "search", "data", f"{TABLET}.margin", f"{TABLET}.profile", f"{TABLET}.accuracy.images"]
)
def test_a_field_that_is_gone_is_named_and_ends_in_no_traceback(
    run: Path, field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((run / "result.json").read_text())
    *way, last = field.split(".")
    place = content
    for key in way:
        place = place[key]
    del place[last]
    (run / "result.json").write_text(json.dumps(content))
    assert any(last in line for line in failed(run))
    code = espalier_report([str(run)])
    assert code == 0 or (code == 2 and last in capsys.readouterr().err)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "prune.csv", "alphas.npz", "lineage.json"])
def test_a_changed_file_is_named(run: Path, name: str) -> None:
    (run / name).write_bytes((run / name).read_bytes() + b"\n")
    assert any(name in line for line in failed(run))


@pytest.mark.parametrize("name", ["weights/mid_tablet.safetensors", "architectures/mid_tablet.json", *RUN_FILES])
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    assert any(f"file {name}: it is missing" in line for line in failed(run))


@pytest.mark.parametrize("text", [None, "epoch,step\n"])
def test_metrics_without_a_last_epoch_are_named_and_not_the_result(run: Path, text: str | None) -> None:
    (run / "metrics.csv").unlink()
    if text:
        (run / "metrics.csv").write_text(text)
    lines = failed(run)
    assert [line for line in lines if "result.json is not whole" in line] == []
    for part in ("status", "search"):
        assert f"FAILED       {part}: metrics.csv is missing, or has no row: nothing tells of the last epoch" in lines


def test_columns_that_the_metrics_lack_are_named(run: Path) -> None:
    (run / "metrics.csv").write_text("epoch,step\n1,6\n2,12\n")
    (line,) = (line for line in failed(run) if line.startswith("FAILED       search"))
    assert "search: metrics.csv lacks the columns " in line and "entropy" in line


@pytest.mark.parametrize(("key", "name"), [("versions", "torch"), ("code", "sha256"), ("hashes", "config")])
def test_what_a_status_lacks_of_its_origin_is_told_of_the_status(run: Path, key: str, name: str) -> None:
    told = json.loads((run / "status.json").read_text())[key]
    change(run / "status.json", **{key: {kept: value for kept, value in told.items() if kept != name}})
    assert failed(run) == [f"FAILED       what the last attempt started from: status.json.{key}.{name} is missing"]


def test_a_file_outside_the_run_is_not_read(run: Path) -> None:
    files = json.loads((run / "result.json").read_text())["files"]
    change(run / "result.json", files={**files, "../../../../etc/hostname": "0" * 64})
    assert any("outside the run" in line for line in failed(run))


def test_another_configuration_with_its_own_hash_gives_itself_away(run: Path) -> None:
    """Cheaper budgets and prices, hashes and all: the table built from them is not the one that was searched with."""

    def cheaper(content: dict[str, Any]) -> None:
        content["hardware"]["mid_tablet"]["latency"]["weight_gb_per_s"] *= 2
        content["hardware"]["mid_tablet"]["budgets"]["latency_ms"] = 75

    edit_config(run, cheaper)
    lines = "\n".join(failed(run))
    assert "cost table: hashes.cost_table" in lines and f"{TABLET}.budgets.latency_ms is 76" in lines
    assert f"{TABLET}.predicted.latency_ms" in lines


def test_another_network_in_place_of_the_one_found_is_named(run: Path) -> None:
    path = run / "architectures" / "mid_tablet.json"
    architecture = read_architecture(path)
    space = build_space(architecture)
    decision = next(d for d in space.decisions if d.name == "stage0.block0.kernel")
    other = next(choice for choice in decision.choices if choice != architecture.choices[decision.name])
    path.write_text(architecture_of(space, {**architecture.choices, decision.name: other}).to_json())
    rehash(run)
    lines = "\n".join(failed(run))
    assert f"{TABLET}.id" in lines and "mid_tablet: network: weights/mid_tablet.safetensors cannot be loaded" in lines


def test_a_changed_choice_without_its_hash_is_named(run: Path) -> None:
    path = run / "architectures" / "mid_tablet.json"
    path.write_text(
        path.read_text()
        .replace('"stage0.block0.kernel": 3', '"stage0.block0.kernel": 5', 1)
        .replace('"resolution": 32', '"resolution": 48', 1)
    )
    rehash(run)
    assert any("mid_tablet.json: field 'id' does not match" in line for line in failed(run))


def test_weights_of_another_network_are_named(run: Path) -> None:
    weights = {name: run / "weights" / f"{name}.safetensors" for name in ("mid_tablet", "iot_terminal")}
    tensors = safetensors.torch.load_file(weights["mid_tablet"])
    safetensors.torch.save_file(tensors, weights["mid_tablet"], {"architecture": "0" * 64})
    weights["iot_terminal"].write_bytes(weights["iot_terminal"].read_bytes()[:1000])
    rehash(run)
    lines = "\n".join(failed(run))
    assert f"are of network {'0' * 64}" in lines
    assert "weights/iot_terminal.safetensors cannot be loaded" in lines
    assert "lineage.json.models.mid_tablet.id is " in lines  # which kept their own hashes


def test_weights_that_do_worse_are_named(run: Path) -> None:
    path = run / "weights" / "mid_tablet.safetensors"
    architecture = read_architecture(run / "architectures" / "mid_tablet.json")
    tensors = safetensors.torch.load_file(path)
    tensors["classifier.bias"][4] += 1e6
    safetensors.torch.save_file(tensors, path, {"architecture": architecture.id})
    accuracy = json.loads((run / "result.json").read_text())["devices"]["mid_tablet"]["accuracy"]
    set_field(run, f"{TABLET}.accuracy.finetuned", min(0.9, accuracy["finetuned"] + 0.4))
    rehash(run)
    assert any(f"{TABLET}.accuracy.finetuned" in line for line in failed(run))


def test_a_ledger_that_leaves_another_network_is_named(run: Path) -> None:
    lines = (run / "prune.csv").read_text().splitlines()
    last = next(i for i in reversed(range(len(lines))) if ",mid_tablet," in lines[i])
    (run / "prune.csv").write_text("\n".join([*lines[:last], *lines[last + 1 :]]) + "\n")
    rehash(run)
    assert any("mid_tablet has not exactly one choice left" in line for line in failed(run))


def test_an_origin_that_is_not_that_of_the_result_is_named(run: Path) -> None:
    path = run / "architectures" / "mid_tablet.json"
    content = json.loads(path.read_text())
    content["origin"]["cost_table"] = "0" * 64
    path.write_text(json.dumps(content))
    rehash(run)
    assert any("mid_tablet: origin: architectures/mid_tablet.json: origin.cost_table" in line for line in failed(run))


def test_a_torn_result_fails_with_its_name(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "result.json").write_text((run / "result.json").read_text()[:500])
    assert espalier_report(["verify", str(run)]) == 1
    assert "result.json" in capsys.readouterr().out


def test_other_versions_are_told_and_fail_nothing(run: Path) -> None:
    set_field(run, "versions.torch", "1.0.0")
    origin = {"torch": "1.0.0"}
    for path in (run / "architectures").iterdir():
        content = json.loads(path.read_text())
        content["origin"]["versions"] |= origin
        path.write_text(json.dumps(content))
    versions = json.loads((run / "status.json").read_text())["versions"]
    change(run / "status.json", versions={**versions, **origin})
    rehash(run)
    assert failed(run) == []
    assert any(line.startswith("not checked  versions: torch 1.0.0 then, 2.") for line in unchecked(run))


def test_the_data_are_read_once(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, subsets = SOURCES["digits"], list[Any]()

    def told(config: DataConfig, subset: Any) -> Any:
        subsets.append(subset)
        return read(config, subset)

    monkeypatch.setitem(SOURCES, "digits", told)
    assert failed(finished) == []
    assert len(subsets) == 1


def test_data_that_are_not_here_are_not_checked(run: Path, tmp_path: Path) -> None:
    data = {"name": "fashion_mnist", "root": str(tmp_path / "nowhere")}
    edit_config(run, lambda content: content["data"].update(data))
    lines = "\n".join(unchecked(run))
    assert "not checked  data split: the data cannot be read here" in lines
    assert "not checked  mid_tablet: fine-tuned accuracy: the data cannot be read here" in lines


def test_prices_measured_on_the_machine_that_searched_are_not_checked(run: Path) -> None:
    edit_config(run, lambda content: content["hardware"]["mid_tablet"].update(latency={"model": "host"}))
    lines = "\n".join(unchecked(run))
    assert "cost table: mid_tablet: its prices were measured on the machine that searched" in lines
    assert "mid_tablet: latency predicted: its prices were measured on the machine that searched" in lines
    assert not any("mid_tablet: recounted" in line for line in failed(run))
