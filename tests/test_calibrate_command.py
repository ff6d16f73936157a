"""`espalier-calibrate`: measurements end in a profile that a search loads, wrong ones in one clear error."""

import gzip
import json
import os
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console import (
    HEAVY,
    Cli,
    Result,
    complaints,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    imported_by,
    spaces_in_help,
)
from console import refused as told_once
from measured_networks import mobile_networks, true_device, true_times, write_networks, write_operations
from PIL import Image
from scipy.stats import spearmanr
from spaces import ROOT

from hardware_models.measuring.measurements import layers_path
from hardware_models.profile import load_profile
from hardware_models.published_tables.paddlelite import read_paddlelite
from search_spaces.architecture import read_architecture
from search_spaces.operation import Operation
from trainers import cli
from trainers.measure_plan import architecture_item

DATA = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
CELLS = ("space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=8")
OPERATIONS = [Operation("conv", (c, s, s), (32, s, s)) for c in (16, 32, 64) for s in (7, 14, 28, 56)]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(cli.CALIBRATE, monkeypatch, capsys, tmp_path)


def refused(result: Result, *words: str) -> None:
    """One message that says these words, and nothing written."""
    told_once(result, "espalier-calibrate", *words)
    assert [path for path in Path.cwd().rglob("*") if path.suffix in (".yaml", ".png", ".json")] == []


@pytest.fixture
def bench(command: Cli) -> Path:
    """Twelve networks of a device whose prices are known, in bench.csv."""
    networks = mobile_networks(12)
    return write_networks(Path("bench.csv"), networks, true_times(networks, true_device()))


# Answers without a calibration


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_calibration_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    _, _, packages = imported_by("calibrate", *arguments, folder=tmp_path)
    assert packages & HEAVY == set()


def test_help_names_every_space_and_ends_with_examples_and_exit_codes() -> None:
    assert spaces_in_help(cli.CALIBRATE) == {path.stem for path in (ROOT / "conf" / "space").glob("*.yaml")}
    assert ends_with_examples_and_exit_codes(cli.CALIBRATE)


def test_every_example_of_the_help_is_a_command_that_is_understood(command: Cli) -> None:
    for arguments in examples(cli.CALIBRATE):
        told = complaints(command(*arguments, "seed=-1"))  # all that is wrong with it
        assert told == {"seed: got -1; Input should be greater than or equal to 0"}


