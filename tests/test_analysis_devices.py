"""Networks across devices and held-out predictions, against sums over operations and the calibration's own rows."""

from pathlib import Path

import numpy as np
import pytest

from hardware_models.calibration.calibration import calibrate
from hardware_models.measuring.measurements import read_measurements
from hardware_models.profile import load_profile
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from tests.tiny_search import CONF, networks_of, small_space
from trainers.analysis import held_out, latencies
from trainers.runs.files import write_csv


def test_latencies_are_sums_over_the_operations_of_networks_of_the_space() -> None:
    space = small_space()
    profiles = [load_profile(CONF / "hardware" / f"{name}.yaml") for name in ("pixel6", "mid_tablet")]
    found = latencies(space, profiles, num_networks=5)
    assert list(found.columns) == ["pixel6", "mid_tablet"] and len(found) == 5
    possible = []
    for indices in networks_of(space):
        operations = space.operations(space.choices(indices))
        sums = [p.constant_ms + sum(p.price(op)["latency_ms"] for op in operations) for p in profiles]
        possible.append([p.estimate("latency_ms", total) for p, total in zip(profiles, sums, strict=True)])
    for row in found.to_numpy():  # both of one network
        assert np.isclose(possible, row, rtol=1e-9).all(axis=1).any()


def test_latencies_are_the_same_networks_for_the_same_seed() -> None:
    space, profiles = small_space(), [load_profile(CONF / "hardware" / "mid_tablet.yaml")]
    first, again, other = (latencies(space, profiles, num_networks=8, seed=seed) for seed in (1, 1, 2))
    assert first.equals(again) and not first.equals(other)


def test_a_device_of_several_units_has_no_latency_without_a_placement() -> None:
    with pytest.raises(InvalidInputError, match=r"\['three_units'\] have several units"):
        latencies(small_space(), [load_profile(CONF / "hardware" / "three_units.yaml")], num_networks=2)


def operations_file(path: Path) -> Path:
    """Times of two kinds of operations, in proportion to what they do and off by up to 10 %."""
    generator = np.random.default_rng(0)
    rows = []
    for channels in (16, 24, 32, 48, 64, 96, 128):
        shape = (channels, 14, 14)
        for operation in (
            Operation("conv", shape, shape, kernel=3, groups=channels),
            Operation("linear", (channels, 1, 1), (10 * channels, 1, 1)),
        ):
            amount = operation.macs + operation.params + sum(map(np.prod, (operation.in_shape, operation.out_shape)))
            ms = 0.01 + 1e-6 * float(amount) * generator.uniform(0.9, 1.1)
            rows.append({"operation": operation.notation, "latency_ms": ms})
    write_csv(path, rows, ["operation", "latency_ms"])
    return path


def test_held_out_rows_carry_what_they_are_priced_as(tmp_path: Path) -> None:
    measurements = read_measurements(operations_file(tmp_path / "bench.csv"))
    calibration = calibrate(measurements, model="roofline", level=0.9, precision="fp32")
    found = held_out(calibration, measurements)
    assert list(found.columns) == ["name", "line", "measured_ms", "predicted_ms", "ratio", "kind"]
    kinds = {row.name: "depthwise" if "conv" in row.name else "linear" for row in measurements.rows}
    assert dict(zip(found["name"], found["kind"], strict=True)) == kinds
    assert found["measured_ms"].tolist() == [row.latency_ms for row in measurements.rows]
    assert found["predicted_ms"].to_numpy() == pytest.approx(calibration.held_out.predicted_N)
