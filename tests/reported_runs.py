"""Run folders for tests of reports: real searches, and copies of them that ended otherwise."""

import json
import shutil
import socket
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from markupsafe import Markup

from hardware_models.measuring.measure import Measurement, versions
from tests.sample_result import SAMPLE
from tests.tiny_search import MOBILE, tiny_config
from trainers.cli.search import run_search
from trainers.reports import run_view, sweep_view

COMMAND = "espalier-search -m 'seed=range(2)' sweep=tiny"
KEPT: list[TemporaryDirectory[str]] = []  # until the tests end
RESULT_FILES = ("result.json", "lineage.json", "alphas.npz", "architectures", "weights", "report.html")


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leaves out the plots of reports, which take most of their time."""
    patch.setattr(run_view, "plots", lambda run: defaultdict(Markup))
    patch.setattr(sweep_view, "pictures", lambda sweep: {"pareto": []})


def sampled(runs: Path, *, seed: int = 0) -> Path:
    """The folder, in a sweep in `runs`, of a finished search of the sample, on this machine; weights are empty."""
    (found,) = (SAMPLE / "strategies").glob(f"mobile-pool-seed{seed}-*")
    copy = Path(shutil.copytree(found, runs / "tiny" / found.name))
    change(copy / "status.json", command=COMMAND, host=socket.gethostname())
    (copy / "weights").mkdir()
    for path in (copy / "architectures").iterdir():
        (copy / "weights" / f"{path.stem}.safetensors").touch()
    return copy


def searched(runs: Path, *overrides: str) -> Path:
    """The folder, in `runs`, of a finished search of a few seconds and two epochs; each is made once and copied."""
    made = _made(overrides)
    return Path(shutil.copytree(made, runs / made.parent.name / made.name))


@cache
def _made(overrides: tuple[str, ...]) -> Path:
    folder = TemporaryDirectory(prefix="espalier-runs-")
    KEPT.append(folder)
    config = tiny_config(Path(folder.name), *MOBILE, "strategy.pool_size=32", "trainer.steps=12", *overrides)
    run_search(config, lambda line: None, command=COMMAND)
    return config.run_folder


def ended(run: Path, name: str, state: str, *, error: str | None, epoch: int = 1, **more: Any) -> Path:
    """A copy of a finished run beside it, as one that ended before it had a result."""
    copy = run.parent / name
    shutil.copytree(run, copy)
    for file in ("prune.csv", "metrics.csv", *RESULT_FILES) if state == "infeasible" else RESULT_FILES:
        shutil.rmtree(copy / file, ignore_errors=True)
        (copy / file).unlink(missing_ok=True)
    status = json.loads((copy / "status.json").read_text())
    progress = {"epoch": epoch, "epochs": 9}
    change(copy / "status.json", **{**status, "status": state, "error": error, "progress": progress, **more})
    return copy


def measured(latency_ms: float) -> dict[str, Any]:
    """A measurement of a device, as a result has it."""
    found = Measurement(latency_ms, latency_ms, latency_ms, 50, 1, "onnxruntime", versions(), "a machine")
    return {"latency_ms": latency_ms, **asdict(found)}


def unmet(run: Path, name: str) -> Path:
    """A copy of a finished run whose second device is over its latency budget by a measurement."""
    copy = run.parent / name
    shutil.copytree(run, copy)
    result = json.loads((copy / "result.json").read_text())
    device = result["devices"]["iot_terminal"]
    budget = device["budgets"]["latency_ms"] = device["predicted"]["latency_ms"]
    device["measured"] = measured(1.25 * budget)
    device["held"]["latency_ms"], device["held_by"]["latency_ms"] = 1.25 * budget, "measured"
    device["utilisation"]["latency_ms"] = 1.25
    device |= {"met": False, "refuted_by": "latency_ms", "binding": "latency_ms"}
    change(copy / "result.json", **{**result, "status": "unmet"})
    change(copy / "status.json", status="unmet")
    return copy


def change(path: Path, **fields: Any) -> None:
    """Replaces fields of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **fields}, indent=2), encoding="utf-8")


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes a JSON file as `change` does its content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def set_field(run: Path, field: str, value: Any) -> None:
    """Changes one field of result.json."""
    content = json.loads((run / "result.json").read_text())
    *way, last = field.split(".")
    place = content
    for key in way:
        place = place[key]
    assert place[last] != value
    place[last] = value
    (run / "result.json").write_text(json.dumps(content))


def every_state(run: Path) -> dict[str, Path]:
    """A run of each state but `done` and `unmet`, beside a finished one."""
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")  # however slow the tests are
    return {
        "interrupted": ended(run, "interrupted", "interrupted", error="ended by SIGTERM"),
        "failed": ended(run, "failed", "failed", error='ValueError: <b>no</b> & "nothing"'),
        "stopped": ended(run, "stopped", "stopped", error="the study stopped trial 7: val/acc 0.1 is below the median"),
        "killed": ended(run, "killed", "running", error=None, pid=2**22 + 1),  # above the largest process id
        "running": ended(run, "running", "running", error=None, host="elsewhere", heartbeat=later),
        "queued": ended(run, "queued", "queued", error=None, progress=None),
        "infeasible": ended(run, "infeasible", "infeasible", error="the fastest needs 0.1 ms", progress=None),
    }
