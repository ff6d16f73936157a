"""Real measurements, and look-up tables of other projects, become profiles of a known error in one command."""

import gzip
import os
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console import CALIBRATE, Cli, console, done, refused_calibration
from measured_networks import write_networks, write_operations
from scipy.stats import spearmanr
from spaces import ROOT

from hardware_models.importers.paddlelite import import_paddlelite
from hardware_models.profile import load_profile

DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))

pytestmark = pytest.mark.slow


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(CALIBRATE, monkeypatch, capsys, tmp_path)


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What tests/benchmarks/fit_profiles.py defines."""
    return runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_profiles.py"))


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
@pytest.mark.parametrize("name", ["raspberry_pi_4", "mid_tablet", "flagship_phone"])
def test_real_devices_are_calibrated_as_well_as_the_shipped_ones(
    command: Cli, script: dict[str, Any], name: str
) -> None:
    device, threads, power_mode = script["NCNN"][name]
    times, wanted = script["usable_times"](), (str(threads), str(power_mode))
    [own] = [setting for setting in times if setting[0].startswith(device) and setting[1:] == wanted]
    predicted_N, measured_N = script["leave_one_network_out"](own)
    shipped_mape = float(np.abs(predicted_N / measured_N - 1).mean())
    networks = {n: ops for n, ops in script["ncnn_networks"]().items() if n in times[own]}
    write_networks(Path("bench.csv"), networks, {network: times[own][network] for network in networks})
    done(command("measurements=bench.csv", "name=dev", f"threads={threads}", "runtime=ncnn"))
    error = load_profile(Path("hardware/dev.yaml")).error
    assert error is not None and error.n == len(networks) >= 18
    assert error.mape < shipped_mape + 0.02  # the population has seen these networks


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
def test_a_real_table_of_operations_is_calibrated_and_refused_while_it_is_in_microseconds(command: Cli) -> None:
    rows = import_paddlelite(DATA / "latency" / "paddlelite_snapdragon855_op_lut.csv", device=None).rows
    times = {row.operations[0]: row.latency_ms for row in reversed(rows)}
    write_operations(Path("us.csv"), {operation: ms * 1000 for operation, ms in times.items()})
    refused_calibration(command("measurements=us.csv", "name=dev"), "as microseconds they would be ordinary")
    write_operations(Path("ms.csv"), times)
    figures = []
    for model in ("roofline", "table"):
        done(command("measurements=ms.csv", f"name={model}", f"model={model}"))
        profile = load_profile(Path(f"hardware/{model}.yaml"))
        assert profile.error is not None and profile.bound is not None
        assert profile.bound.coverage == pytest.approx(0.9, abs=0.02)
        figures.append(profile.error.mape)
    assert figures[0] < 0.2 and figures[1] < 0.08  # 16 % and 6 % when this was written


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
@pytest.mark.parametrize(
    ("device", "rank", "error"), [("eyeriss", 0.98, 0.03), ("fpga", 0.98, 0.03), ("raspi4", 0.95, 0.12)]
)
def test_ten_cells_of_a_device_price_the_others_additively(
    command: Cli, monkeypatch: pytest.MonkeyPatch, device: str, rank: float, error: float
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    script = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_cell_profiles.py"))
    cells = script["nb201_cells"]()
    order = np.random.default_rng(0).permutation(len(cells))
    networks = {f"cell{i}": script["nb201_network"](*cells[i][0]) for i in order[:10]}
    times = {f"cell{i}": cells[i][1][device] for i in order[:10]}
    write_networks(Path("bench.csv"), networks, times)
    done(command("measurements=bench.csv", "name=dev", "model=additive", "unusual_speed=true"))
    profile = load_profile(Path("hardware/dev.yaml"))
    measured_N = np.array([cells[i][1][device] for i in order[10:510]])
    others = [script["nb201_network"](*cells[i][0]) for i in order[10:510]]
    totals = [profile.constant_ms + sum(profile.price(op)["latency_ms"] for op in network) for network in others]
    assert spearmanr(totals, measured_N).statistic > rank
    assert np.median(np.abs(np.array(totals) / measured_N - 1)) < error


TABLES = {
    "phones": ("phones4_block_lut.csv.gz", "pixel6", 9603, 0.05),
    "ofa": ("proxyless_ofa_op_lut.csv", "samsung_note10_cpu_tflite", 480, 0.25),
    "fbnet": ("fbnet_lut_hwnasbench.csv", "raspi4", 128, 0.15),
    "paddlelite": ("paddlelite_snapdragon855_op_lut.csv", None, 595, 0.2),
}


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
@pytest.mark.parametrize("table_format", TABLES)
def test_a_look_up_table_of_another_project_gives_a_profile_in_one_command(command: Cli, table_format: str) -> None:
    file, device, num_rows, asked = TABLES[table_format]
    opened = gzip.open if file.endswith(".gz") else open
    with opened(DATA / "latency" / file, "rb") as source:
        Path("table.csv").write_bytes(source.read())
    given = [] if device is None else [f"device={device}"]
    done(command("measurements=table.csv", f"format={table_format}", *given, "name=dev"))
    profile = load_profile(Path("hardware/dev.yaml"))
    assert profile.error is not None and profile.error.n == num_rows and profile.error.mape < asked
    assert profile.bound is not None and profile.bound.coverage == pytest.approx(0.9, abs=0.05)
    assert profile.calibrator is None


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
def test_of_the_models_that_can_price_all_networks_the_one_of_least_error_is_kept(
    command: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    script = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_cell_profiles.py"))
    cells = script["nb201_cells"]()[:40]
    networks = {f"cell{i}": script["nb201_network"](*cell) for i, (cell, _) in enumerate(cells)}
    write_networks(Path("bench.csv"), networks, {f"cell{i}": times["pixel3"] for i, (_, times) in enumerate(cells)})
    errors = {}
    for model in ("roofline", "additive", "null"):
        done(command("measurements=bench.csv", f"name=by_{model}", f"model={model}"))
        profile = load_profile(Path(f"hardware/by_{model}.yaml"))
        assert profile.error is not None and profile.latency is not None
        errors[model] = profile.error.mape
    assert errors["null"] == min(errors.values())
    assert errors[profile.latency.model] == errors["null"]
