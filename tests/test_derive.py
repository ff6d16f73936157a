"""`espalier-derive`: networks for other devices and budgets out of a finished search, as certified."""

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from console import DERIVE, Cli, console, ends_with_examples_and_exit_codes, examples, imported_by, refused
from safetensors.torch import load_file
from sample_result import sample_result, typed
from tiny_search import MOBILE, composed, small_space, tiny_config
from whole_searches import assert_most_expensive_of_the_best

from search_spaces.architecture import read_architecture
from search_spaces.errors import InvalidInputError
from trainers.analysis.loading import load_run
from trainers.analysis.run_plots import plot_front
from trainers.reports.run_view import run_view
from trainers.reports.verify import PRUNED, verify_run
from trainers.runs.config import SearchConfig
from trainers.runs.derive_config import validate
from trainers.runs.lineage import read_lineage
from trainers.runs.result import COUNTED, Result, read_result
from trainers.runs.warnings import warnings_of
from trainers.search.derivation import derived_config, expand, rounded_up
from trainers.search.heritage import Heritage
from trainers.search.identification import identified
from trainers.search.plan import prepare
from trainers.search.prune_log import replay
from trainers.search.result_writer import stale_choices
from trainers.search.run import run
from trainers.search.trained import SUPERNET_FILES, read_supernet

BUDGETS = {"mid_tablet": 0.0025, "iot_terminal": 0.002}  # of gflops: they bind, so that choices are pruned
KEPT = (
    *(*MOBILE, "strategy.pool_size=32", "trainer.keep=supernet", "trainer.candidates=3"),
    *(f"hardware.{name}.budgets={{latency_ms:null,gflops:{budget}}}" for name, budget in BUDGETS.items()),
)
Searched = tuple[SearchConfig, Result]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    config = tiny_config(tmp_path_factory.mktemp("parent"), *KEPT)
    return config, run(config, lambda line: None)


def derive(parent: Path, runs: Path, *overrides: str, lines: list[str] | None = None) -> Searched:
    """The run that a derivation leaves below `runs`."""
    content = composed(f"from={parent}", f"paths.runs={runs}", *overrides, app="derive")
    config = identified(derived_config(validate(content)))
    return config, run(config, (lines if lines is not None else []).append)


