"""Reports of many devices, epochs and runs are small enough to be sent by mail."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.report_marks import assert_true_to_files, parsed
from tests.reported_runs import sampled
from trainers.reports.report import write_report

LARGEST = 500_000  # bytes of a report


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sampled(tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [3, 9])
def test_a_report_of_several_devices_and_200_epochs_is_small(done: Path, tmp_path: Path, num_devices: int) -> None:
    run = Path(shutil.copytree(done, tmp_path / "long", ignore=shutil.ignore_patterns("weights")))
    added = [f"another_device_{number}" for number in range(2, num_devices)]
    lengthen(run, added, num_epochs=200, num_choices=199)
    page = write_report(run)
    assert_true_to_files(page.read_text(encoding="utf-8"), run)
    assert page.stat().st_size <= LARGEST


def lengthen(run: Path, added: Sequence[str], *, num_epochs: int, num_choices: int) -> None:
    """Makes a run longer and wider: more devices, so many epochs, so many choices of 71 decisions."""
    result = json.loads((run / "result.json").read_text())
    for device in added:
        for named in (result["devices"], result["search"]["choices_alive"], result["search"]["worst_surviving_share"]):
            named[device] = named["mid_tablet"]
        of_one = {key: value for key, value in result["objective"].items() if key.startswith("mid_tablet/")}
        result["objective"] |= {key.replace("mid_tablet", device): value for key, value in of_one.items()}
        shutil.copy(run / "architectures" / "mid_tablet.json", run / "architectures" / f"{device}.json")
    rows = 4 * result["devices"]["mid_tablet"]["candidates"]
    for content in result["devices"].values():
        content |= {"candidates": rows[:10], "random_candidates": rows[:10]}
    one = result["transfer"]["mid_tablet"]["mid_tablet"]
    transfer = {network: dict.fromkeys(result["devices"], one) for network in result["devices"]}
    (run / "result.json").write_text(json.dumps({**result, "transfer": transfer}))
    header, line = (run / "metrics.csv").read_text().splitlines()[:2]
    pairs = dict(zip(header.split(","), line.split(","), strict=True))
    of_one = {name: value for name, value in pairs.items() if "mid_tablet" in name}
    pairs |= {name.replace("mid_tablet", device): value for device in added for name, value in of_one.items()}
    generator = np.random.default_rng(0)
    lines = [",".join(pairs)]
    for epoch in range(1, num_epochs + 1):
        jittered = {k: repr(float(v) * generator.uniform(0.8, 1.2)) if v else v for k, v in pairs.items()}
        lines.append(",".join({**jittered, "epoch": str(epoch), "step": str(10 * epoch)}.values()))
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    np.savez(
        run / "alphas.npz",
        epoch=np.arange(1, num_epochs + 1),
        step=10 * np.arange(1, num_epochs + 1),
        weights=generator.uniform(size=(num_epochs, len(result["devices"]), num_choices)).astype(np.float32),
        device=np.array(list(result["devices"])),
        decision=np.array([f"stage{i * 71 // num_choices}.block.kernel" for i in range(num_choices)]),
        choice=np.array([str(i) for i in range(num_choices)]),
    )


@pytest.mark.slow
def test_a_report_of_a_sweep_of_30_runs_is_small(done: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for number in range(30):
        copy = sweep / f"mobile-pool-seed{number}-0123abcd"
        shutil.copytree(done, copy, ignore=shutil.ignore_patterns("weights"))
        config = yaml.safe_load((copy / "config.yaml").read_text())
        config |= {"seed": number % 3, "strategy": {"name": "pool", "pool_size": 32 + number // 3}}
        (copy / "config.yaml").write_text(yaml.safe_dump(config))
    path = write_report(sweep)
    parsed(path.read_text(encoding="utf-8"))
    assert path.stat().st_size <= LARGEST
