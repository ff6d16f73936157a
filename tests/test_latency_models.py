"""The contract of latency models, for the built-in ones and for one of a plug-in, which works wherever they do."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from console import Cli, console, done
from measured_networks import mobile_networks, true_device, true_times, write_networks
from plugin_files import copy_examples, forget_plugins
from priced_profiles import ROOFLINE
from spaces import PROFILES
from tiny_search import MOBILE_SPACE, SHORT

from hardware_models.budgets.cost_table import CostTable
from hardware_models.latency_models.additive import Additive, Match
from hardware_models.latency_models.latency_model import LATENCY_MODELS
from hardware_models.latency_models.table import Table
from hardware_models.profile import load_profile, profile_from_dict
from hardware_models.testing import check_latency_model, check_monotone, check_profile, example_operations
from search_spaces.architecture import SPACES
from search_spaces.errors import InvalidInputError, keys_of
from search_spaces.operation import KINDS
from trainers.cli.calibrate_command import CALIBRATE
from trainers.cli.report_command import run as report
from trainers.cli.search_command import SEARCH
from trainers.runs.plugins import import_plugins

PEAKS = {"model": "peaks", "peak_gops": 20.0, "gb_per_s": 8.0, "overhead_ms": 0.01}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    call = console(SEARCH, monkeypatch, capsys, tmp_path)
    copy_examples(Path.cwd())
    with forget_plugins(tmp_path):
        yield call


@pytest.fixture
def plugin(command: Cli) -> None:
    import_plugins(["peaks"], folders=[Path.cwd()])


# The contract


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_shipped_profile_holds_the_contract(name: str) -> None:
    check_profile(PROFILES[name])


def test_examples_of_the_contract_have_every_kind() -> None:
    assert {operation.kind for operation in example_operations()} == set(KINDS)


def test_a_table_holds_the_contract() -> None:
    check_latency_model(Table(model="table", entries={op.notation: 0.5 for op in example_operations()}))


def test_a_model_that_breaks_the_contract_is_found_out() -> None:
    everything = tuple(Match(kind=kind) for kind in KINDS)
    free = Additive(model="additive", constant_ms=0.0, in_constant=everything, terms=())
    with pytest.raises(AssertionError, match="nothing has a price above 0"):
        check_latency_model(free)
    falling = Table(
        model="table",
        entries={op.notation: 1.0 / channels for channels in (16, 32) for op in example_operations(channels)},
    )
    with pytest.raises(AssertionError, match="only"):
        check_monotone(falling)


def test_a_name_that_is_no_model_and_a_model_without_a_fit_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidInputError, match="additive, host, roofline, table"):
        LATENCY_MODELS["peaks"]
    with pytest.raises(InvalidInputError) as refused:
        profile_from_dict("x", {**ROOFLINE, "latency": {"model": "host"}})
    assert refused.value.fields == ("hardware.x.latency",)


# A model of a plug-in


def test_a_model_of_a_plugin_holds_the_contract(plugin: None) -> None:
    check_latency_model(LATENCY_MODELS["peaks"].model_validate(PEAKS))


def test_a_model_of_a_plugin_prices_profiles_and_units_and_refuses_wrong_fields(plugin: None) -> None:
    profile = profile_from_dict("mine", {**ROOFLINE, "latency": PEAKS, "domain": {"pixels": [64, 4096]}})
    check_profile(profile)
    operation = next(example_operations())
    elements = operation.params + operation.in_elements + operation.out_elements
    expected_ms = max(operation.macs / 20e6, elements * 2 / 8e6) + 0.01  # ROOFLINE is of fp16
    assert profile.price(operation)["latency_ms"] == pytest.approx(expected_ms, rel=1e-12)
    units = {"npu": {"latency": PEAKS, "load": 0.5, "weight": 1.0}}
    bare = {key: value for key, value in ROOFLINE.items() if key != "latency"}
    placed = profile_from_dict("mine", {**bare, "units": units, "entry": "npu"})
    assert placed.price(operation, unit="npu")["latency_ms"] == pytest.approx(2 * expected_ms, rel=1e-12)
    with pytest.raises(InvalidInputError, match=r"slow: unknown field; allowed: .*gb_per_s") as refused:
        profile_from_dict("mine", {**ROOFLINE, "latency": {**PEAKS, "slow": 1}})
    assert refused.value.fields == ("hardware.mine.latency.slow",)


@pytest.mark.slow
def test_a_model_of_a_plugin_is_calibrated_searched_reported_and_verified(command: Cli, tmp_path: Path) -> None:
    networks = mobile_networks(9)
    write_networks(Path("bench.csv"), networks, true_times(networks, true_device()))
    calibrate = ("measurements=bench.csv", "name=mine", "model=peaks")
    code, _, errors = command(*calibrate, app=CALIBRATE)
    assert code == 2 and keys_of(errors.partition(": ")[2]) == ("model",)
    done(command("plugins=peaks", *calibrate, app=CALIBRATE))
    written = yaml.safe_load(Path("hardware/mine.yaml").read_text(encoding="utf-8"))
    assert written["latency"]["model"] == "peaks" and written["error"]["mape"] < 0.5
    check_profile(load_profile(Path("hardware/mine.yaml")))
    budget = "hardware.mine.budgets.latency_ms=1000"
    search = ("plugins=peaks", "--config-dir=.", "hardware=[mine]", budget, *MOBILE_SPACE, *SHORT)
    done(command(*search, "strategy.pool_size=32", f"paths.runs={tmp_path}/runs"))
    (result,) = (tmp_path / "runs").rglob("result.json")
    assert list(json.loads(result.read_bytes())["code"]["plugins"]) == ["peaks"]
    assert report(["verify", str(result.parent), "plugins=peaks"]) == 0
    assert report([str(result.parent)]) == 0 and (result.parent / "report.html").is_file()


def test_prices_of_a_benchmark_are_for_the_shapes_that_they_were_fitted_to() -> None:
    profile = PROFILES["nb201_pixel3"]
    benchmark = SPACES["nasbench201"]()
    wider = SPACES["nasbench201"](width=128, image_size=128)
    choices = dict.fromkeys((d.name for d in benchmark.decisions), "nor_conv_3x3")
    assert all(profile.price(operation)["latency_ms"] >= 0 for operation in benchmark.operations(choices))
    with pytest.raises(InvalidInputError) as refused:
        CostTable(wider, [profile])
    assert "16x32x32" in str(refused.value)
