"""Any file of measurements, any profile: a clear error or sound prices, never a traceback, NaN or a wrong number."""

import csv
import math
import os
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measured_networks import mobile_networks, true_device, true_times, write_networks, write_operations
from spaces import ROOT

from hardware_models.calibration.calibration import calibrate
from hardware_models.calibration.profile_file import Description, profile_text
from hardware_models.measuring.measurements import layers_path, read_measurements
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from search_spaces.errors import EspalierError
from search_spaces.operation import Operation

OPERATIONS = [
    *(Operation("conv", (c, s, s), (32, s, s)) for c in (16, 32, 64) for s in (7, 28)),
    *(Operation("conv", (c, s, s), (c, s, s), 3, groups=c) for c in (16, 64) for s in (7, 28)),
]
ASKED = [
    Operation("conv", (24, 14, 14), (40, 14, 14)),
    Operation("conv", (24, 14, 14), (24, 14, 14), 5, groups=24),
    Operation("add", (24, 14, 14), (24, 14, 14)),
    Operation("linear", (100, 1, 1), (10, 1, 1)),
]
FUZZED = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", 10)),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD_CELLS = [
    "",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "1e308",
    "1e-308",
    "1e999",
    "0",
    "-0.0",
    "-1",
    "1,5",
    "１",
    "1_0",
    "0x1",
    '"',
    "é",
    "\u202e1",
    "true",
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str | None]]:
    """Text of a sound file of networks and of one of operations, each with that of its layers."""
    folder, networks = tmp_path_factory.mktemp("sound"), mobile_networks(7)
    first = write_networks(folder / "n.csv", networks, true_times(networks, true_device()))
    second = write_operations(folder / "o.csv", {op: true_device().price(op)["latency_ms"] for op in OPERATIONS})
    return {
        "network": (first.read_text(), layers_path(first).read_text()),
        "operation": (second.read_text(), None),
    }


def cells_of(text: str) -> list[list[str]]:
    return list(csv.reader(StringIO(text)))


def text_of(cells: list[list[str]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


@st.composite
def changed_cells(draw: st.DrawFn, cells: list[list[str]]) -> list[list[str]]:
    """A table with one thing changed: most changes are wrong, some are harmless."""
    i, kind = draw(st.integers(1, len(cells) - 1)), draw(st.integers(0, 8))
    column = draw(st.integers(0, len(cells[0]) - 1))
    if kind == 0:
        return [row[:column] + row[column + 1 :] for row in cells]
    if kind == 1:
        cells[i][column] = draw(st.sampled_from(ODD_CELLS) | st.text(max_size=5))
    elif kind == 2:
        cells[i] = cells[draw(st.integers(1, len(cells) - 1))]
    elif kind == 3:
        cells[i] = cells[i] + [draw(st.sampled_from(ODD_CELLS))]
    elif kind == 4:
        del cells[i:]
    elif kind == 5:
        cells[0][column] = draw(st.sampled_from(["network", "operation", "count", "p90_ms", "reached", "x", ""]))
    elif kind == 6:
        factor = draw(st.sampled_from([1e-9, 1e-6, 1e-3, 0.5, 2.0, 1e3, 1e6, 1e9]))
        rows = cells[1:] if draw(st.booleans()) else cells[i : i + 1]
        rows[:] = [scaled(row, factor) for row in rows]
        cells[1:] = rows if len(rows) > 1 else [scaled(r, factor) if k == i else r for k, r in enumerate(cells)][1:]
    elif kind == 7:
        cells[1:] = draw(st.permutations(cells[1:]))
    return cells


def scaled(row: list[str], factor: float) -> list[str]:
    """The row with its last cell multiplied, where that is a number."""
    try:
        return [*row[:-1], repr(float(row[-1]) * factor)]
    except ValueError:
        return row


@st.composite
def changed_bytes(draw: st.DrawFn, text: str) -> bytes:
    cells = cells_of(text)
    for _ in range(draw(st.integers(0, 2))):
        if len(cells) > 1 and cells[0]:
            cells = draw(changed_cells(cells))
    content = text_of(cells)
    if draw(st.integers(0, 3)) == 0:
        content = content.replace("\n", draw(st.sampled_from(["\r\n", "\r", "\n\n"])))
    encoded = draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf"])) + content.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(encoded)))
        encoded = encoded[:at] + draw(st.binary(max_size=4)) + encoded[at + draw(st.integers(0, 3)) :]
    return encoded


def sound_price(profile: HardwareProfile, operation: Operation) -> float | None:
    """Its latency, finite and not negative, or None where the profile refuses to price it."""
    try:
        prices = profile.price(operation)
    except EspalierError:
        return None
    assert all(isinstance(value, float) and math.isfinite(value) and value >= 0 for value in prices.values()), prices
    return prices["latency_ms"]


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["network", "operation"])
@given(data=st.data())
@FUZZED
def test_any_measurements_give_a_clear_error_or_the_right_profile(
    tmp_path: Path, originals: dict[str, tuple[str, str | None]], subject: str, data: st.DataObject
) -> None:
    path, (rows, layers) = tmp_path / "bench.csv", originals[subject]
    path.write_bytes(data.draw(changed_bytes(rows)))
    layers_path(path).unlink(missing_ok=True)
    if layers is not None:
        change_layers = data.draw(st.integers(0, 3)) == 0
        layers_path(path).write_bytes(data.draw(changed_bytes(layers)) if change_layers else layers.encode())
    model = data.draw(st.sampled_from(("additive", "roofline", "table"))) if subject == "operation" else "roofline"
    try:
        measurements = read_measurements(path)
        found = calibrate(measurements, model=model, level=0.8, precision="fp32")
        text = profile_text(found, measurements, Description("dev", "t", "r", None, "fp32", ()))
    except EspalierError as error:
        complaint = str(error)
    else:
        complaint = ""
    if complaint:
        assert str(path.parent) in complaint
        return
    assert not any(word in text.lower() for word in ("nan", ".inf"))
    (tmp_path / "dev.yaml").write_text(text, encoding="utf-8")
    profile = load_profile(tmp_path / "dev.yaml")
    for operation in ASKED:
        sound_price(profile, operation)
    # What was measured is priced as it was measured, within what held-out rows were off and a factor for the fit.
    assert profile.error is not None
    allowed = 1.5 + 2 * float(max(abs(found.held_out.ratio_N - 1).max(), abs(1 / found.held_out.ratio_N - 1).max()))
    for row in measurements.rows:
        prices = [sound_price(profile, operation) for operation in row.operations]
        total_ms = sum(price for price in prices if price is not None)
        assert None not in prices
        assert row.latency_ms / allowed < total_ms < row.latency_ms * allowed


PROFILES: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "conf" / "hardware").glob("*.yaml"))
    if path.stem in ("iot_terminal", "nb201_pixel3", "three_units", "split_phone_server")
}
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 1.5, 1e308, 1e-308, 5e-324, -0.0, math.nan, math.inf, -math.inf, 2**80),
    *("", "1", "nan", "1e5", "é", "roofline", "table", [], {}, [1], {"a": 1}, [[]], "2020-01-01"),
]


