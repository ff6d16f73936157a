"""Look-up tables of operations: exact entries, interpolation between them, and a refusal beyond."""

import hashlib
import math
import os
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from wrong_cells import wrong_cells

from hardware_models.latency_models.interpolation import BEYOND, REACH, Entry, LookUpTable
from hardware_models.profile import HardwareProfile, load_profile, profile_from_dict
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
CHANNELS = (16, 24, 32, 48, 64)
SIDES = (7, 14, 28, 56)


def law_ms(c_in: int, c_out: int, side: int) -> float:
    """Times of a made-up device: a product of powers, so that their logarithms lie on a plane."""
    return 2e-7 * c_in**0.9 * c_out**1.1 * side**1.8


def pointwise(c_in: int, c_out: int, side: int) -> Operation:
    return Operation("conv", (c_in, side, side), (c_out, side, side))


def grid() -> dict[str, float]:
    return {pointwise(a, b, side).notation: law_ms(a, b, side) for a in CHANNELS for b in CHANNELS for side in SIDES}


def profile(**latency: Any) -> HardwareProfile:
    return profile_from_dict(
        "mine",
        {
            "title": "A device made up for this test",
            "runtime": "none",
            "threads": 1,
            "precision": "fp32",
            "budgets": {"latency_ms": 10},
            "latency": {"model": "table", **latency},
            "error": {"method": "by hand", "n": 1, "mape": 0, "median_ape": 0, "within_20_share": 1, "spearman": 1},
            "source": "this test",
            "measured": [],
            "inferred": [],
        },
    )


def test_an_entry_costs_exactly_what_was_measured() -> None:
    # A time off every trend: a table gives back what was measured all the same.
    entries = {**grid(), pointwise(24, 32, 14).notation: 0.123456789}
    mine = profile(entries=entries)
    for notation, ms in entries.items():
        c_in, side = (int(part) for part in notation.split()[1].split("x")[:2])
        c_out = int(notation.split()[3].split("x")[0])
        assert mine.price(pointwise(c_in, c_out, side))["latency_ms"] == ms


@given(
    c_in=st.integers(16, 64),
    c_out=st.integers(16, 64),
    side=st.integers(7, 56),
    bias=st.booleans(),
    held=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_between_entries_a_power_law_is_met(c_in: int, c_out: int, side: int, bias: bool, held: int) -> None:
    # Logarithms on a plane are interpolated without error; neither a bias nor what lies in memory changes a time.
    operation = Operation("conv", (c_in, side, side), (c_out, side, side), bias=bias, held=held)
    price = profile(entries=grid()).price(operation)["latency_ms"]
    assert price == pytest.approx(law_ms(c_in, c_out, side), rel=1e-9)


def test_a_curved_law_is_interpolated_within_a_few_percent_and_between_its_neighbours() -> None:
    # ms = 1 + c/16 is no power law: halfway between 32 and 64 channels its value is 3.83 (c = 45.25).
    table = LookUpTable(Entry(("conv",), (float(c),), 1 + c / 16) for c in (8, 16, 32, 64, 128))
    price = table.price_ms(("conv",), (math.sqrt(32 * 64),))
    assert price is not None and 3.0 < price < 5.0
    assert price == pytest.approx(1 + math.sqrt(32 * 64) / 16, rel=0.03)


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (Operation("conv", (16, 14, 14), (16, 14, 14), kernel=3, groups=16), r"no entry for conv depthwise k3 s1"),
        (Operation("add", (16, 14, 14), (16, 14, 14)), r"no entry for add"),
        (pointwise(16, 128, 14), r"size 128 is outside of their range 16 to 64 by a factor of 2; allowed: 1\.25"),
        (pointwise(8, 16, 14), r"size 8 is outside of their range 16 to 64 by a factor of 2"),
        (pointwise(16, 16, 112), r"size 112 is outside of their range 7 to 56 by a factor of 2"),
    ],
)
def test_what_is_beyond_the_entries_is_refused_with_the_reason(operation: Operation, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason) as caught:
        profile(entries=grid()).price(operation)
    assert "mine has no latency for" in str(caught.value) and "100 operations" in str(caught.value)


