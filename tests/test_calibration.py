"""Calibration: known devices are found again, the file says what was found."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from calibrations import calibrated, grid
from measured_networks import (
    mobile_networks,
    true_device,
    true_times,
    write_networks,
    write_operations,
)

from hardware_models.calibration.calibration import Calibration
from hardware_models.calibration.population import load_population
from hardware_models.calibration.profile_file import Description, profile_text
from hardware_models.calibration.roofline_design import network_design, population_design, roofline_amounts
from hardware_models.latency_models.roofline import Roofline
from hardware_models.latency_models.table import Table
from hardware_models.measuring.measurements import read_measurements
from hardware_models.profile import load_profile, profile_from_dict
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

# Known devices


def test_networks_of_a_known_device_give_its_times_back(tmp_path: Path) -> None:
    networks = mobile_networks(20)
    device = true_device()
    path = write_networks(tmp_path / "bench.csv", networks, true_times(networks, device))
    found = calibrated(path)
    assert found.error.n == 20
    # The pull to the proportions of other devices, which this one has not, costs about 2 %, in any draw of networks.
    assert found.error.mape < 0.05 and found.error.within_10_share == 1
    assert found.error.spearman > 0.95  # networks of nearly the same time may change places
    assert 1 <= found.bound.factor < 1.11
    # Networks of another draw, none of them in the file.
    fresh = mobile_networks(30, seed=1)
    profile = true_device().model_copy(update={"latency": found.fitted.latency})
    for name, ms in true_times(fresh, device).items():
        assert true_times(fresh, profile)[name] == pytest.approx(ms, rel=0.1)


def test_a_device_of_the_populations_proportions_is_found_in_every_number(tmp_path: Path) -> None:
    population = load_population()
    fit, networks = population_design(population), mobile_networks(12)
    amounts_NF = roofline_amounts(list(networks.values()), bytes_per_element=4)
    times = dict(zip(networks, 7 * (fit.features(amounts_NF) @ fit.prior_P), strict=True))
    latency = calibrated(write_networks(tmp_path / "bench.csv", networks, times)).fitted.latency
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
    assert isinstance(found.fitted.latency, Roofline)
    assert set(found.fitted.latency.kinds) == {"pointwise", "dense", "depthwise"}
    assert found.error.mape < 0.02 and found.error.n == len(operations)
    assert found.fitted.latency.kinds["dense"].throughput_gops == pytest.approx(12.0, rel=0.02)
    assert found.fitted.latency.kinds["pointwise"].overhead_ms == pytest.approx(0.05, rel=0.05)


def test_operations_give_a_table_that_is_exact_where_measured_and_tried_between(tmp_path: Path) -> None:
    device = true_device()
    times = {op: device.price(op)["latency_ms"] for op in grid()}
    alone = Operation("linear", (256, 1, 1), (10, 1, 1))
    times[alone] = 0.5
    found = calibrated(write_operations(tmp_path / "ops.csv", times), model="table")
    assert isinstance(found.fitted.latency, Table)
    assert all(found.fitted.latency.price_ms(op, bytes_per_element=4) == ms for op, ms in times.items())
    # The linear layer lies beside all others, and so does each corner of the grid with a step of 2 beyond the rest.
    assert 0 < found.error.n < len(times)
    assert found.error.mape < 0.1
    assert found.bound.n == found.error.n


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Calibration]:
    """Twelve networks of a known device, and what they are calibrated to."""
    networks, folder = mobile_networks(12), tmp_path_factory.mktemp("bench")
    path = write_networks(folder / "bench.csv", networks, true_times(networks, true_device()))
    return path, calibrated(path)


def test_a_kind_that_no_network_has_is_priced_in_proportion_and_named(
    tmp_path: Path, bench: tuple[Path, Calibration]
) -> None:
    fitted = bench[1].fitted
    assert set(fitted.unmeasured) == {"winograd", "grouped"}
    assert {"throughput:winograd", "throughput:grouped"} <= set(fitted.undecided)
    times = {op: true_device().price(op)["latency_ms"] for op in grid()}
    by_operation = calibrated(write_operations(tmp_path / "ops.csv", times)).fitted
    assert "throughput:pointwise" not in by_operation.undecided


@pytest.mark.slow
def test_a_device_that_slows_down_under_long_work_is_calibrated_as_a_whole(tmp_path: Path) -> None:
    def slowed(times: dict[str, float]) -> dict[str, float]:
        return {name: 0.5 * ms**1.4 for name, ms in times.items()}

    seen, unseen = mobile_networks(20), mobile_networks(20, seed=1)
    calibration = calibrated(write_networks(tmp_path / "b.csv", seen, slowed(true_times(seen, true_device()))))
    assert calibration.fitted.calibrator is not None
    assert calibration.error.mape < 0.1
    profile = load_profile(written(tmp_path, calibration))
    ms_N = np.array(list(slowed(true_times(unseen, true_device())).values()))
    sums_N = np.array([sum(profile.price(op)["latency_ms"] for op in operations) for operations in unseen.values()])
    mapped_N = np.array([profile.estimate("latency_ms", float(sum_ms)) for sum_ms in sums_N])
    errors = [float(np.abs(each / ms_N - 1).mean()) for each in (mapped_N, sums_N)]
    assert errors[0] < 0.1 and errors[0] < errors[1] / 1.5
    plain = calibrated(write_networks(tmp_path / "p.csv", seen, true_times(seen, true_device())))
    assert plain.fitted.calibrator is None


def written(folder: Path, calibration: Calibration) -> Path:
    path = folder / "slowed.yaml"
    path.write_text(profile_text(calibration, read_measurements(folder / "b.csv"), described()), encoding="utf-8")
    return path


def test_an_overhead_of_pools_is_fitted_only_where_operations_tell_it(tmp_path: Path) -> None:
    pool = Operation("avg_pool", (16, 7, 7), (16, 7, 7), 3)
    conv = Operation("conv", (16, 7, 7), (16, 7, 7), 5)
    reported = [[conv] * a + [pool] * b for a in (1, 3) for b in (0, 10, 40)]
    unmeasured = [[conv] * a + [pool] for a in (3, 6, 9, 12, 15)]
    columns = [
        network_design(load_population(), roofline_amounts(networks, bytes_per_element=4)).columns
        for networks in (reported, unmeasured)
    ]
    assert ["overhead:pool" in names for names in columns] == [True, False]


# The file


def described(**changes: object) -> Description:
    return replace(Description("dev", 'Dev 5 "é": x', "ort", 4, "fp32", ("Assumed.",)), **changes)  # type: ignore[arg-type]


def test_the_profile_that_is_written_says_what_was_found(tmp_path: Path, bench: tuple[Path, Calibration]) -> None:
    path, found = bench
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
    assert any("throughput:depthwise" in sentence for sentence in profile.inferred)
    assert "sha256" in profile.source and "the file does not say on what" in profile.source
    priced = true_device().model_copy(update={"latency": found.fitted.latency})
    written = true_device().model_copy(update={"latency": profile.latency})
    for name, ms in true_times(mobile_networks(12), priced).items():
        assert true_times(mobile_networks(12), written)[name] == pytest.approx(ms, rel=1e-3)


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


def test_the_bound_is_never_rounded_down(bench: tuple[Path, Calibration]) -> None:
    path, found = bench
    for factor, shown in ((1.2341, 1.235), (1.234, 1.234), (1.0, 1.0), (12.3401, 12.35)):
        raised = replace(found, bound=found.bound.model_copy(update={"factor": factor}))
        assert yaml.safe_load(profile_text(raised, read_measurements(path), described()))["bound"]["factor"] == shown


def test_text_that_a_configuration_would_read_as_a_reference_is_refused(bench: tuple[Path, Calibration]) -> None:
    with pytest.raises(InvalidInputError, match=r"\$\{"):
        profile_text(bench[1], read_measurements(bench[0]), described(title="a ${b}"))
