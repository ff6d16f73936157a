"""Published look-up tables read from CSV: what their blocks consist of, and what is refused."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hardware_models.importers.block_operations import mbconv, squeeze_excite
from hardware_models.importers.fbnet import read_fbnet_blocks
from hardware_models.importers.look_up_tables import Block, BlockTable
from hardware_models.importers.ofa import read_ofa_blocks
from hardware_models.importers.paddlelite import read_paddlelite
from hardware_models.importers.phones import read_phone_blocks
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


def phones(path: Path) -> BlockTable:
    return read_phone_blocks(path, device="phone")


def ofa(path: Path) -> BlockTable:
    return read_ofa_blocks(path, device="phone")


def fbnet(path: Path) -> BlockTable:
    return read_fbnet_blocks(path, device="phone")


FORMATS: dict[str, tuple[str, Callable[[Path], BlockTable]]] = {
    "phones": (PHONES, phones),
    "ofa": (OFA, ofa),
    "fbnet": (FBNET, fbnet),
    "paddlelite": (PADDLELITE, read_paddlelite),
}


def written(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def notations(block: Block) -> list[str]:
    return [operation.notation for operation in block.operations]


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
    blocks = {block.name.split("_")[0]: block for block in phones(written(tmp_path, PHONES)).blocks}
    assert notations(blocks["firstconv"]) == ["conv 3x8x8 -> 16x4x4 k3 s2"]
    assert [block.ms for block in phones(written(tmp_path, PHONES)).blocks] == [0.5, 1.5, 1.25, 2.5, 3.5, 3.25, 4.5]
    assert notations(blocks["transds"])[:2] == ["conv 16x4x4 -> 64x4x4", "conv 64x4x4 -> 64x4x4 k3 g64"]
    assert blocks["transattn"].operations == ()
    assert blocks["transffn"].operations == ()
    assert notations(blocks["mbpool"]) == [
        "conv 160x4x4 -> 960x4x4",
        "global_pool 960x4x4 -> 960x1x1",
        "linear 960x1x1 -> 1984x1x1",
    ]


def test_ofa_expansions_are_ratios_or_channels_and_flags_decide(tmp_path: Path) -> None:
    first, plain, ratio, channels, classifier = ofa(written(tmp_path, OFA)).blocks
    assert notations(first) == ["conv 3x8x8 -> 24x4x4 k3 s2"]
    assert notations(plain) == ["conv 24x4x4 -> 24x4x4 k3 g24", "conv 24x4x4 -> 24x4x4", "add 24x4x4 -> 24x4x4"]
    assert notations(ratio) == ["conv 24x4x4 -> 72x4x4", "conv 72x4x4 -> 72x2x2 k5 s2 g72", "conv 72x2x2 -> 32x2x2"]
    # 96 of 32 channels are hidden channels; no residual; squeeze-excite over 96 / 4 = 24 channels.
    assert notations(channels)[0] == "conv 32x2x2 -> 96x2x2" and notations(channels)[3] == "conv 96x1x1 -> 24x1x1"
    assert notations(channels)[-1] == "conv 96x2x2 -> 32x2x2"
    assert notations(classifier) == ["global_pool 32x2x2 -> 32x1x1", "linear 32x1x1 -> 10x1x1"]


def test_one_block_of_two_sources_is_one_entry_of_their_geometric_mean(tmp_path: Path) -> None:
    row = "{},phone,Conv_2,1x1x32,1x1x64,,,,,,,9,{},0.1,x\n"
    text = OFA.splitlines(keepends=True)[0] + row.format("a", 1.0) + row.format("b", 4.0)
    (entry,) = ofa(written(tmp_path, text)).entries
    assert entry.ms == pytest.approx(2.0)


def test_an_fbnet_block_is_one_whose_skip_does_nothing(tmp_path: Path) -> None:
    # Layer 1 changes its shape: its skip does something, so the difference is not the time of its block.
    (block,) = fbnet(written(tmp_path, FBNET)).blocks
    assert block.ms == 0.25 and notations(block)[0] == "conv 16x4x4 -> 16x4x4 g2"


def test_paddle_lites_convolutions_are_named_by_their_notation_in_ms(tmp_path: Path) -> None:
    dense, depthwise = read_paddlelite(written(tmp_path, PADDLELITE)).blocks
    assert (dense.name, dense.ms) == ("conv 3x8x8 -> 8x4x4 k3 s2", 0.04)
    assert (depthwise.name, depthwise.ms) == ("conv 8x4x4 -> 8x4x4 k3 g8", 0.0205)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("phones", "ms_phone", "ms_tablet", r"device: got 'phone'; .*: tablet"),
        ("phones", ",hw,", ",side,", r"line 1: columns \['hw'\] are missing"),
        ("phones", ",2.5\n", ",\n", r"line 5: ms_phone: got ''; allowed: a finite number"),
        ("phones", ",2.5\n", ",-2.5\n", r"line 5: ms_phone: got -2\.5; allowed: a number above 0"),
        ("phones", ",2.5\n", ",nan\n", r"line 5: ms_phone: got 'nan'"),
        ("phones", "transds,", "downsample,", r"line 5: kind: got 'downsample'; allowed: firstconv, conv"),
        ("phones", "12416", "12417", r"line 3: macs: got 12417, but its shapes make 12416"),
        ("phones", ",4,16,48,4", ",4,16.5,48,4", r"line 5: cin: got '16\.5'; allowed: a whole number"),
        (
            "phones",
            "transds_4_16_48_1_4",
            "firstconv_8_3_16_2_3",
            r"line 5: firstconv_8_3_16_2_3 stands already in line 2",
        ),
        ("ofa", ",phone,", ",laptop,", r"device: got 'phone'; .*: laptop, tablet"),
        ("ofa", "2x2x32,96.0", "2x2,96.0", r"line 5: output: got '2x2'; allowed: HEIGHTxWIDTHxCHANNELS"),
        ("ofa", "4x4x24,2x2x32,3.0", "4x4x24,3x3x32,3.0", r"line 4: output: got '3x3x32'; the block makes"),
        ("ofa", "5.0,2.0,0.0,,", "5.0,2.0,1.0,,", r"line 4: idskip: got 1, but 4x4x24 cannot be added to 2x2x32"),
        ("ofa", "phone,Conv,", "phone,Pool,", r"line 2: op: got 'Pool'; allowed: expanded_conv, Conv"),
        ("fbnet", "k5_e3", "k5e3", r"line 4: op_name: got 'k5e3'; allowed: as k3_e6"),
        ("fbnet", "6400,0.25", "6400,-0.25", r"line 2: delta_ms_phone: got -0\.25; allowed: a number above 0"),
        ("fbnet", "21696", "21695", r"line 4: macs: got 21695, but its shapes make 21696"),
        ("paddlelite", "conv,1,3,8", "conv,4,3,8", r"line 2: n: got '4'; allowed: 1"),
        ("paddlelite", "8,8,3,1,1,1,1152", "8,3,3,1,1,1,1152", r"line 3: groups: 3 do not divide 8 and 8 channels"),
        ("paddlelite", ",40\n", ",0\n", r"line 2: us: got 0; allowed: a number above 0"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(name: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    text, read = FORMATS[name]
    assert old in text
    with pytest.raises(InvalidInputError, match=message):
        read(written(tmp_path, text.replace(old, new)))


def test_all_wrong_lines_are_told_at_once(tmp_path: Path) -> None:
    text = PHONES.replace(",2.5\n", ",0\n").replace(",0.5\n", ",fast\n").replace("12416", "1")
    with pytest.raises(InvalidInputError) as caught:
        phones(written(tmp_path, text))
    assert all(f"line {line}: " in str(caught.value) for line in (2, 3, 5))


CELL = st.one_of(
    st.text(max_size=8),
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
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_csv_gives_times_that_stand_in_it_or_a_clear_error(name: str, data: st.DataObject, tmp_path: Path) -> None:
    text, read = FORMATS[name]
    rows = [line.split(",") for line in text.splitlines()]
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.integers(0, len(rows) - 1))
        rows[row][data.draw(st.integers(0, len(rows[row]) - 1))] = data.draw(CELL)
    path = tmp_path / "table.csv"
    path.write_bytes("\n".join(",".join(row) for row in rows).encode("utf-8", errors="surrogateescape"))
    try:
        table = read(path)
    except InvalidInputError:  # anything else fails the test
        return
    blocks = table.blocks
    assert blocks and all(0 < block.ms < math.inf for block in blocks)
    assert all(parse_operation(op.notation) == op for block in blocks for op in block.operations)
    with path.open(encoding="utf-8", newline="") as file:
        numbers = np.array([number for row in csv.reader(file) for cell in row if (number := as_number(cell)) > 0])
    unit = 1e3 if name == "paddlelite" else 1.0
    assert all(np.isclose(numbers, block.ms * unit, rtol=1e-12, atol=0).any() for block in blocks)
