"""The published look-up tables of the data folder, read whole and checked against what else is known of them."""

import csv
import gzip
import json
import os
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware_models.importers.ncnn import ncnn_networks
from hardware_models.measuring.measurements import IMPORTERS, MeasuredRow
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


def cells(name: str) -> Iterator[dict[str, str]]:
    with (DATA / "latency" / name).open(encoding="utf-8") as file:
        yield from csv.DictReader(file)


def blocks(rows: tuple[MeasuredRow, ...]) -> list[tuple[float, tuple[Operation, ...]]]:
    return [(row.latency_ms, row.operations) for row in rows]


def test_nn_meters_own_file_says_the_same(phone_csv: Path, tmp_path: Path) -> None:
    with phone_csv.open(encoding="utf-8") as file:
        times = {row["key"]: float(row["ms_pixel6"]) for row in csv.DictReader(file)}
    own = tmp_path / "pixel6_lut_ln_v3.json"
    own.write_text(json.dumps(times, indent=4))
    rows = IMPORTERS["phones"](own, device=None).rows
    assert blocks(rows) == blocks(IMPORTERS["phones"](phone_csv, device="pixel6").rows)
    names = [line.strip().split('"')[1] for line in own.read_text().splitlines()[1:-1]]
    assert all(names[row.line - 2] == row.name for row in rows)


@pytest.mark.parametrize("source", ["proxylessnas/mobile_trim", "ofa/note10/160", "ofa/note10/224"])
def test_the_yaml_of_proxylessnas_and_ofa_says_the_same(source: str, tmp_path: Path) -> None:
    own = [row for row in cells("proxyless_ofa_op_lut.csv") if row["source"] == source]
    file = tmp_path / "table.yaml"
    numbers = ("count", "mean", "std")
    columns = ("count", "mean_ms", "std_ms")
    file.write_text(
        "".join(
            f"{row['key']}:\n" + "".join(f"  {k}: {row[c]}\n" for k, c in zip(numbers, columns, strict=True))
            for row in own
        )
    )
    all_rows = IMPORTERS["ofa"](DATA / "latency" / "proxyless_ofa_op_lut.csv", device=own[0]["device"]).rows
    expected = [row for row in all_rows if row.name.startswith(f"{source}:")]
    rows = IMPORTERS["ofa"](file, device=None).rows
    assert blocks(rows) == blocks(tuple(expected)) and len(rows) == len(own)
    assert [row.line for row in rows] == [4 * i + 1 for i in range(len(own))]


def test_latency_855_says_the_same(tmp_path: Path) -> None:
    table = DATA / "latency" / "paddlelite_snapdragon855_op_lut.csv"
    fields = ("n", "cin", "h", "w", "cout", "groups", "kernel", "pad", "stride", "dilation")
    lines = [f"conv,0,0,{','.join(row[f] for f in fields)}\t{row['us']}" for row in cells(table.name)]
    own = tmp_path / "latency_855.txt"
    own.write_text("\n".join(["op_type\t855\tus", *lines, ""]))
    assert blocks(IMPORTERS["paddlelite"](own, device=None).rows) == blocks(
        IMPORTERS["paddlelite"](table, device=None).rows
    )


def test_the_layers_of_ncnns_networks_are_those_of_its_param_files() -> None:
    script = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_profiles.py"))
    expected = {name: Counter(layers) for name, layers in script["ncnn_networks"]().items()}
    assert {name: Counter(layers) for name, layers in ncnn_networks().items()} == expected
    assert len(expected) == 24
