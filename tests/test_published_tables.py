"""The published look-up tables of the data folder, read whole and checked against what else is known of them."""

import csv
import gzip
import os
from pathlib import Path

import pytest

from hardware_models.importers.fbnet import read_fbnet_blocks
from hardware_models.importers.ofa import read_ofa_blocks
from hardware_models.importers.paddlelite import read_paddlelite
from hardware_models.importers.phones import read_phone_blocks
from hardware_models.latency_models.interpolation import LookUpTable
from search_spaces.operation import Operation

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no tables at {DATA}; set ESPALIER_DATA")


@pytest.fixture(scope="module")
def phone_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phones") / "phones4_block_lut.csv"
    path.write_bytes(gzip.decompress((DATA / "latency" / "phones4_block_lut.csv.gz").read_bytes()))
    return path


def test_the_phones_table_is_read_whole_and_its_multiply_adds_agree(phone_csv: Path) -> None:
    # Reading checks `macs` of every row that has it: 1,788 + 12 + 1,436 rows.
    table = read_phone_blocks(phone_csv, device="pixel6")
    assert len(table.blocks) == 12116 and len(table.entries) == 12116
    with phone_csv.open(encoding="utf-8") as file:
        macs = {row["key"]: int(row["macs"]) for row in csv.DictReader(file) if row["macs"]}
    assert len(macs) == 3236
    blocks = {block.name: block for block in table.blocks}
    name = "conv_64_24_40_6_2_hard_swish_5_se"
    # Of 144 hidden channels 40 are squeezed (36 to the nearest multiple of 8): the table does not count
    # the pool of 144 x 32 x 32 and 2 x 144 x 40 multiply-adds.
    assert sum(op.macs for op in blocks[name].operations) == macs[name] + 144 * 32 * 32 + 2 * 144 * 40


@pytest.mark.parametrize(
    ("device", "rows", "entries"), [("pixel1_cpu_tflite", 72, 72), ("samsung_note10_cpu_tflite", 480, 450)]
)
def test_the_tables_of_proxylessnas_and_ofa_are_read_whole(device: str, rows: int, entries: int) -> None:
    # Blocks that do not depend on the input size stand in each of OFA's five tables.
    table = read_ofa_blocks(DATA / "latency" / "proxyless_ofa_op_lut.csv", device=device)
    assert len(table.blocks) == rows and len(table.entries) == entries
    prices = LookUpTable(table.entries)
    assert all(prices.price_ms(e.category, e.sizes) == e.ms for e in table.entries)


@pytest.mark.parametrize("device", ["pixel3", "raspi4", "eyeriss", "fpga"])
def test_fbnets_blocks_are_those_whose_skip_does_nothing(device: str) -> None:
    path = DATA / "latency" / "fbnet_lut_hwnasbench.csv"
    with path.open(encoding="utf-8") as file:
        alike = [row for row in csv.DictReader(file) if row["cin"] == row["cout"] and row["stride"] == "1"]
    expected = [float(row[f"delta_ms_{device}"]) for row in alike if row["op_name"] != "skip"]
    assert len(expected) == 128
    assert [block.ms for block in read_fbnet_blocks(path, device=device).blocks] == expected


def test_paddle_lites_table_is_read_whole_and_its_multiply_adds_agree() -> None:
    table = read_paddlelite(DATA / "latency" / "paddlelite_snapdragon855_op_lut.csv")
    assert len(table.blocks) == 595
    first = Operation("conv", (3, 640, 640), (8, 320, 320), kernel=3, stride=2)
    assert table.blocks[0].operations == (first,) and table.blocks[0].ms == 2.433
