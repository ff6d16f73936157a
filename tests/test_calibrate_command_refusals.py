"""`espalier-calibrate`: a wrong configuration and wrong measurements end in one clear error, with nothing written."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from calibrations import OPERATIONS
from console import CALIBRATE, Cli, console, refused_calibration
from measured_networks import true_device, write_bench, write_operations
from wrong_cells import wrong_cells

from search_spaces.errors import keys_of


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(CALIBRATE, monkeypatch, capsys, tmp_path)


@pytest.fixture
def bench(command: Cli) -> Path:
    return write_bench()


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ("", "measurements name"),
        ("measurements=bench.csv name=pixel6", "name"),  # a shipped one would be found instead
        ("measurements=bench.csv name=my-phone level=1 threads=0 precision=fp8 overwrite=1", None),
        ("measurements=bench.csv name=dev format=excel", "format"),
        ("measurements=bench.csv name=dev device=a", "device"),
        ("measurements=bench.csv name=dev model=forest", "model"),
        ("measurements=bench.csv name=dev output=other.yaml", "output"),
        ("measurements=bench.csv name=dev output=dev.txt", "output"),
        ("measurements=bench.csv name=dev space=mobile candidates=x.csv", "space candidates"),
        ("propose=0 space=mobile", "propose"),
        ("propose=5", "candidates"),
        ("propose=5 space=mobile candidates=x.csv", "candidates"),
        ("propose=5 space=mobile name=dev", "name"),
        ("propose=13 candidates=bench.layers.csv", "propose"),
    ],
)
def test_a_wrong_configuration_is_refused_by_its_keys(
    command: Cli, bench: Path, arguments: str, keys: str | None
) -> None:
    result = command(*shlex.split(arguments))
    refused_calibration(result)
    expected = ["name", "threads", "precision", "level", "overwrite"] if keys is None else keys.split()
    assert sorted(keys_of(result[2].removeprefix("espalier-calibrate: "))) == sorted(expected)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("measurements=none.csv name=dev", "none.csv"),
        ("measurements=bench.csv name=dev output=/proc/x/dev.yaml", "/proc/x"),
        ("measurements=. name=dev", "regular file"),
        ("measurements=bench.csv name=dev level=0.95", "at least 19"),
        ("measurements=bench.csv name=dev 'title=\"a \\${b}\"'", "title"),
        ("propose=5 space=mobile space.depths=[0]", "space.depths"),
        ("propose=5 space=resnet", "resnet"),
        ("propose=5 candidates=none.csv", "none.csv"),
        ("propose=5 candidates=bench.layers.csv measurements=ops.csv", "ops.csv"),
        ("mesurements=bench.csv", "mesurements"),
    ],
)
def test_what_cannot_be_used_is_refused(command: Cli, bench: Path, arguments: str, word: str) -> None:
    write_operations(Path("ops.csv"), {op: true_device().price(op)["latency_ms"] for op in OPERATIONS})
    refused_calibration(command(*shlex.split(arguments)), word)


ROW_NET2 = re.compile(r"^net2,(.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda text: ROW_NET2.sub("net2,nan", text), [(4, "latency_ms")]),
        (lambda text: ROW_NET2.sub(r"net2,\1e3", text), [(4, "")]),
        (lambda text: ROW_NET2.sub(r"net99,\1", text), [(4, "")]),
        (lambda text: text.replace("latency_ms", "ms"), [(1, "latency_ms"), (1, "ms")]),
        (lambda text: "\n".join(text.splitlines()[:6]), [(6, "")]),
        (lambda text: re.sub(r",(.*\d.*)\b", r",\1e4", text), [(2, "")]),
    ],
)
def test_wrong_measurements_are_refused_by_their_line(
    command: Cli, bench: Path, change: Callable[[str], str], wrong: list[tuple[int, str]]
) -> None:
    bench.write_text(change(bench.read_text()))
    result = command("measurements=bench.csv", "name=dev")
    refused_calibration(result)
    assert wrong_cells(result[2]) == wrong
