"""How `espalier-search` ends: data and budgets that cannot be, sweeps, signals, losses that are no number."""

import gzip
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console import SEARCH, Cli, console, refused_search
from hydra.core.global_hydra import GlobalHydra
from tiny_search import MOBILE, TINY, tiny_config

import trainers.search.certificate
import trainers.search.run
from hardware_models.counting import Recount, recount
from trainers.cli.search_command import main
from trainers.runs.state import state_of

COMMAND = Path(sys.executable).parent / "espalier-search"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path) -> Cli:
    return console(SEARCH, monkeypatch, capsys, runs.parent, f"paths.runs={runs}")


# Data


def write_idx(folder: Path, *, top: int = 9, cut: int = 0) -> None:
    """Fashion-MNIST's four files with 40 images each, the largest label `top`, the images cut short by `cut` bytes."""
    folder.mkdir(parents=True)
    labels = np.arange(40, dtype=np.uint8) % 10
    labels[9] = top
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            raw = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
            packed = gzip.compress(raw)
            (folder / f"{name}.gz").write_bytes(packed[: len(packed) - cut if array.ndim == 3 else None])


def test_a_data_folder_that_is_missing_is_refused(search: Cli, runs: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    refused_search(search(*TINY, "data=fashion_mnist", f"paths.data={missing}"), runs, str(missing), "paths.data")
    assert not runs.exists()


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "image_folder"])
def test_an_empty_data_folder_is_refused(search: Cli, runs: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    refused_search(search(*TINY, f"data={name}", f"paths.data={tmp_path / 'data'}"), runs, str(tmp_path / "data"))
    assert not runs.exists()


def test_a_truncated_data_file_is_refused(search: Cli, runs: Path, tmp_path: Path) -> None:
    write_idx(tmp_path / "data", cut=100)
    found = search(*TINY, "data=fashion_mnist", f"paths.data={tmp_path / 'data'}")
    refused_search(found, runs, "train-images-idx3-ubyte.gz cannot be read whole")
    assert not runs.exists()


def test_labels_out_of_range_are_refused(search: Cli, runs: Path, tmp_path: Path) -> None:
    write_idx(tmp_path / "data", top=10)
    found = search(*TINY, "data=fashion_mnist", f"paths.data={tmp_path / 'data'}")
    refused_search(found, runs, "labels out of range", "10", "0..9")
    assert not runs.exists()


def test_a_run_folder_that_cannot_be_written_is_refused(search: Cli, runs: Path) -> None:
    runs.write_text("a file where a folder should be")
    code, _, errors = search(*TINY)
    assert code == 2
    assert errors.startswith(f"espalier-search: cannot write the run folder {runs}")
    assert "paths.runs" in errors


# Budgets


def status_of(runs: Path) -> dict[str, Any]:
    [path] = runs.rglob("status.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_a_budget_that_no_network_meets_is_refused_with_what_is_reachable(search: Cli, runs: Path) -> None:
    found = search(*TINY, "hardware.mid_tablet.budgets.gflops=0.0009")
    refused_search(found, runs, "mid_tablet: gflops: the smallest network needs", "budget 0.0009")
    number = re.search(r"needs ([\d.]+) GFLOPs .*, budget 0\.0009 \(([\d.]+)x\)", found[2])
    assert number
    assert float(number[1]) / 0.0009 == pytest.approx(float(number[2]), abs=0.01)
    assert "epoch" not in found[1]
    status = status_of(runs)
    assert status["status"] == "infeasible"
    assert status["error"] in found[2]
    again = search(*TINY, "hardware.mid_tablet.budgets.gflops=0.0009")
    refused_search(again, runs, status["error"], "known since")
    assert status_of(runs) == status  # no other attempt


def test_budgets_out_of_reach_in_several_metrics_are_all_named(search: Cli, runs: Path) -> None:
    impossible = [
        f"hardware.iot_terminal.budgets.{metric}=1e-6" for metric in ("latency_ms", "gflops", "peak_memory_mb")
    ]
    found = search(*TINY, *impossible)
    refused_search(
        found, runs, "iot_terminal", "latency_ms: the smallest", "gflops: the smallest", "peak_memory_mb: the smallest"
    )


def test_all_devices_without_a_network_are_named_at_once(search: Cli, runs: Path) -> None:
    impossible = [f"hardware.{name}.budgets.gflops=1e-6" for name in ("mid_tablet", "iot_terminal")]
    found = search(*TINY, *impossible)
    refused_search(found, runs, "mid_tablet: gflops: the smallest", "iot_terminal: gflops: the smallest")
    assert status_of(runs)["error"] in found[2]
    assert status_of(runs)["status"] == "infeasible"


# A device on which the larger kernel is the faster one, so that its budgets pull apart.
ODD_DEVICE = (
    "{title: odd, runtime: none, threads: 1, precision: fp32, source: a test, measured: [], inferred: [],"
    " error: {method: none, n: 1, mape: 0, median_ape: 0, within_20_share: 1, spearman: 1},"
    " budgets: {latency_ms: 1.0, gflops: 0.00182},"
    " latency: {model: additive, constant_ms: 0,"
    " in_constant: [{kind: linear}, {kind: global_pool}, {kind: add}, {kind: conv, kernel: 1}],"
    " terms: [{match: {kind: conv, kernel: 3}, ms: 1.0}, {match: {kind: conv, kernel: 5}, ms: 0.1}]}}"
)


def test_budgets_reachable_alone_but_not_together_are_refused_with_the_ratio(search: Cli, runs: Path) -> None:
    device = [f"+hardware.odd={ODD_DEVICE}", "~hardware.mid_tablet", "~hardware.iot_terminal"]
    shape = ["space.depths=[1]", "hardware.odd.budgets.latency_ms=1.6"]  # 1.0 of the stem, 0.1 for each of five blocks
    found = search(*TINY, *device, *shape)
    refused_search(found, runs, "odd together (", "latency_ms <= 1.6", "gflops <= 0.00182", "each is reachable alone")
    ratio = re.search(r"only if every one grows ([\d.]+)x", found[2])
    assert ratio
    assert float(ratio[1]) > 1
    assert status_of(runs)["status"] == "infeasible"
    # Grown by a little more than that ratio they are met: no gflop here is, so that only the check runs.
    grown = float(ratio[1]) + 0.01
    enough = [f"hardware.odd.budgets.latency_ms={1.6 * grown}", f"hardware.odd.budgets.gflops={0.00182 * grown}"]
    code, output, errors = search(*TINY, *device, *shape, *enough, "trainer.steps=1", "trainer.candidates=1")
    assert code == 0, errors
    assert "odd: budgets met" in output
    assert " · 1 device · " in output  # "1 devices" once


# Ends


def test_a_sweep_makes_a_run_folder_each_and_the_same_command_again_says_finished(search: Cli, runs: Path) -> None:
    code, output, errors = search(*TINY, "-m", "seed=0,1", "sweep=two")
    assert code == 0, errors
    folders = sorted(path.parent for path in (runs / "two").rglob("result.json"))
    assert [re.sub(r"-\w{8}$", "", folder.name) for folder in folders] == ["mobile-pool-seed0", "mobile-pool-seed1"]
    before = {folder: (folder / "result.json").stat().st_mtime_ns for folder in folders}
    assert "finished already" not in output
    assert list(Path.cwd().iterdir()) == []
    assert list(runs.rglob("*.log")) == []
    code, output, _ = search(*TINY, "seed=1", "sweep=two")
    assert code == 0
    assert f"this search is finished already: {folders[1]}" in output
    assert {folder: (folder / "result.json").stat().st_mtime_ns for folder in folders} == before


def test_a_job_that_fails_leaves_the_others_of_its_sweep_finished(search: Cli, runs: Path) -> None:
    code, _, errors = search(*TINY, "-m", "trainer.batch_size=5000,16")
    assert code == 2
    assert "trainer.batch_size: got 5000" in errors
    assert len(list(runs.rglob("result.json"))) == 1
    assert sorted(state_of(path.parent).state for path in runs.rglob("status.json")) == ["done", "refused"]


@pytest.mark.parametrize(
    ("too_much", "message"),
    [
        (
            ("optimizer.lr=1e30", "trainer.clip_norm=1e30"),
            r"the weights loss is (nan|inf) at step 1; lower optimizer\.lr",
        ),
        (("optimizer.lr=1e10",), r"the weights loss is (nan|inf) at step \d+; lower optimizer\.lr"),
        (
            ("arch_optimizer.lr=1e38",),
            r"the architecture parameters are not finite .*; lower arch_optimizer\.lr",
        ),
    ],
    ids=["weights", "an epoch's end", "architecture"],
)
def test_what_is_no_number_any_more_ends_the_search_with_a_message_and_a_report(
    search: Cli, runs: Path, too_much: tuple[str, ...], message: str
) -> None:
    code, output, errors = search(*TINY, *too_much)
    assert code == 1
    assert re.match(f"espalier-search: {message}", errors)
    assert "Traceback" not in errors and "could not be written" not in output
    assert len(list(runs.rglob("report.html"))) == 1
    status = status_of(runs)
    assert status["status"] == "failed"
    assert re.match(message, status["error"])
    assert list(runs.rglob("result.json")) == []
    assert next(runs.rglob("run.log")).read_text(encoding="utf-8").startswith("Traceback")


def test_a_budget_that_the_recount_breaks_for_every_network_ends_with_3(
    search: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dearer(module: Any, shape: Any) -> Recount:
        counted = recount(module, shape)
        return Recount(counted.gflops + 10, counted.params_m, counted.by_operator)

    monkeypatch.setattr(trainers.search.certificate, "recount", dearer)
    code, output, _ = search(*TINY, "trainer.max_cuts=3")
    assert code == 3
    assert "mid_tablet: budgets NOT MET (gflops)" in output
    assert "0/2 devices within budget" in output
    [path] = runs.rglob("result.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["status"] == status_of(runs)["status"] == "unmet"
    for device in result["devices"].values():
        assert not device["met"]
        assert device["refuted_by"] == "gflops"
        assert len(device["cut"]) == 2  # and the one that is shown
        assert device["held"]["gflops"] == device["recounted"]["gflops"] > 10
        assert (device["held_by"]["gflops"], device["binding"]) == ("recounted", "gflops")
    # Which a study takes for a broken constraint.
    assert result["objective"]["utilisation"] == max(d["utilisation"]["gflops"] for d in result["devices"].values()) > 1
    code, output, _ = search(*TINY, "trainer.max_cuts=3")
    assert code == 3
    assert "finished already" in output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_search_with_its_code_and_leaves_it_interrupted(
    runs: Path, number: signal.Signals, code: int
) -> None:
    arguments = [str(COMMAND), f"paths.runs={runs}", *TINY, "trainer.steps=1000000"]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell that starts jobs in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not list(runs.rglob("metrics.csv")) and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert f"interrupted; the same command continues:\n  {shlex.join(['espalier-search', *arguments[1:]])}\n" in errors
    assert "Traceback" not in errors
    assert status_of(runs)["status"] == "interrupted"
    assert list(runs.rglob("result.json")) == []


def test_an_interrupted_search_is_run_by_the_same_command(search: Cli, runs: Path) -> None:
    folder = tiny_config(runs, *MOBILE, "strategy.pool_size=32").run_folder
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": "interrupted"}))
    (folder / "metrics.csv").write_text("epoch,step\n1,3\n")
    code, output, errors = search(*TINY)
    assert code == 0, errors
    assert "finished already" not in output
    assert status_of(runs)["status"] == "done"
    assert (folder / "metrics.csv").read_text(encoding="utf-8").startswith("epoch,step,train/loss")


def test_a_signal_while_networks_are_chosen_ends_a_search_as_one_while_training_does(
    search: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(trainers.search.run, "derive", killed)
    monkeypatch.setattr(sys, "argv", ["espalier-search", *TINY, f"paths.runs={runs}"])
    GlobalHydra.instance().clear()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert "interrupted; the same command continues:\n  espalier-search " in capsys.readouterr().err
    assert status_of(runs)["status"] == "interrupted"
