"""Published look-up tables read from CSV: what their blocks consist of, and what is refused."""

import csv
import math
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wrong_cells import wrong_cells

from hardware_models.importers.measured_blocks import mbconv, squeeze_excite
from hardware_models.measuring.measurements import IMPORTERS, MeasuredRow
from search_spaces.errors import InvalidInputError
from search_spaces.operation import parse_operation

PHONES = """kind,key,hw,cin,cout,expand,stride,kernel,se,v_scale,macs,ms_phone
firstconv,firstconv_8_3_16_2_3,8,3,16,,2,3,,,6912,0.5
conv,conv_4_16_24_2_2_hard_swish_3_se,4,16,24,2,2,3,1,,12416,1.5
conv,conv_4_16_16_1_1_hard_swish_5_nose,4,16,16,1,1,5,0,,14592,1.25
transds,transds_4_16_48_1_4,4,16,48,4,1,,,,,2.5
transattn,transattn_4_48_hard_swish_2_ln,4,48,48,,,,,2,,3.5
transffn,transffn_4_48_2_hard_swish_ln,4,48,48,2,,,,,147456,3.25
mbpool,mbpool_4_160_1984_6_hard_swish,4,160,1984,6,,,,,,4.5
"""
OFA = """source,device,op,input,output,expand,kernel,stride,idskip,se,hs,count,mean_ms,std_ms,key
a,phone,Conv,8x8x3,4x4x24,,,,,,,9,0.5,0.1,x
a,phone,expanded_conv,4x4x24,4x4x24,1.0,3.0,1.0,1.0,0.0,0.0,9,1.0,0.1,x
a,phone,expanded_conv,4x4x24,2x2x32,3.0,5.0,2.0,0.0,,,9,2.0,0.1,x
b,phone,expanded_conv,2x2x32,2x2x32,96.0,3.0,1.0,0.0,1.0,1.0,9,3.0,0.1,x
b,phone,Logits,2x2x32,10,,,,,,,9,0.25,0.1,x
b,tablet,Logits,1x1x32,10,,,,,,,9,0.75,0.1,x
"""
FBNET = """layer,op,op_name,in_hw,cin,cout,stride,macs,delta_ms_phone
0,0,k3_e1_g2,4,16,16,1,6400,0.25
0,1,skip,4,16,16,1,0.0,0.0
1,0,k5_e3,4,16,24,2,21696,0.5
1,1,skip,4,16,24,2,,0.0
"""
PADDLELITE = """op,n,cin,h,w,cout,groups,kernel,pad,stride,dilation,macs,us
conv,1,3,8,8,8,1,3,1,2,1,3456,40
conv,1,8,4,4,8,8,3,1,1,1,1152,20.5
"""


FORMATS = {"phones": PHONES, "ofa": OFA, "fbnet": FBNET, "paddlelite": PADDLELITE}


def imported(folder: Path, name: str, text: str | None = None) -> tuple[MeasuredRow, ...]:
    """The rows of a table in this format, of its device `phone`."""
    path = folder / "table.csv"
    path.write_text(text or FORMATS[name], encoding="utf-8")
    return IMPORTERS[name](path, device=None if name == "paddlelite" else "phone").rows


def notations(row: MeasuredRow) -> list[str]:
    return [operation.notation for operation in row.operations]


def test_an_mbconv_is_expansion_depthwise_squeeze_projection_and_addition() -> None:
    block = list(mbconv((8, 4, 4), 8, hidden=16, kernel=3, squeezed=4))
    assert [op.notation for op in block] == [
        "conv 8x4x4 -> 16x4x4",
        "conv 16x4x4 -> 16x4x4 k3 g16",
        "global_pool 16x4x4 -> 16x1x1",
        "conv 16x1x1 -> 4x1x1",
        "conv 4x1x1 -> 16x1x1",
        "scale 16x4x4 -> 16x4x4",
        "conv 16x4x4 -> 8x4x4",
        "add 8x4x4 -> 8x4x4",
    ]
    odd = list(mbconv((8, 7, 7), 8, hidden=None, kernel=5, stride=2))
    assert [op.notation for op in odd] == ["conv 8x7x7 -> 8x4x4 k5 s2 g8", "conv 8x4x4 -> 8x4x4"]
    assert all(parse_operation(op.notation) == op for op in [*block, *odd, *squeeze_excite((8, 4, 4), 2)])


def test_phones_blocks_are_read_with_their_operations(tmp_path: Path) -> None:
    rows = {row.name.split("_")[0]: row for row in imported(tmp_path, "phones")}
    assert notations(rows["firstconv"]) == ["conv 3x8x8 -> 16x4x4 k3 s2"]
    # Attention and feed-forward blocks consist of what no space has.
    assert [row.latency_ms for row in imported(tmp_path, "phones")] == [0.5, 1.5, 1.25, 2.5, 4.5]
    assert notations(rows["transds"])[:2] == ["conv 16x4x4 -> 64x4x4", "conv 64x4x4 -> 64x4x4 k3 g64"]
    assert notations(rows["mbpool"]) == [
        "conv 160x4x4 -> 960x4x4",
        "global_pool 960x4x4 -> 960x1x1",
        "linear 960x1x1 -> 1984x1x1",
    ]