def test_a_little_beyond_the_range_is_priced_and_a_little_more_is_not() -> None:
    table = LookUpTable(Entry(("x",), (float(c),), float(c)) for c in (10, 12, 14, 16))
    assert table.price_ms(("x",), (16 * BEYOND,)) == pytest.approx(20.0)
    assert table.price_ms(("x",), (16 * BEYOND * 1.001,)) is None
    assert table.price_ms(("x",), (10 / BEYOND,)) == pytest.approx(8.0)


def test_a_hole_inside_the_range_is_refused_where_the_nearest_entry_is_too_far() -> None:
    # Times are proportional to the size, so the middle of 1 and 100 is ten times away from both.
    table = LookUpTable([Entry(("x",), (1.0,), 1.0), Entry(("x",), (100.0,), 100.0)])
    assert table.price_ms(("x",), (10.0,)) is None
    assert f"nearest differs by a factor of about 10 in time; allowed: {REACH:g}" in table.missing(("x",), (10.0,))
    assert table.price_ms(("x",), (1.9,)) == pytest.approx(1.9)


def test_a_direction_in_which_entries_do_not_vary_is_refused() -> None:
    # Input and output channels grow together in every entry: nothing tells what one of them costs alone.
    table = LookUpTable(Entry(("conv",), (float(c), float(c)), float(c)) for c in (16, 24, 32, 40))
    assert table.price_ms(("conv",), (28.0, 28.0)) == pytest.approx(28.0)
    assert table.price_ms(("conv",), (24.0, 28.0)) is None
    assert "do not vary in the direction" in table.missing(("conv",), (24.0, 28.0))


def test_one_entry_alone_prices_itself_and_nothing_else() -> None:
    table = LookUpTable([Entry(("linear",), (960.0, 1280.0, 1.0), 0.5)])
    assert table.price_ms(("linear",), (960.0, 1280.0, 1.0)) == 0.5
    assert table.price_ms(("linear",), (960.0, 1200.0, 1.0)) is None


@given(
    points=st.dictionaries(
        st.tuples(st.integers(1, 2000), st.integers(1, 2000)), st.floats(1e-6, 1e6), min_size=1, max_size=40
    ),
    query=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
)
@settings(max_examples=60, deadline=None)
def test_any_table_gives_a_positive_finite_price_or_a_reason(
    points: dict[tuple[int, int], float], query: tuple[int, int]
) -> None:
    table = LookUpTable(Entry(("x",), (float(a), float(b)), ms) for (a, b), ms in points.items())
    sizes = float(query[0]), float(query[1])
    price = table.price_ms(("x",), sizes)
    if query in points:
        assert price == points[query]
    elif price is None:
        assert table.missing(("x",), sizes)
    else:
        assert 0 < price < math.inf


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["operation,latency_ms", *lines]) + "\n", encoding="utf-8")
    return str(path)


def test_a_file_and_entries_are_priced_together(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "conv 16x7x7 -> 16x7x7,0.25", "add 16x7x7 -> 16x7x7,0.125")
    mine = profile(file=file, entries={"global_pool 16x7x7 -> 16x1x1": 0.0625}, constant_ms=1.5)
    operations = [
        pointwise(16, 16, 7),
        Operation("add", (16, 7, 7), (16, 7, 7)),
        Operation("global_pool", (16, 7, 7), (16, 1, 1)),
    ]
    assert mine.constant_ms + sum(mine.price(op)["latency_ms"] for op in operations) == 1.5 + 0.25 + 0.125 + 0.0625


def test_provenance_names_the_file_and_the_hash_of_its_content(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "conv 16x7x7 -> 16x7x7,0.25")
    tables = profile(file=file).provenance["tables"]
    digest = hashlib.sha256((tmp_path / "mine.csv").read_bytes()).hexdigest()
    assert tables == {"latency": {"file": file, "sha256": digest, "operations": 1}}
    assert "tables" not in load_profile(ROOT / "conf/hardware/mid_tablet.yaml").provenance


def test_a_file_is_looked_up_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.csv", "conv 16x7x7 -> 16x7x7,0.25")
    monkeypatch.chdir(tmp_path)
    assert profile(file="mine.csv").price(pointwise(16, 16, 7))["latency_ms"] == 0.25


