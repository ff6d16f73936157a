"""`espalier-calibrate`: measurements end in a profile that a search loads, and it says what to measure next."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from calibrations import OPERATIONS
from console import (
    CALIBRATE,
    HEAVY,
    MEASURE,
    SEARCH,
    App,
    Cli,
    complaints,
    console,
    done,
    ends_with_examples_and_exit_codes,
    examples,
    imported_by,
    refused_calibration,
    spaces_in_help,
)
from measured_networks import mobile_networks, true_device, true_times, write_bench, write_networks, write_operations
from PIL import Image
from spaces import ROOT

from hardware_models.profile import load_profile
from search_spaces.architecture import read_architecture
from trainers.devices.measure_plan import architecture_item

CELLS = ("space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=8")
MEASURED_CELLS = ("space=nasbench201", "space.width=16", "space.num_cells=1", "space.image_size=32")  # 0.1 to 0.4 ms


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(CALIBRATE, monkeypatch, capsys, tmp_path)


@pytest.fixture
def bench(command: Cli) -> Path:
    return write_bench()


# Answers without a calibration


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=" ".join)
def test_answers_without_a_calibration_import_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    _, _, packages = imported_by("calibrate_command", *arguments, folder=tmp_path)
    assert packages & HEAVY == set()


def test_help_names_every_space_and_ends_with_examples_and_exit_codes() -> None:
    assert spaces_in_help(CALIBRATE) == {path.stem for path in (ROOT / "conf" / "space").glob("*.yaml")}
    assert ends_with_examples_and_exit_codes(CALIBRATE)


def test_every_example_of_the_help_is_a_command_that_is_understood(command: Cli) -> None:
    for arguments in examples(CALIBRATE):
        reported = complaints(command(*arguments, "seed=-1"))  # all that is wrong with it
        assert reported == {"seed: got -1; Input should be greater than or equal to 0"}


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
        assert min(picture.size) > 500
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
    assert profile.source.startswith("measured from 2026-01-01 to 2026-01-09 on board, 4 cores; bench.csv")
    assert profile.runtime_version == "ort 1.3"
    refused_again = command("measurements=bench.csv", "name=two", "threads=3", "runtime=tflite", "precision=fp32")
    assert refused_again[0] == 2
    for words in ("threads: got 3, but bench.csv says '2'", "runtime: got 'tflite'", "precision: got 'fp32'"):
        assert words in refused_again[2]


def test_a_row_that_alone_sets_the_bound_is_named(command: Cli) -> None:
    networks = mobile_networks(15)
    times = true_times(networks, true_device())
    write_networks(Path("bench.csv"), networks, {**times, "net4": times["net4"] * 20})
    assert "line 6 (net4) alone sets the bound" in done(command("measurements=bench.csv", "name=glitch"))
    write_networks(Path("bench.csv"), networks, times)
    assert "alone sets" not in done(command("measurements=bench.csv", "name=sound"))


def test_additive_prices_are_refused_for_networks_of_another_space(command: Cli) -> None:
    write_networks(Path("bench.csv"), mobile_networks(10), true_times(mobile_networks(10), true_device()))
    refused_calibration(
        command("measurements=bench.csv", "name=dev", "model=additive"), "which NAS-Bench-201 has nowhere"
    )


# What to measure next


def test_proposed_networks_are_files_that_can_be_measured(command: Cli) -> None:
    output = done(command("propose=4", *CELLS))
    files = sorted(Path("proposed").glob("*.json"))
    assert len(files) == 4
    listed = Path("proposed/networks.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[0] for line in listed) == [architecture_item(path).name for path in files]
    assert {architecture_item(path).part for path in files} == {"random"}
    assert "next  espalier-measure 'architecture=proposed/*.json' output=bench.csv" in output
    assert "warning  a bound at 90% needs 9 random networks; with these there are 4" in output
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
    assert header == "network,part,predicted_ms,deviation_ms"
    names = [row.split(",")[0] for row in rows]
    assert len(set(names)) == 5 and set(names) <= set(networks) - set(known)
    assert all(float(cell) > 0 for row in rows for cell in row.split(",")[2:])
    assert list(Path("five").glob("*.json")) == []


def test_error_and_bound_come_of_the_random_part_where_there_is_one(command: Cli) -> None:
    networks = mobile_networks(30)
    times = true_times(networks, true_device())
    parts = {name: "random" if k < 12 else "telling" for k, name in enumerate(networks)}
    write_networks(Path("bench.csv"), networks, times, part=parts)
    output = done(command("measurements=bench.csv", "name=marked"))
    profile = load_profile(Path("hardware/marked.yaml"))
    assert profile.error is not None and profile.bound is not None
    assert profile.error.n == profile.bound.n == 12
    assert profile.error.median_ape_interval is not None
    low, high = profile.error.median_ape_interval
    assert low <= profile.error.median_ape <= high
    assert "marked as drawn at random" not in output
    rows = Path("hardware/marked.report/predictions.csv").read_text().splitlines()[1:]
    assert sorted(int(row.split(",")[1]) for row in rows) == list(range(2, 14))
    write_networks(Path("bench.csv"), networks, times)
    assert "0 of them are marked as drawn at random" in done(command("measurements=bench.csv", "name=unmarked"))
    profile = load_profile(Path("hardware/unmarked.yaml"))
    assert profile.bound is not None and profile.bound.n == 30


# From a measurement to a search


@pytest.mark.slow
def test_what_is_measured_here_is_calibrated_and_searched_for(command: Cli) -> None:
    proposed = done(command("propose=14", *MEASURED_CELLS))
    assert "warning" not in proposed
    assert "5 telling ones" in proposed
    output = done(command(*following(proposed, MEASURE), "repeats=20", app=MEASURE))
    output = done(command(*following(output, CALIBRATE), "name=this_machine"))
    arguments = [
        *following(output, SEARCH),
        "hardware.this_machine.budgets.latency_ms=1000",
        *MEASURED_CELLS,
        "debug=one_epoch",
    ]
    code, output, errors = command(*arguments, app=SEARCH)
    assert code == 0, errors
    assert "1/1 devices within budget" in output
    [result] = Path("runs").rglob("result.json")
    device = json.loads(result.read_text())["devices"]["this_machine"]
    profile = load_profile(Path("hardware/this_machine.yaml"))
    assert device["profile"]["source"] == profile.source
    assert f"onnxruntime {onnxruntime.__version__}" in str(profile.runtime_version)
    assert device["upper"]["latency_ms"] >= device["predicted"]["latency_ms"] > 0


def following(output: str, app: App) -> list[str]:
    """The arguments of the command that a command tells to go on with."""
    found = re.search(rf"^next  {app.name} (.*)$", output, re.MULTILINE)
    assert found, output
    return shlex.split(found[1])