def test_ofa_expansions_are_ratios_or_channels_and_flags_decide(tmp_path: Path) -> None:
    first, plain, ratio, channels, classifier = imported(tmp_path, "ofa")
    assert notations(first) == ["conv 3x8x8 -> 24x4x4 k3 s2"]
    assert notations(plain) == ["conv 24x4x4 -> 24x4x4 k3 g24", "conv 24x4x4 -> 24x4x4", "add 24x4x4 -> 24x4x4"]
    assert notations(ratio) == ["conv 24x4x4 -> 72x4x4", "conv 72x4x4 -> 72x2x2 k5 s2 g72", "conv 72x2x2 -> 32x2x2"]
    # 96 of 32 channels are hidden channels; no residual; squeeze-excite over 96 / 4 = 24 channels.
    assert notations(channels)[0] == "conv 32x2x2 -> 96x2x2" and notations(channels)[3] == "conv 96x1x1 -> 24x1x1"
    assert notations(channels)[-1] == "conv 96x2x2 -> 32x2x2"
    assert notations(classifier) == ["global_pool 32x2x2 -> 32x1x1", "linear 32x1x1 -> 10x1x1"]


def test_an_fbnet_block_is_one_whose_skip_does_nothing(tmp_path: Path) -> None:
    # Layer 1 changes its shape: its skip does something, so the difference is not the time of its block.
    (row,) = imported(tmp_path, "fbnet")
    assert row.latency_ms == 0.25 and notations(row)[0] == "conv 16x4x4 -> 16x4x4 g2"
    assert sum(operation.macs for operation in row.operations) == 6400


def test_paddle_lites_convolutions_are_named_by_their_notation_in_ms(tmp_path: Path) -> None:
    dense, depthwise = imported(tmp_path, "paddlelite")
    assert (dense.name, dense.latency_ms) == ("conv 3x8x8 -> 8x4x4 k3 s2", 0.04)
    assert (depthwise.name, depthwise.latency_ms) == ("conv 8x4x4 -> 8x4x4 k3 g8", 0.0205)
    assert [row.operations[0].macs for row in (dense, depthwise)] == [3456, 1152]


@pytest.mark.parametrize(
    ("name", "old", "new", "wrong"),
    [
        ("phones", ",hw,", ",side,", [(1, "hw")]),
        ("phones", ",2.5\n", ",\n", [(5, "time")]),
        ("phones", ",2.5\n", ",-2.5\n", [(5, "time")]),
        ("phones", ",2.5\n", ",nan\n", [(5, "time")]),
        ("phones", "transds,", "downsample,", [(5, "kind")]),
        ("phones", ",4,16,48,4", ",4,16.5,48,4", [(5, "cin")]),
        ("phones", "48,4,1,,", "48,,1,,", [(5, "expand")]),
        ("phones", "transds_4_16_48_1_4", "firstconv_8_3_16_2_3", [(5, "")]),
        ("ofa", "2x2x32,96.0", "2x2,96.0", [(5, "output")]),
        ("ofa", "phone,Conv,", "phone,Pool,", [(2, "op")]),
        ("fbnet", "k3_e1_g2", "k3e1", [(2, "op_name")]),
        ("fbnet", "6400,0.25", "6400,-0.25", [(2, "time")]),
        ("paddlelite", "conv,1,3,8", "conv,4,3,8", [(2, "n")]),
        ("paddlelite", "8,8,3,1,1,1,1152", "8,3,3,1,1,1,1152", [(3, "")]),
        ("paddlelite", ",40\n", ",0\n", [(2, "time")]),
    ],
)
def test_what_is_wrong_is_reported_with_its_line(
    name: str, old: str, new: str, wrong: list[tuple[int, str]], tmp_path: Path
) -> None:
    assert old in FORMATS[name]
    with pytest.raises(InvalidInputError) as caught:
        imported(tmp_path, name, FORMATS[name].replace(old, new))
    assert wrong_cells(caught.value) == wrong


@pytest.mark.parametrize("name", ["phones", "ofa", "fbnet"])
def test_a_device_that_a_table_has_not_is_refused_with_those_it_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="laptop") as caught:
        imported(tmp_path, name, FORMATS[name].replace("phone", "laptop"))
    assert caught.value.fields == ("device",)


def test_all_wrong_lines_are_reported_at_once(tmp_path: Path) -> None:
    text = PHONES.replace(",2.5\n", ",0\n").replace(",0.5\n", ",fast\n").replace("conv,conv_4_16_24", "pool,conv_4")
    with pytest.raises(InvalidInputError) as caught:
        imported(tmp_path, "phones", text)
    assert wrong_cells(caught.value) == [(2, "time"), (3, "kind"), (5, "time")]


CELL = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=8),
    st.sampled_from(
        ["", "0", "-1", "nan", "inf", "1e999", "1e-999", "3.0", "16", "999999", "4x4x24", "conv", "skip", '"']
    ),
    st.integers(-5, 10**7).map(str),
    st.floats().map(str),
)


def as_number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return 0.0


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_csv_gives_times_that_stand_in_it_or_a_clear_error(name: str, data: st.DataObject, tmp_path: Path) -> None:
    rows = [line.split(",") for line in FORMATS[name].splitlines()]
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.integers(0, len(rows) - 1))
        rows[row][data.draw(st.integers(0, len(rows[row]) - 1))] = data.draw(CELL)
    text = "\n".join(",".join(row) for row in rows)
    try:
        blocks = imported(tmp_path, name, text)
    except InvalidInputError:  # anything else fails the test
        return
    assert blocks and all(0 < block.latency_ms < math.inf for block in blocks)
    assert all(parse_operation(op.notation) == op for block in blocks for op in block.operations)
    numbers = np.array(
        [number for row in csv.reader(StringIO(text)) for cell in row if (number := as_number(cell)) > 0]
    )
    unit = 1e3 if name == "paddlelite" else 1.0
    assert all(np.isclose(numbers, block.latency_ms * unit, rtol=1e-12, atol=0).any() for block in blocks)
