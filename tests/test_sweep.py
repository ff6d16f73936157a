"""Sweeps: what becomes of each job is known, whatever becomes of the others, and the same command does the rest."""

import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf
from joblib import cpu_count
from tiny_search import MOBILE, SHORT, tiny_config

from trainers.runs.state import RunState, state_of
from trainers.sweeps.records import read_sweep
from trainers.sweeps.survey import NEVER_BEGAN, exit_code, survey

pytestmark = pytest.mark.slow  # whole sweeps, in processes
COMMAND = Path(sys.executable).parent / "espalier-search"
STATUS = Path(sys.executable).parent / "espalier-status"
OWN = ("strategy.pool_size=32", "trainer.candidates=1")
TINY = (*MOBILE, *SHORT, *OWN)
LONGER = ("hardware=[iot_terminal]", "trainer.steps=9", "trainer.checkpoint_seconds=0")  # caught at work, and soon done


def start(*arguments: str, folder: Path, threads: str | None = "1") -> subprocess.Popen[str]:
    others = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    return subprocess.Popen(
        [COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=others if threads is None else {**others, "OMP_NUM_THREADS": threads},
        # A shell that starts jobs in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def at_work(run: Path, process: subprocess.Popen[str]) -> RunState:
    """The state of a run as soon as it is running."""
    while process.poll() is None:
        if (run / "status.json").exists():
            return state_of(run)
        time.sleep(0.02)
    raise AssertionError(process.communicate())


def files_of(run: Path) -> dict[str, int]:
    """When each file was last written."""
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.rglob("*") if path.suffix}


def run_folders(runs: Path, *overrides: str, seeds: int) -> list[Path]:
    return [tiny_config(runs, *MOBILE, *OWN, *overrides, f"seed={seed}").run_folder for seed in range(seeds)]


def test_a_sweep_whose_jobs_raise_and_are_killed_is_distinguished_and_finished_by_the_same_command(
    tmp_path: Path,
) -> None:
    folders = run_folders(tmp_path / "runs", "sweep=night", *LONGER, seeds=4)
    raising, killed, ended, *fine = folders
    command = (*TINY, *LONGER, "-m", "seed=range(4)", "sweep=night", "hydra/launcher=processes")
    raising.mkdir(parents=True)
    (raising / "weights").write_text("a file where the search makes a folder")
    process = start(*command, folder=tmp_path)
    try:
        killed_pid, ended_pid = at_work(killed, process).pid, at_work(ended, process).pid
        os.kill(killed_pid, signal.SIGKILL)
        os.kill(ended_pid, signal.SIGTERM)
        output, errors = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 1, errors
    assert "Traceback" not in errors

    states = {run: state_of(run) for run in folders}
    assert [states[run].state for run in folders] == ["failed", "interrupted", "interrupted", "done"]
    assert "weights" in (states[raising].reason or "")
    assert states[killed].reason == f"process {killed_pid} is gone: killed, or out of memory"
    assert "SIGTERM" in (states[ended].reason or "")
    assert "4 jobs: " in output
    assert "report  runs/night/report.html" in output, output
    reported = subprocess.run([STATUS, "runs/night"], cwd=tmp_path, capture_output=True, text=True)
    assert reported.returncode == 1, reported.stderr
    for run in (raising, killed, ended):
        [line] = [line for line in reported.stdout.splitlines() if line.startswith(run.name)]
        assert " ".join((states[run].reason or "").split()) in line
    assert "1 done" in reported.stdout
    assert reported.stdout.count("repeat  espalier-search ") == 1

    before = {run: files_of(run) for run in fine}
    (raising / "weights").unlink()
    again = start(*command, folder=tmp_path)
    output, errors = again.communicate()
    assert again.returncode == 0, errors
    assert [state_of(run).attempt for run in folders] == [2, 2, 2, 1]
    assert {run: files_of(run) for run in fine} == before
    rows, commands = survey(tmp_path / "runs" / "night")
    assert [row.state for row in rows] == ["done"] * 4
    assert (exit_code(rows), commands) == (0, [])
    report = (tmp_path / "runs" / "night" / "report.html").read_text(encoding="utf-8")
    assert [run.name for run in folders if run.name not in report] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_a_sweep_in_two_processes_interrupts_its_jobs_and_names_the_command(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    two = ("sweep=two", "trainer.steps=100000")
    running = run_folders(tmp_path / "runs", *two, seeds=2)
    command = (*TINY, *two, "-m", "seed=range(3)", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = start(*command, folder=tmp_path, threads=None)
    try:
        for run in running:
            worker = at_work(run, process).pid
        given = dict(part.partition("=")[::2] for part in Path(f"/proc/{worker}/environ").read_text().split("\0"))
        process.send_signal(number)
        _, errors = process.communicate()
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert f"interrupted; the same command continues:\n  {shlex.join(['espalier-search', *command])}\n" in errors
    assert [state_of(run).state for run in running] == ["interrupted", "interrupted"]
    sweep = read_sweep(tmp_path / "runs" / "two")
    assert sweep is not None
    rows, commands = survey(tmp_path / "runs" / "two")
    assert sorted(row.state for row in rows) == ["interrupted", "interrupted", NEVER_BEGAN]
    assert commands == [sweep.command]
    assert given["OMP_NUM_THREADS"] == str(max(1, cpu_count() // 2))  # which torch obeys: jobs share the cores


def test_a_job_in_a_process_of_its_own_may_take_longer_than_the_hour_that_submitit_gives_it() -> None:
    arguments = (COMMAND, "--cfg", "hydra", "--package", "hydra.launcher", "hydra/launcher=processes")
    shown = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    ours = yaml.safe_load(shown)
    assert ours == {**asdict(LocalQueueConf()), "timeout_min": ours["timeout_min"]}
    assert ours["timeout_min"] > 100 * 24 * 60
