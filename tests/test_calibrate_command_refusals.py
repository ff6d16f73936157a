"""`espalier-calibrate`: a wrong configuration and wrong measurements end in one clear error, with nothing written."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from calibrations import OPERATIONS
from console import Cli, console, refused_calibration
from measured_networks import true_device, write_bench, write_operations

from hardware_models.measuring.measurements import layers_path
from trainers.cli import main as cli


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(cli.CALIBRATE, monkeypatch, capsys, tmp_path)


@pytest.fixture
def bench(command: Cli) -> Path:
    return write_bench()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ("measurements: got none; give the CSV file", "name: got none; name the device")),
        ("measurements=t.csv format=phones name=x", ("device: got None with format=phones; allowed: one of the",)),
        ("measurements=t.csv device=a name=x", ("device: got 'a' with format=measurements; allowed: null",)),
        ("measurements=t.csv format=excel name=x", ("format: got 'excel'",)),
        ("measurements=bench.csv name=pixel6", ("name: got 'pixel6', a profile that is shipped",)),
        ("measurements=bench.csv name=my-phone", ("name: got 'my-phone'",)),
        ("measurements=none.csv name=dev", ("cannot read measurements from none.csv: No such file",)),
        ("measurements=. name=dev", ("cannot read measurements from .: Is a directory",)),
        ("measurements=bench.csv name=dev output=other.yaml", ("end it in dev.yaml",)),
        ("measurements=bench.csv name=dev output=dev.txt", ("allowed: a file that ends in .yaml",)),
        ("measurements=bench.csv name=dev output=/proc/x/dev.yaml", ("/proc", "set output")),
        ("measurements=bench.csv name=dev level=1", ("level: got 1",)),
        ("measurements=bench.csv name=dev level=0.2", ("level: got 0.2",)),
        ("measurements=bench.csv name=dev level=0.95", ("line 13: the file ends after 12 networks", "at least 19")),
        ("measurements=bench.csv name=dev model=forest", ("model: got 'forest'", "'roofline', 'table' or 'additive'")),
        ("measurements=bench.csv name=dev model=table", ("a table has the prices of single operations",)),
        ("measurements=bench.csv name=dev precision=fp8", ("precision: got 'fp8'",)),
        ("measurements=bench.csv name=dev threads=0", ("threads: got 0",)),
        ("measurements=bench.csv name=dev overwrite=1", ("overwrite: got 1",)),
        ("measurements=bench.csv name=dev space=mobile", ("space: it is for proposals",)),
        ("measurements=bench.csv name=dev candidates=x.csv", ("candidates: it is for proposals",)),
        ("measurements=bench.csv name=dev 'title=\"a \\${b}\"'", ("a ${b}", "leave it out")),
        ("propose=0 space=mobile", ("propose: got 0",)),
        ("propose=5", ("give one of space, candidates with propose",)),
        ("propose=5 space=mobile candidates=x.csv", ("give one of space, candidates with propose",)),
        ("propose=5 space=mobile name=dev", ("name: it is for a profile",)),
        ("propose=5 space=mobile space.depths=[0]", ("space.depths",)),
        ("propose=5 space=resnet", ("space/resnet",)),
        ("propose=5 candidates=none.csv", ("write none.csv with columns network,operation,count",)),
        ("propose=13 candidates=bench.layers.csv", ("propose: got 13, but 8 of 12 candidate networks",)),
        ("propose=5 candidates=bench.layers.csv measurements=ops.csv", ("single operations; proposals need whole",)),
        ("mesurements=bench.csv", ("mesurements",)),
    ],
)
def test_wrong_configuration_is_refused(command: Cli, bench: Path, arguments: str, words: tuple[str, ...]) -> None:
    write_operations(Path("ops.csv"), {op: true_device().price(op)["latency_ms"] for op in OPERATIONS})
    refused_calibration(command(*shlex.split(arguments)), *words)


ROW_NET2 = re.compile(r"^net2,(.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: ROW_NET2.sub("net2,-3", text),
            "line 4: latency_ms: got -3; allowed: a finite number greater than 0",
        ),
        (
            lambda text: ROW_NET2.sub("net2,0", text),
            "line 4: latency_ms: got 0; allowed: a finite number greater than 0",
        ),
        (
            lambda text: ROW_NET2.sub("net2,nan", text),
            "line 4: latency_ms: got 'nan'; allowed: a number of milliseconds",
        ),
        (lambda text: ROW_NET2.sub(r"net2,\1e3", text), "line 4: 'net2': latency_ms is "),
        (lambda text: ROW_NET2.sub(r"net2,\1e-6", text), "line 4: 'net2': latency_ms is "),
        (lambda text: ROW_NET2.sub(r"net1,\1", text), "line 4: 'net1' stands already in line 3; keep one of them"),
        (lambda text: ROW_NET2.sub(r"net99,\1", text), "line 4: network 'net99' has no operations in bench.layers.csv"),
        (lambda text: text.replace("latency_ms", "ms"), "line 1: column 'latency_ms' is missing"),
        (lambda text: text.replace("network,", "model,"), "line 1: one column must be 'network' or 'operation'"),
        (lambda text: "\n".join(text.splitlines()[:6]), "line 6: the file ends after 5 networks; a bound at level 0.9"),
        (lambda text: re.sub(r",(.*\d.*)\b", r",\1e4", text), "lines 2 to 13: the times are"),
        (lambda text: "", "bench.csv is empty"),
    ],
)
def test_wrong_measurements_are_refused_by_their_line(
    command: Cli, bench: Path, change: Callable[[str], str], message: str
) -> None:
    bench.write_text(change(bench.read_text()))
    refused_calibration(command("measurements=bench.csv", "name=dev"), message)


def test_all_that_is_wrong_is_told_at_once(command: Cli, bench: Path) -> None:
    bench.write_text(ROW_NET2.sub(r"net2,\1e6", bench.read_text()))
    Path("dev.report").mkdir()
    refused_calibration(
        command("measurements=bench.csv", "name=dev", "output=dev.yaml", "level=0.95"),
        *("dev.report exist already", "line 13: the file ends after 12 networks", "line 4: 'net2'"),
    )
    layers_path(bench).unlink()
    refused_calibration(
        command("measurements=bench.csv", "name=dev", "output=dev.yaml"),
        *("dev.report exist already", "the operations of its networks are missing"),
    )
