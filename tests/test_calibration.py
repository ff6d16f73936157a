"""Calibration: known devices are found again, held-out figures are honest, wrong units and too few rows are refused."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from measured_networks import (
    mobile_networks,
    true_device,
    true_times,
    write_networks,
    write_operations,
)

from hardware_models.calibration.calibration import CalibratedModel, Calibration, calibrate
from hardware_models.calibration.checks import rank_problems
from hardware_models.calibration.dead_code import drops_dead_code, executed
from hardware_models.calibration.design import ORDINARY, propose
from hardware_models.calibration.device_prior import DevicePrior, fit_device
from hardware_models.calibration.fitting import Array, conformal_factor, fit_with_prior, rows_needed
from hardware_models.calibration.held_out import bound_coverage, groups_of, hold_out
from hardware_models.calibration.population import load_population
from hardware_models.calibration.profile_file import Description, profile_text
from hardware_models.calibration.roofline_fit import AMOUNTS, RooflineFit, network_fit, population_fit, roofline_amounts
from hardware_models.latency_models.roofline import PRICE_KINDS, Roofline
from hardware_models.latency_models.table import Table
from hardware_models.measuring.measurements import read_layers, read_measurements
from hardware_models.profile import load_profile, profile_from_dict
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

CONV, ADD = Operation("conv", (8, 7, 7), (4, 7, 7), 3), Operation("add", (4, 7, 7), (4, 7, 7))
SIDES, CHANNELS = (7, 14, 28, 56), (16, 32, 64, 128)


def calibrated(
    path: Path, *, model: CalibratedModel = "roofline", level: float = 0.9, unusual_speed: bool = False
) -> Calibration:
    return calibrate(read_measurements(path), model=model, level=level, precision="fp32", unusual_speed=unusual_speed)


def refused(path: Path, message: str, *, model: CalibratedModel = "roofline", level: float = 0.9) -> list[str]:
    """The lines of the refusal, the first of which matches `message`."""
    with pytest.raises(InvalidInputError) as caught:
        calibrated(path, model=model, level=level)
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path} cannot be used:"
    assert re.search(message, lines[0]), lines
    return [line.strip() for line in lines]


def grid(kind: str = "pointwise") -> list[Operation]:
    """Convolutions of one kind over a grid of sizes."""
    shapes = (
        product(CHANNELS, CHANNELS, SIDES) if kind != "depthwise" else ((c, c, s) for c, s in product(CHANNELS, SIDES))
    )
    kernel = 1 if kind == "pointwise" else 5
    return [
        Operation("conv", (a, side, side), (b, side, side), kernel, groups=a if kind == "depthwise" else 1)
        for a, b, side in shapes
    ]


# Known devices


def test_networks_of_a_known_device_give_its_times_back(tmp_path: Path) -> None:
    networks = mobile_networks(40)
    device = true_device()
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, device))
    found = calibrated(path)
    assert found.error.n == 40
    # The pull to the proportions of other devices, which this one has not, costs about 2 %.
    assert found.error.mape < 0.03 and found.error.within_10_share == 1
    assert found.error.spearman > 0.99
    assert 1 <= found.bound.factor < 1.06
    # Networks of another draw, none of them in the file.
    fresh = mobile_networks(30, seed=1)
    profile = true_device().model_copy(update={"latency": found.latency})
    for name, ms in true_times(fresh, device).items():
        assert true_times(fresh, profile)[name] == pytest.approx(ms, rel=0.1)


def test_a_device_of_the_populations_proportions_is_found_in_every_number(tmp_path: Path) -> None:
    population = load_population()
    fit, networks = population_fit(population), mobile_networks(12)
    amounts_NF = roofline_amounts(list(networks.values()), bytes_per_element=4)
    times = dict(zip(networks, 7 * (fit.features(amounts_NF) @ fit.prior_P), strict=True))
    latency = calibrated(write_networks(tmp_path / "bench.csv", networks, times)).latency
    assert isinstance(latency, Roofline)
    for kind in ("pointwise", "depthwise", "grouped"):
        expected = 1e3 / (7 * population.columns[f"throughput:{kind}"].typical)
        assert latency.kinds[kind].throughput_gops == pytest.approx(expected, rel=1e-3)
    assert latency.kinds["dense"].overhead_ms == pytest.approx(7 * population.columns["overhead"].typical, rel=1e-3)


def test_operations_of_a_known_device_give_its_rates_back(tmp_path: Path) -> None:
    device = true_device()
    operations = [*grid(), *grid("dense"), *grid("depthwise")]
    times = {op: device.price(op)["latency_ms"] for op in operations}
    found = calibrated(write_operations(tmp_path / "ops.csv", times))
    assert isinstance(found.latency, Roofline)
    assert set(found.latency.kinds) == {"pointwise", "dense", "depthwise"}
    assert found.error.mape < 0.02 and found.error.n == len(operations)
    assert found.latency.kinds["dense"].throughput_gops == pytest.approx(12.0, rel=0.02)
    assert found.latency.kinds["pointwise"].overhead_ms == pytest.approx(0.05, rel=0.05)


def test_operations_give_a_table_that_is_exact_where_measured_and_tried_between(tmp_path: Path) -> None:
    device = true_device()
    times = {op: device.price(op)["latency_ms"] for op in grid()}
    alone = Operation("linear", (256, 1, 1), (10, 1, 1))
    times[alone] = 0.5
    found = calibrated(write_operations(tmp_path / "ops.csv", times), model="table")
    assert isinstance(found.latency, Table)
    assert all(found.latency.price_ms(op, bytes_per_element=4) == ms for op, ms in times.items())
    # The linear layer lies beside all others, and so does each corner of the grid with a step of 2 beyond the rest.
    assert 0 < found.error.n < len(times)
    assert found.error.mape < 0.1
    assert found.bound.n == found.error.n


def test_a_kind_that_no_network_has_is_priced_in_proportion_and_named(tmp_path: Path) -> None:
    networks = mobile_networks(12)
    found = calibrated(write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device())))
    assert set(found.unmeasured) == {"winograd", "grouped"}
    assert {"throughput:winograd", "throughput:grouped"} <= set(found.undecided)
    assert (
        "throughput:pointwise"
        not in calibrated(
            write_operations(tmp_path / "ops.csv", {op: true_device().price(op)["latency_ms"] for op in grid()})
        ).undecided
    )


def test_a_device_that_slows_down_under_long_work_is_calibrated_as_a_whole(tmp_path: Path) -> None:
    def slowed(times: dict[str, float]) -> dict[str, float]:
        return {name: 0.5 * ms**1.4 for name, ms in times.items()}

    seen, unseen = mobile_networks(40), mobile_networks(20, seed=1)
    calibration = calibrated(write_networks(tmp_path / "b.csv", seen, slowed(true_times(seen, true_device()))))
    assert calibration.calibrator is not None
    assert calibration.error.mape < 0.1
    profile = load_profile(written(tmp_path, calibration))
    ms_N = np.array(list(slowed(true_times(unseen, true_device())).values()))
    sums_N = np.array([sum(profile.price(op)["latency_ms"] for op in operations) for operations in unseen.values()])
    mapped_N = np.array([profile.estimate("latency_ms", float(sum_ms)) for sum_ms in sums_N])
    errors = [float(np.abs(each / ms_N - 1).mean()) for each in (mapped_N, sums_N)]
    assert errors[0] < 0.1 and errors[0] < errors[1] / 1.5
    plain = calibrated(write_networks(tmp_path / "p.csv", seen, true_times(seen, true_device())))
    assert plain.calibrator is None


def written(folder: Path, calibration: Calibration) -> Path:
    path = folder / "slowed.yaml"
    path.write_text(profile_text(calibration, read_measurements(folder / "b.csv"), described()), encoding="utf-8")
    return path


def test_an_overhead_of_pools_is_fitted_only_where_operations_tell_it(tmp_path: Path) -> None:
    pool = Operation("avg_pool", (16, 7, 7), (16, 7, 7), 3)
    conv = Operation("conv", (16, 7, 7), (16, 7, 7), 5)
    told = [[conv] * a + [pool] * b for a in (1, 3) for b in (0, 10, 40)]
    untold = [[conv] * a + [pool] for a in (3, 6, 9, 12, 15)]
    columns = [
        network_fit(load_population(), roofline_amounts(networks, bytes_per_element=4)).columns
        for networks in (told, untold)
    ]
    assert ["overhead:pool" in names for names in columns] == [True, False]


# Held-out figures


def test_what_measurements_decide_is_the_resolution_by_hand() -> None:
    # One network of the first column alone. J'J = diag(1, 0), pull = 0.015 [[1, -1], [-1, 1]];
    # (J'J + pull)^-1 J'J = [[1, 0], [1, 0]], so the first is decided wholly and the second not at all.
    sums_FP = np.zeros((len(AMOUNTS), 2))
    sums_FP[0, 0] = sums_FP[1, 1] = 1
    fit = RooflineFit(("first", "second"), sums_FP, np.ones(2))
    amounts_NF = np.zeros((1, len(AMOUNTS)))
    amounts_NF[0, 0] = 5.0
    assert fit.undecided(amounts_NF, np.array([3.0, 2.0])) == ("second",)


@pytest.mark.parametrize(("level", "rows"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_rows_needed_are_those_that_make_the_rank_exist(level: float, rows: int) -> None:
    assert rows_needed(level) == rows
    conformal_factor(np.ones(rows), np.ones(rows), level=level)
    if rows > 1:
        with pytest.raises(InvalidInputError):
            conformal_factor(np.ones(rows - 1), np.ones(rows - 1), level=level)


def test_rows_are_left_out_alone_when_few_and_in_ten_even_groups_when_many() -> None:
    assert list(groups_of(60)) == list(range(60))
    assert sorted(np.bincount(groups_of(61))) == [6] * 9 + [7]


def test_a_row_is_predicted_without_its_group_and_left_out_where_the_others_are_silent() -> None:
    measured_N = np.array([1.0, 2.0, 4.0, 8.0])

    def predict(kept_N: Array) -> Array:
        """The sum of what is kept; silent on the last row."""
        return np.where(np.arange(4) < 3, measured_N[kept_N].sum(), np.nan)

    held_out = hold_out(predict, measured_N, np.array([0, 0, 1, 1]), subject="network")
    assert held_out.rows == (0, 1, 2)
    assert list(held_out.predicted_N) == [12.0, 12.0, 3.0]
    assert held_out.worst(2) == [0, 1]  # 12 times, 6 times too large


def test_coverage_of_the_bound_is_that_of_the_whole_procedure_done_again_without_each_row() -> None:
    measured_N = np.random.default_rng(3).lognormal(size=14)

    def predict(kept_N: Array) -> Array:
        return np.full(14, measured_N[kept_N].mean())

    covered = []
    for i in range(14):
        others = [j for j in range(14) if j != i]
        ratios = [measured_N[j] / np.mean([measured_N[k] for k in others if k != j]) for j in others]
        factor = max(1.0, sorted(ratios)[math.ceil(14 * 0.8 - 1e-9) - 1])
        covered.append(measured_N[i] <= factor * np.mean([measured_N[j] for j in others]))
    expected = sum(covered) / 14
    assert 0 < expected < 1
    assert bound_coverage(predict, measured_N, groups_of(14), level=0.8) == pytest.approx(expected)
    assert bound_coverage(predict, measured_N[:14], groups_of(14), level=0.95) is None


def test_coverage_over_many_noisy_devices_is_at_the_level() -> None:
    # 60 files of 19 rows: a share of 1,140 rows, each covered with probability 0.9; 3 standard errors are 0.027.
    generator = np.random.default_rng(0)
    coverages = []
    for _ in range(60):
        measured_N = generator.lognormal(sigma=0.2, size=19)

        def predict(kept_N: Array, measured_N: Array = measured_N) -> Array:
            return np.full(19, np.median(measured_N[kept_N]))

        coverages.append(bound_coverage(predict, measured_N, groups_of(19), level=0.9))
    assert np.mean(coverages) == pytest.approx(0.92, abs=0.047)  # 0.9 to 0.9 + 1/19, and 3 standard errors


# Refusals


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
    fit = population_fit(load_population())
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


def test_all_that_is_wrong_with_rows_is_told_at_once(tmp_path: Path) -> None:
    networks = mobile_networks(5)
    times = true_times(networks, true_device())
    path = write_networks(tmp_path / "bench.csv", networks, {**times, "net1": times["net1"] * 1e6})
    assert [line.partition(":")[0] for line in refused(path, "line 6")] == ["line 6", "line 3"]


def test_predictions_that_are_all_equal_have_no_rank_and_are_refused() -> None:
    times_N = np.array([1.0, 2.0, 3.0])
    alike = hold_out(lambda kept_N: np.full(3, 2.0), times_N, groups_of(3), subject="operation")
    [problem] = rank_problems(alike)
    assert "all held-out times or all their predictions are equal" in problem
    assert list(rank_problems(replace(alike, predicted_N=times_N))) == []


def test_networks_make_no_table(tmp_path: Path) -> None:
    networks = mobile_networks(10)
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device()))
    refused(path, "a table has the prices of single operations, and these are whole networks", model="table")


def test_a_table_of_operations_far_from_each_other_is_refused(tmp_path: Path) -> None:
    far = [Operation("conv", (4**i, 8, 8), (4**i, 8, 8), 2 * i + 1) for i in range(5)]
    far += [Operation("conv", (4**i, 8, 8), (4**i, 8, 8), 2 * i + 1, groups=4**i) for i in range(1, 6)]
    times = {op: true_device().price(op)["latency_ms"] for op in far}
    refused(write_operations(tmp_path / "ops.csv", times), "0 of 10 operations lie between others", model="table")


# Dead code


def networks_with_dead_code() -> tuple[dict[str, tuple[Operation, ...]], dict[str, tuple[Operation, ...]]]:
    networks = mobile_networks(16)
    dead = {name: networks[f"net{15 - i}"][5 : 5 + 6 * (i % 4)] for i, name in enumerate(networks)}
    return {name: (*operations, *dead[name]) for name, operations in networks.items()}, dead


@pytest.mark.parametrize("drops", [True, False])
def test_a_runtime_that_drops_dead_code_is_told_from_one_that_runs_it(tmp_path: Path, drops: bool) -> None:
    networks, dead = networks_with_dead_code()
    run = mobile_networks(16) if drops else networks
    path = write_networks(tmp_path / "bench.csv", networks, true_times(run, true_device()), dead)
    found = calibrated(path)
    assert found.drops_dead_code is drops
    assert found.error.mape < 0.05


def test_dead_code_is_not_known_where_it_takes_next_to_no_time_or_is_not_marked(tmp_path: Path) -> None:
    networks = mobile_networks(12)
    tiny = Operation("add", (8, 4, 4), (8, 4, 4))
    with_dead = {name: (*operations, tiny) for name, operations in networks.items()}
    times = true_times(with_dead, true_device())
    marked = write_networks(tmp_path / "marked.csv", with_dead, times, {name: [tiny] for name in networks})
    assert calibrated(marked).drops_dead_code is None
    unmarked = read_measurements(write_networks(tmp_path / "unmarked.csv", with_dead, times))
    assert drops_dead_code(unmarked.rows, bytes_per_element=4) is None


def test_dead_operations_are_read_from_the_layers(tmp_path: Path) -> None:
    path = write_networks(tmp_path / "b.csv", {"a": [CONV, CONV, ADD]}, {"a": 1.0}, {"a": [CONV, ADD]})
    [row] = read_measurements(path).rows
    assert sorted(op.kind for op in row.operations) == ["add", "conv", "conv"]
    assert (set(row.unread), len(row.unread)) == ({CONV, ADD}, 2)
    assert executed(row, drops_dead_code=True) == (CONV,)
    assert executed(row, drops_dead_code=False) == row.operations
    layers = tmp_path / "b.layers.csv"
    layers.write_text(layers.read_text().replace("false", "no"))
    with pytest.raises(InvalidInputError, match="line 3: reached: got 'no'; allowed: true, false"):
        read_layers(layers)


def test_a_network_of_dead_operations_alone_is_refused(tmp_path: Path) -> None:
    networks = dict(mobile_networks(10))
    unread = {"net2": networks["net2"]}
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device()), unread)
    refused(path, "line 4: 'net2': nothing reads any of its operations")


# What to measure next


@cache
def candidates() -> tuple[list[str], Array, Array, list[int]]:
    """Names of 300 networks, their features, their times on the typical device, and the places of ordinary ones."""
    networks, fit = mobile_networks(300), population_fit(load_population())
    x_NP = fit.features(roofline_amounts(list(networks.values()), bytes_per_element=4))
    typical_N = x_NP @ fit.prior_P
    low, high = np.quantile(typical_N, ORDINARY)
    return list(networks), x_NP, typical_N, list(np.flatnonzero((typical_N >= low) & (typical_N <= high)))


def design(num: int) -> list[int]:
    chosen = propose(mobile_networks(300), (), num_networks=num, bytes_per_element=4)
    return [candidates()[0].index(proposal.name) for proposal in chosen]


def relative_variance(chosen: Sequence[int]) -> float:
    """Mean over ordinary networks of the variance of their times that is left once the chosen ones are measured."""
    _, x_NP, typical_N, ordinary = candidates()
    prior = load_population().prior(population_fit(load_population()).columns)
    device = fit_device(prior, x_NP[chosen], typical_N[chosen])
    variance_N = np.einsum("np,pq,nq->n", x_NP, device.covariance_PP, x_NP) / typical_N**2
    return float(variance_N[ordinary].mean())


@pytest.mark.parametrize("num", [5, 10, 20])
def test_designed_networks_leave_less_variance_than_as_many_random_ones(num: int) -> None:
    generator, ordinary = np.random.default_rng(0), candidates()[3]
    drawn = [relative_variance(generator.choice(ordinary, num, replace=False)) for _ in range(50)]
    assert relative_variance(design(num)) < min(drawn)


def test_designed_networks_give_a_smaller_error_on_other_networks_than_random_ones() -> None:
    # 200 devices drawn from the population, measured with 5 % noise: the errors are about 1.7 % and 2.1 %.
    population, generator = load_population(), np.random.default_rng(0)
    fit, (_, x_NP, _, ordinary) = population_fit(population), candidates()
    deviation_P = np.array([population.columns[column].log_deviation for column in fit.columns])
    designed, gains = design(10), []
    for _ in range(200):
        true_N = x_NP @ (fit.prior_P * np.exp(generator.normal(size=len(deviation_P)) * deviation_P))
        measured_N = true_N * np.exp(0.05 * generator.normal(size=len(true_N)))
        chosen = (designed, generator.choice(ordinary, 10, replace=False))
        fitted = [fit_with_prior(x_NP[rows], measured_N[rows], fit.prior_P) for rows in chosen]
        of_design, of_draw = (np.abs(x_NP @ c / true_N - 1)[ordinary].mean() for c in fitted)
        gains.append(of_draw - of_design)
    assert np.mean(gains) > 3 * np.std(gains) / math.sqrt(len(gains))


def test_proposed_networks_are_ordinary_and_distinct() -> None:
    chosen = design(12)
    assert len(set(chosen)) == 12
    assert set(chosen) <= set(candidates()[3])


def test_measured_networks_and_their_likes_are_not_proposed_again(tmp_path: Path) -> None:
    networks = mobile_networks(60)
    first = [p.name for p in propose(networks, (), num_networks=6, bytes_per_element=4)]
    known = {name: networks[name] for name in first[:5]} | {"other name": networks[first[5]]}
    times = true_times(known, true_device(speed=3))
    rows = read_measurements(write_networks(tmp_path / "bench.csv", known, times)).rows
    more = propose(networks, rows, num_networks=30, bytes_per_element=4)
    assert {proposal.name for proposal in more}.isdisjoint(first)
    truth = true_times(networks, true_device(speed=3))
    for proposal in more:  # six measurements know the device within a fifth
        assert proposal.predicted_ms == pytest.approx(truth[proposal.name], rel=0.2)
        assert proposal.deviation_ms is not None and 0 < proposal.deviation_ms < proposal.predicted_ms
    with pytest.raises(InvalidInputError, match=r"propose: got 60, but \d+ of 60 candidate networks"):
        propose(networks, rows, num_networks=60, bytes_per_element=4)


def test_a_design_follows_what_is_measured_already() -> None:
    # Two columns of equal spread: one measurement of the first leaves the second as the uncertain one.
    prior = DevicePrior(np.ones(2), np.eye(2) * 0.25, noise=0.05)
    x_NP = np.array([[1.0, 0.1], [0.1, 1.0]])
    device = fit_device(prior, x_NP[:1], x_NP[:1] @ prior.mean_P)
    left_N = np.einsum("np,pq,nq->n", x_NP, device.covariance_PP, x_NP)
    assert left_N[0] < 0.1 * left_N[1]


# The file


def described(**changes: object) -> Description:
    return replace(Description("dev", 'Dev 5 "é": x', "ort", 4, "fp32", ("Assumed.",)), **changes)  # type: ignore[arg-type]


def test_the_profile_that_is_written_says_what_was_found(tmp_path: Path) -> None:
    networks = mobile_networks(20)
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device()))
    found = calibrated(path)
    text = profile_text(found, read_measurements(path), described())
    assert text.startswith("# @package hardware.dev\n")
    (tmp_path / "dev.yaml").write_text(text, encoding="utf-8")
    profile = load_profile(tmp_path / "dev.yaml")
    assert (profile.title, profile.runtime, profile.threads) == ('Dev 5 "é": x', "ort", 4)
    assert profile.error is not None and profile.bound is not None
    assert profile.error.mape == pytest.approx(found.error.mape, rel=1e-3)
    assert profile.error.within_10_share == found.error.within_10_share
    assert profile.bound.coverage == pytest.approx(found.bound.coverage, rel=1e-3)
    assert profile.bound.factor >= found.bound.factor
    assert profile.inferred[-1] == "Assumed."
    assert any("winograd, grouped" in sentence for sentence in profile.inferred)
    assert any("throughput of depthwise" in sentence for sentence in profile.inferred)
    assert "sha256" in profile.source and "the file does not say on what" in profile.source
    priced = true_device().model_copy(update={"latency": found.latency})
    written = true_device().model_copy(update={"latency": profile.latency})
    for name, ms in true_times(networks, priced).items():
        assert true_times(networks, written)[name] == pytest.approx(ms, rel=1e-3)


def test_a_table_that_is_written_keeps_its_entries(tmp_path: Path) -> None:
    times = {op: true_device().price(op)["latency_ms"] for op in grid()}
    path = write_operations(tmp_path / "ops.csv", times)
    text = profile_text(calibrated(path, model="table"), read_measurements(path), described())
    profile = profile_from_dict("dev", yaml.safe_load(text))
    for operation, ms in times.items():
        assert profile.price(operation)["latency_ms"] == pytest.approx(ms, rel=1e-3)


def test_numbers_that_python_writes_with_an_exponent_are_numbers_in_yaml(tmp_path: Path) -> None:
    networks = mobile_networks(10)
    device = true_device(speed=1e-4)
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, device))
    text = profile_text(calibrated(path, unusual_speed=True), read_measurements(path), described())
    overhead = yaml.safe_load(text)["latency"]["kinds"]["pointwise"]["overhead_ms"]
    assert isinstance(overhead, float) and overhead < 1e-4


@pytest.mark.parametrize(("factor", "shown"), [(1.2341, 1.235), (1.234, 1.234), (1.0, 1.0), (12.3401, 12.35)])
def test_the_bound_is_never_rounded_down(tmp_path: Path, factor: float, shown: float) -> None:
    networks = mobile_networks(10)
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device()))
    found = calibrated(path)
    raised = replace(found, bound=found.bound.model_copy(update={"factor": factor}))
    assert yaml.safe_load(profile_text(raised, read_measurements(path), described()))["bound"]["factor"] == shown


def test_text_that_a_configuration_would_read_as_a_reference_is_refused(tmp_path: Path) -> None:
    networks = mobile_networks(10)
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, true_device()))
    with pytest.raises(InvalidInputError, match=r"got 'a \$\{b\}'; a configuration file reads"):
        profile_text(calibrated(path), read_measurements(path), described(title="a ${b}"))
