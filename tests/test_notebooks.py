"""The notebooks are committed without outputs, and what they read was left by real searches and is whole.

That they run is tested by nbmake, which collects them as tests of their own.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from hardware_models.measuring.measurements import read_measurements
from search_spaces.architecture import build_space, read_architecture
from trainers.analysis import load_run, load_sweep, stability
from trainers.reports.verify import verify_run

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SAMPLE = NOTEBOOKS / "sample"
RUNS = sorted(path.parent for path in SAMPLE.glob("*/*/status.json"))
MOST_BYTES = 500_000
FEWEST = {"00_quickstart", "01_one_run", "02_comparing_strategies", "03_latency_model", "04_ranking_and_gap"}


def run_id(run: Path) -> str:
    return f"{run.parent.name}/{run.name}"


def test_notebooks_are_committed_as_nbstripout_leaves_them() -> None:
    command = [sys.executable, "-m", "nbstripout", "--verify", *map(str, sorted(NOTEBOOKS.glob("*.ipynb")))]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, f"{found.stdout}{found.stderr}run nbstripout notebooks/*.ipynb"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_defines_nothing_that_others_could_need(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    lines = [line for source in sources for line in source.splitlines()]
    assert [line for line in lines if line.lstrip().startswith(("def ", "class ", "async def "))] == []


def test_there_is_a_notebook_for_each_subject_and_it_ships_a_small_sample() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} >= FEWEST
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) <= MOST_BYTES
    assert (SAMPLE / "README.md").is_file()


def test_the_sample_has_two_strategies_with_three_seeds_and_a_measured_network() -> None:
    table = load_sweep(SAMPLE / "strategies").table
    assert table.groupby(["strategy", "device"])["seed"].agg(list).to_dict() == {
        (strategy, device): [0, 1, 2] for strategy in ("pool", "random") for device in ("iot_terminal", "mid_tablet")
    }
    assert set(table["state"]) == {"done"} and table["met"].all()
    assert load_sweep(SAMPLE / "host").table["measured_latency_ms"].notna().all()


@pytest.mark.parametrize("run", RUNS, ids=run_id)
def test_the_files_of_a_sample_run_are_those_that_its_search_wrote(run: Path) -> None:
    files = json.loads((run / "result.json").read_text(encoding="utf-8"))["files"]
    found = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files if (run / name).is_file()}
    assert found == {name: digest for name, digest in files.items() if not name.startswith("weights/")}
    assert len(found) >= 6


@pytest.mark.parametrize("run", RUNS, ids=run_id)
def test_a_sample_run_agrees_with_itself(run: Path) -> None:
    loaded = load_run(run)
    assert loaded.result is not None and loaded.alphas is not None
    for row in loaded.devices.to_dict("records"):
        architecture = read_architecture(run / "architectures" / f"{row['device']}.json")
        operations = build_space(architecture).operations(architecture.choices)
        assert architecture.id == row["id"]
        # The same whole numbers, added in another order.
        assert sum(op.macs for op in operations) / 1e9 == pytest.approx(row["predicted_gflops"], rel=1e-9)
        assert row["recounted_gflops"] == pytest.approx(row["predicted_gflops"], rel=1e-6)
        for metric in ("latency_ms", "gflops"):
            if row[f"budget_{metric}"] == row[f"budget_{metric}"]:  # there is one
                assert row[f"upper_{metric}"] <= row[f"budget_{metric}"]
    assert loaded.metrics["step"].iloc[-1] == loaded.config["trainer"]["steps"]
    assert list(loaded.alphas.step) == list(loaded.metrics["step"])


@pytest.mark.parametrize("run", [RUNS[0], RUNS[-1]], ids=run_id)
def test_a_sample_run_is_verified_but_for_its_weights(run: Path) -> None:
    checks = verify_run(run)
    failed = [check for check in checks if check.outcome == "FAILED"]
    missing = [c for c in failed if c.what.startswith("file weights/") or c.what.endswith(": weights")]
    assert failed == missing, "make the sample again, as its README says"
    assert {"configuration", "data split"} <= {check.what for check in checks if check.outcome == "ok"}


@pytest.mark.parametrize("run", RUNS, ids=run_id)
def test_a_sample_run_names_neither_a_host_nor_a_home(run: Path) -> None:
    assert load_run(run).state.host == "localhost"
    for path in run.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"/home/" not in content and b"/root/" not in content and b"/tmp/" not in content, path


def test_the_sample_tells_that_seeds_agree_more_than_chance_says() -> None:
    scores = stability(load_sweep(SAMPLE / "strategies")).scores.set_index(["strategy", "device"])
    assert len(scores) == 4 and (scores["seeds"] == 3).all()
    assert (scores.loc["pool", "agreement"] > scores.loc["pool", "chance"]).all()


@pytest.mark.parametrize("name", ["networks", "operations"])
def test_the_measurements_of_the_sample_can_be_read(name: str) -> None:
    measurements = read_measurements(SAMPLE / f"{name}.csv")
    assert measurements.subject == name.removesuffix("s") and len(measurements.rows) >= 20
