"""Measurements in a wrong unit, or too few of them, are refused by line and with what is needed."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from calibrations import calibrated, grid, refused
from measured_networks import (
    mobile_networks,
    true_device,
    true_times,
    write_networks,
    write_operations,
)

from hardware_models.calibration.held_out import hold_out
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import population_design
from hardware_models.calibration.row_checks import rank_problems
from hardware_models.latency_models.roofline import PRICE_KINDS
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation


def test_a_row_in_microseconds_is_refused_by_its_line(tmp_path: Path) -> None:
    networks = mobile_networks(12)
    times = true_times(networks, true_device())
    wrong = {**times, "net3": times["net3"] * 1000, "net7": times["net7"] / 1000}
    lines = refused(write_networks(tmp_path / "bench.csv", networks, wrong), "line 5: 'net3'")
    assert len(lines) == 2
    assert "is it in another unit? give milliseconds" in lines[0]
    assert lines[1].startswith("line 9: 'net7'")
    factor = float(re.search(r", ([\d.e+]+) times the", lines[0])[1])  # type: ignore[index]
    assert 500 < factor < 2000


def test_the_only_network_of_a_kind_cannot_hide_a_wrong_unit_in_that_kinds_price(tmp_path: Path) -> None:
    networks = dict(mobile_networks(12))
    grouped = Operation("conv", (64, 28, 28), (64, 28, 28), 3, groups=4)
    networks["odd"] = (*networks["net0"], *[grouped] * 20)
    times = true_times(networks, true_device())
    path = write_networks(tmp_path / "bench.csv", networks, {**times, "odd": times["odd"] * 1000})
    assert refused(path, "line 14: 'odd'")[1:] == []


def test_an_operation_in_another_unit_is_refused_by_its_line(tmp_path: Path) -> None:
    times = {op: true_device().price(op)["latency_ms"] for op in grid()}
    wrong = list(times)[5]
    path = write_operations(tmp_path / "ops.csv", {**times, wrong: times[wrong] * 1000})
    assert refused(path, f"line 7: '{wrong.notation}'")[1:] == []


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "microseconds"), (1e6, "nanoseconds"), (1e-3, "seconds")])
def test_a_file_in_another_unit_is_refused_unless_it_is_said_to_be_right(
    tmp_path: Path, factor: float, unit: str
) -> None:
    networks = mobile_networks(10)
    times = {name: ms * factor for name, ms in true_times(networks, true_device()).items()}
    path = write_networks(tmp_path / "bench.csv", networks, times)
    [line] = refused(path, "lines 2 to 11: the times are")
    assert f"as {unit} they would be ordinary" in line and "unusual_speed=true" in line
    assert calibrated(path, unusual_speed=True).error.mape < 0.05


@pytest.mark.parametrize("ms", ["1e-9", "1e12", "1e300"])
def test_a_time_that_nothing_takes_is_refused_whatever_its_unit(tmp_path: Path, ms: str) -> None:
    networks = mobile_networks(10)
    path = write_networks(tmp_path / "bench.csv", networks, {**true_times(networks, true_device()), "net4": ms})
    with pytest.raises(InvalidInputError, match=r"line 6: latency_ms: got .*; allowed: 1e-06 to 1e\+09"):
        calibrated(path, unusual_speed=True)


def test_rates_that_no_device_has_are_an_error_and_no_traceback() -> None:
    fit = population_design(load_population())
    with pytest.raises(InvalidInputError, match=r"rates that no device has: .*are their times milliseconds"):
        fit.model(fit.prior_P * 1e20, PRICE_KINDS)


def test_too_few_rows_for_the_level_are_refused_with_how_many_are_needed(tmp_path: Path) -> None:
    networks = mobile_networks(8)
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device()))
    [line] = refused(path, "line 9: the file ends after 8 networks")
    assert "a bound at level 0.9 needs at least 9: measure 1 more, or lower level" in line
    assert calibrated(path, level=0.8).bound.n == 8


def test_the_least_number_of_rows_gives_a_bound_whose_coverage_is_not_known(tmp_path: Path) -> None:
    networks = mobile_networks(9)
    found = calibrated(write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device())))
    assert (found.bound.n, found.bound.coverage) == (9, None)


def test_networks_that_differ_in_nothing_are_refused(tmp_path: Path) -> None:
    one = mobile_networks(1)["net0"]
    networks = {f"n{i}": one[i:] + one[:i] for i in range(10)}  # in whatever order
    path = write_networks(tmp_path / "same.csv", networks, {name: 10.0 + i for i, name in enumerate(networks)})
    assert refused(path, "lines 2 to 11: all networks run the same operations")
    different = mobile_networks(10)
    path = write_networks(tmp_path / "equal.csv", different, dict.fromkeys(different, 30.0))
    assert refused(path, "lines 2 to 11: all times are 30 ms")


def test_predictions_that_are_all_equal_have_no_rank_and_are_refused() -> None:
    times_N = np.array([1.0, 2.0, 3.0])
    alike = hold_out(lambda kept_N: np.full(3, 2.0), times_N, subject="operation")
    [problem] = rank_problems(alike)
    assert "all held-out times or all their predictions are equal" in problem
    assert list(rank_problems(replace(alike, predicted_N=times_N))) == []


def test_networks_make_no_table(tmp_path: Path) -> None:
    networks = mobile_networks(10)
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device()))
    refused(path, "table is fitted to operations, and these are networks", model="table")


def test_a_table_of_operations_far_from_each_other_is_refused(tmp_path: Path) -> None:
    far = [Operation("conv", (4**i, 8, 8), (4**i, 8, 8), 2 * i + 1) for i in range(5)]
    far += [Operation("conv", (4**i, 8, 8), (4**i, 8, 8), 2 * i + 1, groups=4**i) for i in range(1, 6)]
    times = {op: true_device().price(op)["latency_ms"] for op in far}
    refused(write_operations(tmp_path / "ops.csv", times), "0 of 10 operations lie between others", model="table")