def test_paddle_lites_microseconds_are_read_as_milliseconds(tmp_path: Path) -> None:
    columns = "op,n,cin,h,w,cout,groups,kernel,pad,stride,dilation,macs,us"
    # 3 x 3 x 3 x 8 multiply-adds for each of 320 x 320 pixels: 22,118,400.
    (tmp_path / "lut.csv").write_text(f"{columns}\nconv,1,3,640,640,8,1,3,1,2,1,22118400,2433\n", encoding="utf-8")
    mine = profile(file=str(tmp_path / "lut.csv"), format="paddlelite")
    operation = Operation("conv", (3, 640, 640), (8, 320, 320), kernel=3, stride=2)
    assert mine.price(operation)["latency_ms"] == pytest.approx(2.433)


ADD = "add 8x4x4 -> 8x4x4"


@pytest.mark.parametrize(
    ("latency", "key"),
    [
        ({}, "latency"),
        ({"entries": None}, "latency"),
        ({"entries": {"conv 1x1": 1}}, "latency"),
        ({"entries": {"add 8x4x4 -> 9x4x4": 1}}, "latency"),
        ({"entries": {"conv 8x4x4 -> 8x4x4": 1, "conv 8x4x4 -> 8x4x4 k1": 2}}, "latency"),
        ({"file": "missing.csv"}, "latency"),
        ({"file": "~nobody_here/x.csv"}, "latency"),
        ({"file": ""}, "latency.file"),
        ({"file": "x.csv", "format": "excel"}, "latency.format"),
        ({"entries": {ADD: 1}, "rows": {}}, "latency.rows"),
    ],
)
def test_a_wrong_table_is_refused_by_its_key(latency: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        profile(**latency)
    assert caught.value.fields == (f"hardware.mine.{key}",)


@pytest.mark.parametrize("ms", [0, math.nan, "fast"])
def test_an_entry_that_is_no_positive_number_is_refused_by_its_key(ms: object) -> None:
    with pytest.raises(InvalidInputError, match=rf"hardware\.mine\.latency\.entries\.{ADD}: got "):
        profile(entries={ADD: ms})


def test_a_file_of_networks_and_an_operation_given_twice_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "conv 16x7x7 -> 16x7x7,0.25")
    with pytest.raises(InvalidInputError, match=r"both `entries` and .*mine\.csv give conv 16x7x7"):
        profile(file=file, entries={"conv 16x7x7 -> 16x7x7": 1})
    (tmp_path / "nets.csv").write_text("network,latency_ms\na,1\n", encoding="utf-8")
    (tmp_path / "nets.layers.csv").write_text("network,operation,count\na,conv 16x7x7 -> 16x7x7,1\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="this file measures networks"):
        profile(file=str(tmp_path / "nets.csv"))


def test_wrong_lines_of_a_file_are_refused_with_their_numbers(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "conv 16x7x7 -> 16x7x7,0.25", "conv 16x7x7 -> 16x7x7 k2x,1", f"{ADD},-1")
    with pytest.raises(InvalidInputError) as caught:
        profile(file=file)
    assert wrong_cells(caught.value) == [(3, "operation"), (4, "latency_ms")]


def test_a_table_profile_survives_yaml(tmp_path: Path) -> None:
    mine = profile(entries={"conv 16x7x7 -> 16x7x7": 0.25})
    content = {
        k: v for k, v in mine.model_dump(mode="json").items() if v is not None and k not in ("name", "units", "links")
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_profile(tmp_path / "mine.yaml").price(pointwise(16, 16, 7))["latency_ms"] == 0.25


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
def test_blocks_of_four_phones_that_the_table_lacks_are_priced_within_a_few_percent() -> None:
    script = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "table_interpolation.py"))
    for phone in script["PHONES"]:
        blocks = script["phone_blocks"](phone)
        for split, goal in script["GOALS"].items():
            result = script["held_out_result"](blocks, split, 0)
            assert len(result.errors) > 1000 and result.mape() <= goal, (phone, split)
            refused = {kind: count for kind, count in result.refused.items() if count}
            # Of the first convolution's two channel pairs one is held out: the other cannot tell what channels cost.
            assert refused == ({} if split == "at random" else {"firstconv": 6}), (phone, split)
