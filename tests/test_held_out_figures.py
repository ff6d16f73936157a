"""What the device models promise on measured tables, on a part of what the benchmarks of the same name print."""

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
DATA = Path(os.environ.get("ESPALIER_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA"),
]


def benchmark(name: str) -> ModuleType:
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return import_module(name)


def test_ten_measurements_rank_the_networks_of_an_unseen_device() -> None:
    script = benchmark("few_measurements")
    benchmark_of_cells = script.nasbench201()
    outcomes = [list(script.one_seed(benchmark_of_cells, seed=seed)) for seed in range(3)]
    for found in outcomes:
        assert np.mean([rank for design, _, rank, _ in found if design == "designed"]) >= 0.95
    # Which ten random cells are measured makes a difference of a few hundredths.
    assert np.mean([rank for found in outcomes for design, _, rank, _ in found if design == "random"]) >= 0.92


def test_networks_known_on_other_devices_are_predicted_on_this_one() -> None:
    script = benchmark("ncnn_held_out")
    settings = list(script.times())[::8]
    left_out = [script.known_elsewhere(setting) for setting in settings]
    errors = [np.abs(predicted_N / measured_N - 1) for measured_N, predicted_N in left_out]
    assert np.median([error_N.mean() for error_N in errors]) <= 0.10
    assert (np.concatenate(errors) <= 0.2).mean() >= 0.75
    after_five = [script.five_measured(setting) for setting in settings]
    assert np.median([np.abs(predicted_N / measured_N - 1).mean() for measured_N, predicted_N in after_five]) <= 0.15


def test_the_bound_covers_what_it_says() -> None:
    script = benchmark("budgets_hold")
    for device in script.fitted_devices(seed=0):
        for level in script.LEVELS:
            # Mean of 100 splits: its standard error is half a point.
            share, _ = script.coverage(device, level=level, splits=100)
            assert share == pytest.approx(level, abs=0.02), device.profile.name


def test_measuring_and_cutting_violates_no_budget_in_two_measurements() -> None:
    script = benchmark("budgets_hold")
    for device in script.fitted_devices(seed=0):
        for quantile in script.BUDGET_QUANTILES:
            taken = script.measure_and_cut(device, float(np.quantile(device.measured_N, quantile)), "upper")
            assert taken.within and taken.measurements <= 2