@pytest.fixture(scope="module")
def again(searched: Searched, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return derive(
        searched[0].run_folder, tmp_path_factory.mktemp("again"), "hardware=[iot_terminal,mid_tablet]", *KEPT[-2:]
    )


@pytest.fixture(scope="module")
def front(searched: Searched, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    overrides = ("front={hardware:mid_tablet,metric:latency_ms,points:20}", "trainer.candidates=1")
    return derive(searched[0].run_folder, tmp_path_factory.mktemp("front"), *overrides)


def failed(folder: Path) -> list[str]:
    return [check.line for check in verify_run(folder) if check.outcome == "FAILED"]


def test_the_same_devices_and_budgets_give_the_same_networks_to_the_bit(searched: Searched, again: Searched) -> None:
    for name, device in searched[1].devices.items():
        derived = again[1].devices[name]
        assert derived.model_dump() == device.model_dump()
        weights = (load_file(config.run_folder / device.weights) for config in (searched[0], again[0]))
        one, other = ({key: value.numpy().tobytes() for key, value in each.items()} for each in weights)
        assert one == other


def test_a_derived_run_verifies_and_names_its_parent(searched: Searched, again: Searched) -> None:
    folder = again[0].run_folder
    assert failed(folder) == []
    assert failed(searched[0].run_folder) == []
    lineage, parent = (read_lineage(each[0].run_folder / "lineage.json") for each in (again, searched))
    assert lineage.supernet.parent is not None and parent.supernet.parent is None
    assert lineage.supernet.parent.run == searched[0].run_key
    assert lineage.supernet.id == parent.supernet.id
    assert again[1].search.steps == 0 and again[1].search.train_seconds == 0
    assert load_run(folder).devices["met"].all()


def test_a_device_that_was_not_searched_gets_a_network_within_its_budgets(searched: Searched, tmp_path: Path) -> None:
    budget = "hardware.pixel6.budgets={latency_ms:null,params_m:1.28}"
    deploy = ("trainer.deploy=true", "trainer.candidates=1")  # as after a search, though the parent left it out
    config, result = derive(searched[0].run_folder, tmp_path, "hardware=[pixel6]", budget, *deploy)
    device = result.devices["pixel6"]
    assert device.met and device.held["params_m"] <= 1.28
    assert device.held_by == {"params_m": "recounted"}
    assert device.file is not None and (config.run_folder / device.file.path).is_file()
    assert device.accuracy.deployed is not None
    assert failed(config.run_folder) == []


def test_a_device_has_its_own_logits_or_those_that_all_share(searched: Searched) -> None:
    config, result = searched
    kept = read_supernet(config.run_folder, result)
    heritage = Heritage(prepare(config).space, kept)
    own = [heritage.logits(device) for device in (0, 1)]
    assert np.array_equal(heritage.logits(None), kept.shared_N.double().numpy())
    assert np.array_equal(own[1], (kept.shared_N + kept.offsets_DN[1]).double().numpy())
    assert not np.array_equal(own[0], own[1])


def test_twenty_budgets_give_twenty_certified_networks_that_are_not_deployable(front: Searched) -> None:
    config, result = front
    budgets = [device.budgets["latency_ms"] for device in result.devices.values()]
    assert len(budgets) == 20 and budgets == sorted(budgets)
    for device in result.devices.values():
        assert device.met and device.held["latency_ms"] <= device.budgets["latency_ms"]
        assert set(device.recounted) == set(COUNTED)
        assert device.file is None
    assert {w.device for w in warnings_of(result) if w.what == "not deployable"} == set(result.devices)
    assert failed(config.run_folder) == []


def test_every_budget_of_a_front_has_the_most_expensive_network_of_the_best(front: Searched) -> None:
    config, result = front
    assert_most_expensive_of_the_best(prepare(config), result.model_dump()["devices"])


def test_a_front_stands_in_a_table_and_in_a_picture(front: Searched) -> None:
    config, result = front
    with (config.run_folder / "front.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["point"] for row in rows] == list(result.devices)
    for row, device in zip(rows, result.devices.values(), strict=True):
        assert (row["device"], row["met"], row["deployable"]) == ("mid_tablet", "True", "False")
        assert float(row["budget_latency_ms"]) == device.budgets["latency_ms"]
        assert float(row["held_latency_ms"]) == device.held["latency_ms"]
        assert float(row["validation_accuracy"]) == device.validation.accuracy
        assert read_architecture(config.run_folder / row["architecture"]).id == row["id"] == device.id
    assert "front.csv" in result.files
    (axes,) = plot_front(load_run(config.run_folder)).axes
    found = np.asarray(axes.collections[0].get_offsets())
    assert np.allclose(found[:, 0], [device.held["latency_ms"] for device in result.devices.values()])
    view = run_view(load_run(config.run_folder))
    assert "front" in view["plots"] and "candidates" not in view["plots"]


def test_a_run_without_a_front_has_no_picture_of_one(searched: Searched) -> None:
    with pytest.raises(InvalidInputError):
        plot_front(load_run(searched[0].run_folder))


def test_a_list_of_budgets_makes_points_and_two_lists_are_refused() -> None:
    hardware = {"a": {"budgets": {"gflops": [3, 1], "latency_ms": None}}, "b": {"budgets": {"gflops": 2}}}
    found, points = expand(hardware)
    assert points == {"a-gflops-1": "a", "a-gflops-3": "a"}
    assert {name: mapping["budgets"] for name, mapping in found.items()} == {
        "a-gflops-1": {"gflops": 1.0},
        "a-gflops-3": {"gflops": 3.0},
        "b": {"gflops": 2},
    }
    for wrong in ({"gflops": [1], "params_m": [2]}, {"gflops": []}, {"gflops": ["x"]}):
        with pytest.raises(InvalidInputError):
            expand({"a": {"budgets": wrong}})


@pytest.mark.parametrize(("value", "expected"), [(5.7481, 5.749), (0.0123401, 0.01235), (1.0, 1.0), (99999.0, 1e5)])
def test_ends_of_a_front_are_rounded_up(value: float, expected: float) -> None:
    assert rounded_up(value) == expected


@pytest.mark.parametrize(("budget", "opens"), [(0.0027, False), (1.0, True)])
def test_choices_pruned_on_all_devices_are_open_only_where_budgets_ask_for_them(
    searched: Searched, tmp_path: Path, budget: float, opens: bool
) -> None:
    lines: list[str] = []
    budgets = f"hardware.mid_tablet.budgets={{latency_ms:null,gflops:{budget}}}"
    config, result = derive(
        searched[0].run_folder, tmp_path, "hardware=[mid_tablet]", budgets, "trainer.candidates=1", lines=lines
    )
    space, kept = prepare(config).space, read_supernet(searched[0].run_folder, searched[1])
    active_N = Heritage(space, kept).active_N
    assert not active_N.all()  # else this would test nothing
    left_N = replay(config.run_folder / "prune.csv", space, "mid_tablet", reasons=PRUNED)
    assert left_N.sum() == result.search.choices_alive["mid_tablet"]
    assert bool((left_N & ~active_N).any()) == opens
    assert any(line.startswith("mid_tablet: its budgets ask") for line in lines) == opens
    assert opens or result.devices["mid_tablet"].stale == []


def test_choices_of_a_network_that_were_pruned_are_named_if_it_uses_them() -> None:
    space = small_space()
    choices = space.choices(tuple(0 for _ in space.decisions))
    first, second, *_ = (decision.name for decision in space.decisions if len(decision.choices) > 1)
    others = {second: [choice for choice in space.decisions[0].choices if choice != choices[first]]}
    assert stale_choices(space, choices, {first: [choices[first]]}) == [f"{first} = {choices[first]}"]
    assert stale_choices(space, choices, others) == []
    content = sample_result()
    name, device = next(iter(content["devices"].items()))
    before = warnings_of(typed(content))
    device["stale"] = [f"{first} = 3"]
    assert [warned.device for warned in warnings_of(typed(content)) if warned not in before] == [name]


def rewritten(folder: Path, name: str, content: bytes) -> Result:
    """The result of a run after one of its files was changed, and its hash in the result too."""
    (folder / name).write_bytes(content)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return read_result(folder / "result.json")


@pytest.mark.parametrize("name", SUPERNET_FILES)
def test_a_supernet_that_was_changed_is_refused_by_its_hash(searched: Searched, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(searched[0].run_folder, folder)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(InvalidInputError, match=Path(name).name):
        derived_config(validate(composed(f"from={folder}", app="derive")))


def test_files_that_hold_no_supernet_of_the_space_are_refused(searched: Searched, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(searched[0].run_folder, folder)
    tensors = load_file(folder / SUPERNET_FILES[0])
    for content in (
        b"nothing",
        safetensors.torch.save({**tensors, "logits.shared": torch.zeros(3)}),
        safetensors.torch.save({k: v for k, v in tensors.items() if not k.endswith("weight")}),
    ):
        rewritten(folder, SUPERNET_FILES[0], content)
        with pytest.raises(InvalidInputError):
            derive(folder, tmp_path)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(DERIVE, monkeypatch, capsys, tmp_path)


def test_a_run_without_a_supernet_is_refused_with_the_command_that_keeps_one(
    cli: Cli, searched: Searched, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(searched[0].run_folder, folder)
    content: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    content["files"] = {name: digest for name, digest in content["files"].items() if name not in SUPERNET_FILES}
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    refused(cli(f"from={folder}"), "espalier-derive", "trainer.keep=supernet")


def test_a_run_that_was_derived_itself_is_refused_with_the_name_of_its_parent(
    cli: Cli, searched: Searched, again: Searched
) -> None:
    refused(cli(f"from={again[0].run_folder}"), "espalier-derive", searched[0].run_folder.name)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ((), ("from",)),
        (("from=nowhere",), ("from",)),
        (("from=x", "front.min=3"), ("front.min",)),
        (("from=x", "front.points=5", "front.min=3", "front.max=2"), ("front.max",)),
        (("from=x", "front.points=1"), ("front.points",)),
        (("from=x", "trainer.stepz=1"), ("trainer.stepz",)),
    ],
)
def test_wrong_values_are_refused_by_their_keys(cli: Cli, arguments: tuple[str, ...], keys: tuple[str, ...]) -> None:
    assert refused(cli(*arguments), "espalier-derive") == keys


def test_a_front_of_a_device_that_is_not_there_is_refused(cli: Cli, searched: Searched) -> None:
    found = cli(f"from={searched[0].run_folder}", "front={hardware:pixel6,points:3}")
    refused(found, "espalier-derive", "front.hardware", "mid_tablet")


def test_help_has_examples_that_compose_and_is_answered_without_torch(cli: Cli, tmp_path: Path) -> None:
    assert ends_with_examples_and_exit_codes(DERIVE)
    for example in examples(DERIVE):
        validate(composed(*example, app="derive"))
    for flag in (("--help",), ("--cfg", "job")):
        code, _, packages = imported_by("derive_command", *flag, folder=tmp_path)
        assert code == 0 and not packages & {"torch", "numpy"}
