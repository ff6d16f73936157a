"""Measurements in a wrong unit, or too few of them, are refused by line and with what is needed."""

from collections.abc import Mapping
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
from wrong_cells import wrong_cells

from hardware_models.calibration.held_out import hold_out
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import population_design
from hardware_models.calibration.row_checks import rank_problems
from hardware_models.latency_models.roofline import PRICE_KINDS
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation


@pytest.fixture
def times() -> dict[str, float]:
    """Times of twelve networks, the first of which stands in line 2."""
    return true_times(mobile_networks(12), true_device())


def bench(folder: Path, times: Mapping[str, float]) -> Path:
    return write_networks(folder / "bench.csv", {name: mobile_networks(12)[name] for name in times}, times)


def test_a_row_in_another_unit_is_refused_by_its_line(tmp_path: Path, times: dict[str, float]) -> None:
    wrong = {**times, "net3": times["net3"] * 1000, "net7": times["net7"] / 1000}
    assert refused(bench(tmp_path, wrong)) == [5, 9]


def test_the_only_network_of_a_kind_cannot_hide_a_wrong_unit_in_that_kinds_price(tmp_path: Path) -> None:
    networks = dict(mobile_networks(12))
    grouped = Operation("conv", (64, 28, 28), (64, 28, 28), 3, groups=4)
    networks["odd"] = (*networks["net0"], *[grouped] * 20)
    times = true_times(networks, true_device())
    path = write_networks(tmp_path / "bench.csv", networks, {**times, "odd": times["odd"] * 1000})
    assert refused(path) == [14]


def test_an_operation_in_another_unit_is_refused_by_its_line(tmp_path: Path) -> None:
    times = {op: true_device().price(op)["latency_ms"] for op in grid()}
    wrong = list(times)[5]
    assert refused(write_operations(tmp_path / "ops.csv", {**times, wrong: times[wrong] * 1000})) == [7]


@pytest.mark.parametrize(("factor", "unit"), [(1e3, "microseconds"), (1e6, "nanoseconds"), (1e-3, "seconds")])
def test_a_file_in_another_unit_is_refused_unless_it_is_said_to_be_right(
    tmp_path: Path, times: dict[str, float], factor: float, unit: str
) -> None:
    path = bench(tmp_path, {name: ms * factor for name, ms in times.items()})
    with pytest.raises(InvalidInputError, match=rf"as {unit} .* unusual_speed=true") as caught:
        calibrated(path)
    assert wrong_cells(caught.value) == [(2, "")]
    assert calibrated(path, unusual_speed=True).error.mape < 0.05


def test_rates_that_no_device_has_are_an_error_and_no_traceback() -> None:
    fit = population_design(load_population())
    with pytest.raises(InvalidInputError):
        fit.model(fit.prior_P * 1e20, PRICE_KINDS)


def test_too_few_rows_for_the_level_are_refused_with_how_many_are_needed(
    tmp_path: Path, times: dict[str, float]
) -> None:
    path = bench(tmp_path, dict(list(times.items())[:8]))
    with pytest.raises(InvalidInputError, match="needs at least 9: measure 1 more") as caught:
        calibrated(path)
    assert wrong_cells(caught.value) == [(9, "")]
    assert calibrated(path, level=0.8).bound.n == 8


def test_the_least_number_of_rows_gives_a_bound_whose_coverage_is_not_known(
    tmp_path: Path, times: dict[str, float]
) -> None:
    found = calibrated(bench(tmp_path, dict(list(times.items())[:9])))
    assert (found.bound.n, found.bound.coverage) == (9, None)


def test_networks_that_differ_in_nothing_are_refused(tmp_path: Path, times: dict[str, float]) -> None:
    one = mobile_networks(1)["net0"]
    networks = {f"n{i}": one[i:] + one[:i] for i in range(10)}  # in whatever order
    path = write_networks(tmp_path / "same.csv", networks, {name: 10.0 + i for i, name in enumerate(networks)})
    assert refused(path) == [2]
    assert refused(bench(tmp_path, dict.fromkeys(times, 30.0))) == [2]


def test_predictions_that_are_all_equal_have_no_rank_and_are_refused() -> None:
    times_N = np.array([1.0, 2.0, 3.0])
    alike = hold_out(lambda kept_N: np.full(3, 2.0), times_N, subject="operation")
    assert len(list(rank_problems(alike))) == 1
    assert list(rank_problems(replace(alike, predicted_N=times_N))) == []


def test_networks_make_no_table(tmp_path: Path, times: dict[str, float]) -> None:
    assert refused(bench(tmp_path, times), model="table") == [1]


def test_a_table_of_operations_far_from_each_other_is_refused(tmp_path: Path) -> None:
    far = [Operation("conv", (4**i, 8, 8), (4**i, 8, 8), 2 * i + 1) for i in range(5)]
    far += [Operation("conv", (4**i, 8, 8), (4**i, 8, 8), 2 * i + 1, groups=4**i) for i in range(1, 6)]
    path = write_operations(tmp_path / "ops.csv", {op: true_device().price(op)["latency_ms"] for op in far})
    with pytest.raises(InvalidInputError, match="0 of 10 operations lie between others"):
        calibrated(path, model="table")
