"""How `espalier-search` ends: data and budgets that cannot be, sweeps, signals, losses that are no number."""

import json
import os
import re
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from console import SEARCH, Cli, console, refused, refused_search
from hydra.core.global_hydra import GlobalHydra
from tiny_search import TINY

import trainers.cli.main
import trainers.search.certificate
import trainers.search.run
from hardware_models.counting import Recount, recount
from tests.reported_runs import draw_nothing
from trainers.cli.search_command import main
from trainers.runs.state import state_of

ONE = (*TINY, "hardware=[mid_tablet]", "trainer.candidates=1", "trainer.steps=2")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: Path) -> Cli:
    draw_nothing(monkeypatch)
    return console(SEARCH, monkeypatch, capsys, runs.parent, f"paths.runs={runs}")


# Data


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "image_folder"])
def test_a_data_folder_that_is_missing_or_empty_is_refused(search: Cli, runs: Path, tmp_path: Path, name: str) -> None:
    place = tmp_path / "data"
    for _ in range(2):
        refused_search(search(*TINY, f"data={name}", f"paths.data={place}"), runs, str(place))
        place.mkdir(exist_ok=True)
    assert not runs.exists()


def test_a_run_folder_that_cannot_be_written_is_refused(search: Cli, runs: Path) -> None:
    runs.write_text("a file where a folder should be")
    refused(search(*TINY), "espalier-search", str(runs), "paths.runs")


# Budgets


def status_of(runs: Path) -> dict[str, Any]:
    [path] = runs.rglob("status.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_budgets_that_no_network_meets_are_refused_with_what_is_reachable(search: Cli, runs: Path) -> None:
    impossible = [f"hardware.iot_terminal.budgets.{metric}=1e-6" for metric in ("latency_ms", "peak_memory_mb")]
    arguments = (*TINY, *impossible, "hardware.mid_tablet.budgets.gflops=0.0009")
    found = search(*arguments)
    all_named = ("mid_tablet: gflops", "iot_terminal: ", "latency_ms: the smallest", "peak_memory_mb: the smallest")
    refused_search(found, runs, *all_named)
    number = re.search(r"needs ([\d.]+) GFLOPs .*, budget 0\.0009 \(([\d.]+)x\)", found[2])
    assert number
    assert float(number[1]) / 0.0009 == pytest.approx(float(number[2]), abs=0.01)
    assert "epoch" not in found[1]
    status = status_of(runs)
    assert status["status"] == "infeasible"
    assert status["error"] in found[2]
    refused_search(search(*arguments), runs, status["error"], "known since")
    assert status_of(runs) == status  # no other attempt


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
    assert "1/1 devices within budget" in output


# Ends


def test_a_sweep_leaves_a_run_folder_for_each_job_and_is_not_run_again(search: Cli, runs: Path) -> None:
    code, _, errors = search(*ONE, "-m", "trainer.batch_size=5000,16", "sweep=two")  # more than there are images
    assert code == 2 and "trainer.batch_size" in errors
    [finished] = (path.parent for path in runs.rglob("result.json"))
    assert sorted(state_of(path.parent).state for path in runs.rglob("status.json")) == ["done", "refused"]
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    assert list(Path.cwd().iterdir()) == [] and {path.name for path in runs.rglob("*.log")} == {"run.log"}
    code, output, _ = search(*ONE, "sweep=two")
    assert code == 0 and str(finished) in output and "epoch" not in output
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"} == before


@pytest.mark.parametrize(
    "too_much",
    [("optimizer.lr=1e30", "trainer.clip_norm=1e30"), ("optimizer.lr=1e10",), ("arch_optimizer.lr=1e38",)],
    ids=["weights", "an epoch's end", "architecture"],
)
def test_what_is_no_number_any_more_ends_the_search_with_what_to_lower_and_a_report(
    search: Cli, runs: Path, too_much: tuple[str, ...]
) -> None:
    found = search(*TINY, *too_much)
    refused(found, "espalier-search", f"lower {too_much[0].partition('=')[0]}", code=1)
    assert "could not be written" not in found[1]
    assert {path.name for path in runs.rglob("re*.*")} == {"report.html"}
    status = status_of(runs)
    assert status["status"] == "failed" and status["error"] in found[2]
    assert next(runs.rglob("run.log")).read_text(encoding="utf-8").count("Traceback") == 1


def test_a_budget_that_the_recount_breaks_for_every_network_ends_with_3(
    search: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dearer(module: Any, shape: Any) -> Recount:
        counted = recount(module, shape)
        return replace(counted, gflops=counted.gflops + 10)

    monkeypatch.setattr(trainers.search.certificate, "recount", dearer)
    code, output, _ = search(*ONE, "trainer.max_cuts=3")
    assert code == 3
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
    code, output, _ = search(*ONE, "trainer.max_cuts=3")
    assert code == 3 and "epoch" not in output


def test_ctrl_c_ends_a_search_with_its_code_and_leaves_it_interrupted(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    arguments = ["espalier-search", f"paths.runs={runs}", *ONE, "trainer.steps=1000000"]
    process = forked(arguments, errors=tmp_path / "errors")
    try:
        while not list(runs.rglob("metrics.csv")) and not os.waitpid(process, os.WNOHANG)[0]:
            time.sleep(0.05)
        os.kill(process, signal.SIGINT)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    except BaseException:
        os.kill(process, signal.SIGKILL)
        raise
    errors = (tmp_path / "errors").read_text(encoding="utf-8")
    assert code == 130, errors
    assert f"  {shlex.join(arguments)}\n" in errors
    assert "Traceback" not in errors
    assert status_of(runs)["status"] == "interrupted"


def forked(arguments: list[str], *, errors: Path) -> int:
    """Number of a process that runs the command; it shares this one's imports and so starts fast."""
    torch.set_num_threads(1)  # those of the parent are not there, and waiting for them would not end
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell that starts jobs in the background has them ignore it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        sys.stderr = open(errors, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
        sys.argv = arguments
        GlobalHydra.instance().clear()
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def test_a_signal_while_networks_are_chosen_ends_a_search_as_one_while_training_does(
    search: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

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
    assert "  espalier-search " in capsys.readouterr().err  # the command that continues
    assert status_of(runs)["status"] == "interrupted"


@pytest.mark.parametrize(("seconds", "codes"), [(60.0, []), (-1.0, [143])], ids=["handing over", "waiting"])
def test_a_process_of_jobs_that_is_signalled_hands_over_its_result_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, seconds: float, codes: list[int]
) -> None:
    # Torn by the second SIGTERM of a sweep that was interrupted, a result kept joblib waiting for ever.
    monkeypatch.setattr(trainers.cli.main, "HANDOVER_SECONDS", seconds)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with trainers.cli.main._signals_end_the_job():
            pass
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended == codes