def test_the_command_is_installed_under_its_name() -> None:
    scripts = re.findall(r"^(espalier-\w+) = \"trainers\.cli:(\w+)\"$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert ("espalier-calibrate", "calibrate") in scripts


# Profiles


def test_networks_become_a_profile_with_its_report(command: Cli, bench: Path) -> None:
    output = done(command("measurements=bench.csv", "name=my_phone", "title='My phone: big cores'", "threads=4"))
    profile = load_profile(Path("hardware/my_phone.yaml"))
    assert (profile.title, profile.threads, profile.runtime) == ("My phone: big cores", 4, "not stated")
    assert "fp32: the measurements do not say at which precision they were taken." in profile.inferred
    assert profile.error is not None and profile.bound is not None
    figures = json.loads(Path("hardware/my_phone.report/figures.json").read_text())
    assert figures["rows"] == figures["error"]["n"] == figures["bound"]["n"] == 12
    assert figures["error"]["mape"] == pytest.approx(profile.error.mape, rel=1e-3)
    assert 0 <= figures["bound"]["coverage"] <= 1
    lines = Path("hardware/my_phone.report/predictions.csv").read_text().splitlines()
    assert lines[0] == "name,line,measured_ms,predicted_ms,ratio"
    assert len(lines) == 13
    worst = figures["worst"]
    assert len(worst) == 5
    off = [max(row["ratio"], 1 / row["ratio"]) for row in worst]
    assert off == sorted(off, reverse=True)
    assert all(row["ratio"] == pytest.approx(row["measured_ms"] / row["predicted_ms"]) for row in worst)
    assert re.findall(r"^worst  (\S+)", output, re.MULTILINE) == [row["name"] for row in worst]
    with Image.open("hardware/my_phone.report/predicted_measured.png") as picture:
        assert picture.width == picture.height > 500
        assert len(set(np.asarray(picture.convert("L")).flat)) > 50  # something is drawn


def test_operations_become_a_roofline_or_a_table(command: Cli) -> None:
    write_operations(Path("ops.csv"), {op: true_device().price(op)["latency_ms"] for op in OPERATIONS})
    done(command("measurements=ops.csv", "name=fitted"))
    done(command("measurements=ops.csv", "name=exact", "model=table", "level=0.6"))
    fitted, exact = (load_profile(Path(f"hardware/{name}.yaml")) for name in ("fitted", "exact"))
    for operation in OPERATIONS:
        ms = true_device().price(operation)["latency_ms"]
        assert fitted.price(operation)["latency_ms"] == pytest.approx(ms, rel=0.1)  # of twelve rows
        assert exact.price(operation)["latency_ms"] == pytest.approx(ms, rel=1e-3)


def test_a_profile_that_exists_is_kept_unless_it_may_be_replaced(command: Cli, bench: Path) -> None:
    arguments = ("measurements=bench.csv", "name=dev", "output=dev.yaml")
    assert "put dev.yaml into a folder hardware/" in done(command(*arguments))
    before = Path("dev.yaml").read_bytes()
    code, _, errors = command(*arguments, "title=other")
    assert code == 2
    assert "dev.yaml and dev.report exist already; set output, or overwrite=true" in errors
    assert Path("dev.yaml").read_bytes() == before
    done(command(*arguments, "title=other", "overwrite=true"))
    assert load_profile(Path("dev.yaml")).title == "other"


def test_what_the_file_says_of_the_device_goes_into_the_profile(command: Cli) -> None:
    networks = mobile_networks(9)
    times = true_times(networks, true_device())
    write_networks(Path("bench.csv"), networks, times)
    rows = [
        f'{name},{ms},ort,2,fp16,"board, 4 cores","ort 1.3",2026-01-0{i + 1}'
        for i, (name, ms) in enumerate(times.items())
    ]
    header = "network,latency_ms,runtime,threads,precision,machine,versions,date"
    Path("bench.csv").write_text("\n".join([header, *rows]))
    done(command("measurements=bench.csv", "name=dev"))
    profile = load_profile(Path("hardware/dev.yaml"))
    assert (profile.title, profile.runtime, profile.threads, profile.precision) == ("board, 4 cores", "ort", 2, "fp16")
    assert profile.source.startswith("measured from 2026-01-01 to 2026-01-09 on board, 4 cores; ort 1.3; bench.csv")
    refused_again = command("measurements=bench.csv", "name=two", "threads=3", "runtime=tflite", "precision=fp32")
    assert refused_again[0] == 2
    for words in ("threads: got 3, but bench.csv says '2'", "runtime: got 'tflite'", "precision: got 'fp32'"):
        assert words in refused_again[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """What tests/benchmarks/fit_profiles.py defines."""
    return runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_profiles.py"))


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
@pytest.mark.parametrize("name", ["raspberry_pi_4", "mid_tablet", "flagship_phone"])
def test_real_devices_are_calibrated_as_well_as_the_shipped_ones(
    command: Cli, script: dict[str, Any], name: str
) -> None:
    device, threads, power_mode = script["NCNN"][name]
    times, wanted = script["usable_times"](), (str(threads), str(power_mode))
    [own] = [setting for setting in times if setting[0].startswith(device) and setting[1:] == wanted]
    predicted_N, measured_N = script["leave_one_network_out"](own)
    shipped_mape = float(np.abs(predicted_N / measured_N - 1).mean())
    networks = {n: ops for n, ops in script["ncnn_networks"]().items() if n in times[own]}
    write_networks(Path("bench.csv"), networks, {network: times[own][network] for network in networks})
    done(command("measurements=bench.csv", "name=dev", f"threads={threads}", "runtime=ncnn"))
    error = load_profile(Path("hardware/dev.yaml")).error
    assert error is not None and error.n == len(networks) >= 18
    assert error.mape < shipped_mape + 0.02  # the population has seen these networks


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
def test_a_real_table_of_operations_is_calibrated_and_refused_while_it_is_in_microseconds(command: Cli) -> None:
    blocks = read_paddlelite(DATA / "latency" / "paddlelite_snapdragon855_op_lut.csv").blocks
    times = {block.operations[0]: block.ms for block in reversed(blocks)}
    write_operations(Path("us.csv"), {operation: ms * 1000 for operation, ms in times.items()})
    refused(command("measurements=us.csv", "name=dev"), "as microseconds they would be ordinary")
    write_operations(Path("ms.csv"), times)
    figures = []
    for model in ("roofline", "table"):
        done(command("measurements=ms.csv", f"name={model}", f"model={model}"))
        profile = load_profile(Path(f"hardware/{model}.yaml"))
        assert profile.error is not None and profile.bound is not None
        assert profile.bound.coverage == pytest.approx(0.9, abs=0.02)
        figures.append(profile.error.mape)
    assert figures[0] < 0.2 and figures[1] < 0.08  # 16 % and 6 % when this was written


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
@pytest.mark.parametrize(
    ("device", "rank", "error"), [("eyeriss", 0.98, 0.03), ("fpga", 0.98, 0.03), ("raspi4", 0.95, 0.12)]
)
def test_ten_cells_of_a_device_price_the_others_additively(
    command: Cli, monkeypatch: pytest.MonkeyPatch, device: str, rank: float, error: float
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "benchmarks"))
    script = runpy.run_path(str(ROOT / "tests" / "benchmarks" / "fit_cell_profiles.py"))
    cells = script["nb201_cells"]()
    order = np.random.default_rng(0).permutation(len(cells))
    networks = {f"cell{i}": script["nb201_network"](*cells[i][0]) for i in order[:10]}
    times = {f"cell{i}": cells[i][1][device] for i in order[:10]}
    write_networks(Path("bench.csv"), networks, times)
    done(command("measurements=bench.csv", "name=dev", "model=additive", "unusual_speed=true"))
    profile = load_profile(Path("hardware/dev.yaml"))
    measured_N = np.array([cells[i][1][device] for i in order[10:510]])
    others = [script["nb201_network"](*cells[i][0]) for i in order[10:510]]
    totals = [profile.constant_ms + sum(profile.price(op)["latency_ms"] for op in network) for network in others]
    assert spearmanr(totals, measured_N).statistic > rank
    assert np.median(np.abs(np.array(totals) / measured_N - 1)) < error


def test_a_row_that_alone_sets_the_bound_is_named(command: Cli) -> None:
    networks = mobile_networks(15)
    times = true_times(networks, true_device())
    write_networks(Path("bench.csv"), networks, {**times, "net4": times["net4"] * 20})
    assert "line 6 (net4) alone sets the bound" in done(command("measurements=bench.csv", "name=glitch"))
    write_networks(Path("bench.csv"), networks, times)
    assert "alone sets" not in done(command("measurements=bench.csv", "name=sound"))


def test_additive_prices_are_refused_for_networks_of_another_space(command: Cli) -> None:
    write_networks(Path("bench.csv"), mobile_networks(10), true_times(mobile_networks(10), true_device()))
    refused(command("measurements=bench.csv", "name=dev", "model=additive"), "which NAS-Bench-201 has nowhere")


TABLES = {
    "phones": ("phones4_block_lut.csv.gz", "pixel6", 9603, 0.05),
    "ofa": ("proxyless_ofa_op_lut.csv", "samsung_note10_cpu_tflite", 480, 0.25),
    "fbnet": ("fbnet_lut_hwnasbench.csv", "raspi4", 128, 0.15),
    "paddlelite": ("paddlelite_snapdragon855_op_lut.csv", None, 595, 0.2),
}


@pytest.mark.skipif(not (DATA / "latency").is_dir(), reason=f"no measurements at {DATA}; set ESPALIER_DATA")
@pytest.mark.parametrize("table_format", TABLES)
def test_a_look_up_table_of_another_project_gives_a_profile_in_one_command(command: Cli, table_format: str) -> None:
    file, device, num_rows, asked = TABLES[table_format]
    opened = gzip.open if file.endswith(".gz") else open
    with opened(DATA / "latency" / file, "rb") as source:
        Path("table.csv").write_bytes(source.read())
    Path("table_base.json").write_bytes((DATA / "latency" / "fbnet_lut_hwnasbench_base.json").read_bytes())
    given = [] if device is None else [f"device={device}"]
    done(command("measurements=table.csv", f"format={table_format}", *given, "name=dev"))
    profile = load_profile(Path("hardware/dev.yaml"))
    assert profile.error is not None and profile.error.n == num_rows and profile.error.mape < asked
    assert profile.bound is not None and profile.bound.coverage == pytest.approx(0.9, abs=0.05)
    assert profile.calibrator is None


# Refusals


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
    refused(command(*shlex.split(arguments)), *words)


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
    refused(command("measurements=bench.csv", "name=dev"), message)


def test_all_that_is_wrong_is_told_at_once(command: Cli, bench: Path) -> None:
    bench.write_text(ROW_NET2.sub(r"net2,\1e6", bench.read_text()))
    Path("dev.report").mkdir()
    refused(
        command("measurements=bench.csv", "name=dev", "output=dev.yaml", "level=0.95"),
        *("dev.report exist already", "line 13: the file ends after 12 networks", "line 4: 'net2'"),
    )
    layers_path(bench).unlink()
    refused(
        command("measurements=bench.csv", "name=dev", "output=dev.yaml"),
        *("dev.report exist already", "the operations of its networks are missing"),
    )


# What to measure next


def test_proposed_networks_are_files_that_can_be_measured(command: Cli) -> None:
    output = done(command("propose=4", *CELLS))
    files = sorted(Path("proposed").glob("*.json"))
    assert len(files) == 4
    listed = Path("proposed/networks.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[0] for line in listed) == [architecture_item(path).name for path in files]
    assert "next  espalier-measure 'architecture=proposed/*.json' output=bench.csv" in output
    assert "mind  a bound at 90% needs 9 networks measured" in output
    assert {read_architecture(path).space for path in files} == {"nasbench201"}
    code, _, errors = command("propose=4", *CELLS)
    assert code == 2 and "proposed exist already" in errors


def test_candidates_of_a_file_are_proposed_by_name_without_those_measured(command: Cli) -> None:
    networks = mobile_networks(40)
    write_networks(Path("all.csv"), networks, true_times(networks, true_device()))
    known = dict(list(networks.items())[:6])
    write_networks(Path("bench.csv"), known, true_times(known, true_device()))
    done(command("propose=5", "candidates=all.layers.csv", "measurements=bench.csv", "output=five"))
    header, *rows = Path("five/networks.csv").read_text().splitlines()
    assert header == "network,predicted_ms,deviation_ms"
    names = [row.split(",")[0] for row in rows]
    assert len(set(names)) == 5 and set(names) <= set(networks) - set(known)
    assert all(float(cell) > 0 for row in rows for cell in row.split(",")[1:])
    assert list(Path("five").glob("*.json")) == []


# From a measurement to a search


def test_what_is_measured_here_is_calibrated_and_searched_for(command: Cli) -> None:
    proposed = done(command("propose=10", *CELLS))
    assert "mind" not in proposed
    output = done(command(*following(proposed, cli.MEASURE), "warmup=1", "repeats=5", app=cli.MEASURE))
    output = done(command(*following(output, cli.CALIBRATE), "name=this_machine"))
    arguments = [
        *following(output, cli.SEARCH),
        "hardware.this_machine.budgets.latency_ms=1000",
        *CELLS,
        "debug=one_epoch",
    ]
    code, output, errors = command(*arguments, app=cli.SEARCH)
    assert code == 0, errors
    assert "1/1 devices within budget" in output
    [result] = Path("runs").rglob("result.json")
    device = json.loads(result.read_text())["devices"]["this_machine"]
    profile = load_profile(Path("hardware/this_machine.yaml"))
    assert device["profile"]["source"] == profile.source
    assert device["upper"]["latency_ms"] >= device["predicted"]["latency_ms"] > 0


def following(output: str, app: cli.App) -> list[str]:
    """The arguments of the command that a command tells to go on with."""
    found = re.search(rf"^next  {app.name} (.*)$", output, re.MULTILINE)
    assert found, output
    return shlex.split(found[1])