def places(content: Any, *, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in nested mappings and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in items for place in ((*way, key), *places(value, way=(*way, key)))]


@st.composite
def changed_profiles(draw: st.DrawFn) -> bytes:
    content = deepcopy(PROFILES[draw(st.sampled_from(sorted(PROFILES)))])
    for _ in range(draw(st.integers(1, 3))):
        ways = places(content)
        *way, key = draw(st.sampled_from(ways))
        parent = content
        for step in way:
            parent = parent[step]
        change: Callable[[], Any] = draw(
            st.sampled_from(
                [
                    lambda parent=parent, key=key: parent.__delitem__(key),
                    lambda parent=parent, key=key: parent.__setitem__(key, draw(st.sampled_from(ODD_VALUES))),
                    lambda parent=parent, key=key: (
                        isinstance(parent, dict)
                        and parent.__setitem__(draw(st.sampled_from(["x", "latency", "é", 1, None])), parent[key])
                    ),
                    lambda parent=parent, key=key: (
                        isinstance(parent[key], float)
                        and parent.__setitem__(key, parent[key] * draw(st.sampled_from([-1.0, 1e-300, 1e300, 1e3])))
                    ),
                ]
            )
        )
        change()
    text = yaml.safe_dump(content, allow_unicode=True).encode()
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 3)) :]
    return text


@given(content=changed_profiles())
@FUZZED
def test_any_profile_gives_a_clear_error_or_sound_prices(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dev.yaml"
    path.write_bytes(content)
    profile, complaint = None, ""
    try:
        profile = load_profile(path)
    except EspalierError as error:
        complaint = str(error)
    if profile is None:
        assert "dev" in complaint
        return
    assert_sound_prices(profile)


def assert_sound_prices(profile: HardwareProfile) -> None:
    """All that the profile prices is finite and not negative, also moved between units and at the bound."""
    for unit in profile.units or [None]:
        for operation in ASKED:
            try:
                prices = profile.price(operation, unit=unit)
            except EspalierError:
                continue
            assert all(math.isfinite(value) and value >= 0 for value in prices.values()), prices
            assert math.isfinite(profile.upper("latency_ms", prices["latency_ms"]))
    for one, other in product(profile.units, repeat=2):
        assert math.isfinite(profile.transfer(10**6, one, other)["latency_ms"])


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("iot_terminal", ("latency", "kinds", "pointwise", "throughput_gops")),
        ("iot_terminal", ("latency", "activation_gb_per_s")),
        ("iot_terminal", ("latency", "kinds", "pointwise", "overhead_ms")),
        ("iot_terminal", ("bound", "factor")),
        ("three_units", ("units", "gpu", "weight")),
        ("three_units", ("links", "memory", "gb_per_s")),
    ],
)
@pytest.mark.parametrize("number", [5e-324, 1e308])
def test_no_number_of_a_profile_makes_an_infinite_price(name: str, way: tuple[str, ...], number: float) -> None:
    # A throughput of 5e-324 once priced a convolution at infinity, a bound of 1e308 every network.
    content = deepcopy(PROFILES[name])
    parent = content
    for step in way[:-1]:
        parent = parent[step]
    parent[way[-1]] = number
    profile = None
    with suppress(EspalierError):
        profile = profile_from_dict(name, content)
    if profile is not None:
        assert_sound_prices(profile)


def test_a_profile_that_is_no_text_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    # It once ended in a traceback.
    (tmp_path / "dev.yaml").write_bytes(b"\x80title: x\n")
    with pytest.raises(EspalierError, match=r"cannot read a hardware profile from .*dev\.yaml"):
        load_profile(tmp_path / "dev.yaml")
