"""The published look-up tables of the data folder, read whole and checked against what else is known of them."""

import csv
import gzip
import os
from pathlib import Path

import pytest

from hardware_models.measuring.measurements import IMPORTERS
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
    rows = {row.name: row for row in IMPORTERS["phones"](phone_csv, device="pixel6").rows}
    with phone_csv.open(encoding="utf-8") as file:
        cells = {row["key"]: row for row in csv.DictReader(file)}
    assert len(cells) == 12116 and len(rows) == 9603  # without attention and feed-forward blocks
    counted = {key: int(row["macs"]) for key, row in cells.items() if row["macs"] and key in rows}
    assert len(counted) == 1788 + 12
    for key, macs in counted.items():
        # The table does not count squeeze-excite, whose convolutions and pool end in maps of one pixel.
        own = [operation for operation in rows[key].operations if operation.out_shape[1:] != (1, 1)]
        assert sum(operation.macs for operation in own if operation.kind == "conv") == macs, key


@pytest.mark.parametrize(("device", "num_rows"), [("pixel1_cpu_tflite", 72), ("samsung_note10_cpu_tflite", 480)])
def test_the_tables_of_proxylessnas_and_ofa_are_read_whole(device: str, num_rows: int) -> None:
    rows = IMPORTERS["ofa"](DATA / "latency" / "proxyless_ofa_op_lut.csv", device=device).rows
    assert len(rows) == len({row.name for row in rows}) == num_rows


@pytest.mark.parametrize("device", ["pixel3", "raspi4", "eyeriss", "fpga"])
def test_fbnets_blocks_are_those_whose_skip_does_nothing(device: str) -> None:
    path = DATA / "latency" / "fbnet_lut_hwnasbench.csv"
    with path.open(encoding="utf-8") as file:
        alike = [row for row in csv.DictReader(file) if row["cin"] == row["cout"] and row["stride"] == "1"]
    expected = [float(row[f"delta_ms_{device}"]) for row in alike if row["op_name"] != "skip"]
    assert len(expected) == 128
    assert [row.latency_ms for row in IMPORTERS["fbnet"](path, device=device).rows] == expected


def test_paddle_lites_table_is_read_whole_and_its_multiply_adds_agree() -> None:
    path = DATA / "latency" / "paddlelite_snapdragon855_op_lut.csv"
    rows = IMPORTERS["paddlelite"](path, device=None).rows
    with path.open(encoding="utf-8") as file:
        macs = [int(row["macs"]) for row in csv.DictReader(file)]
    assert [row.operations[0].macs for row in rows] == macs and len(macs) == 595
    first = Operation("conv", (3, 640, 640), (8, 320, 320), kernel=3, stride=2)
    assert rows[0].operations == (first,) and rows[0].latency_ms == 2.433
