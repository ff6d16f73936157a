"""A finished run or sweep is shown again without importing what searches, and only if it is what is asked."""

import json
import shutil
from pathlib import Path

import pytest
from console import HEAVY, imported_by
from tiny_search import MOBILE, SHORT, composed, tiny_config

from trainers.cli.search import run_search
from trainers.cli.search_command import finished
from trainers.reports.report import write_report
from trainers.runs.config import validate
from trainers.search.finished import finished_config, finished_result
from trainers.search.identification import identified
from trainers.sweeps.records import Job
from trainers.sweeps.sweep import begin_sweep, end_sweep

SEARCH = (*MOBILE, *SHORT, "strategy.pool_size=32", "trainer.steps=2", "hardware=[iot_terminal]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs in `runs/two`, as a sweep leaves them."""
    runs = tmp_path_factory.mktemp("finished") / "runs"
    configs = [tiny_config(runs, *SEARCH, "sweep=two", f"seed={seed}") for seed in range(2)]
    for config in configs:
        run_search(config, lambda line: None)
    given = [*SEARCH, f"paths.runs={runs}", "sweep=two"]
    jobs = [Job(overrides=[*given, f"seed={seed}"], folder=c.run_folder.name) for seed, c in enumerate(configs)]
    begin_sweep(runs / "two", command="espalier-search", launcher="joblib", jobs=jobs)
    end_sweep()
    write_report(runs / "two")
    return runs


def times_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("sweep", [(), ("-m", "hydra/launcher=joblib")], ids=["run", "sweep"])
def test_what_is_finished_is_shown_without_torch_and_nothing_is_written(
    runs: Path, tmp_path: Path, sweep: tuple[str, ...]
) -> None:
    before = times_of(runs)
    seed = "seed=range(2)" if sweep else "seed=1"
    code, output, packages = imported_by(
        "search_command", *SEARCH, f"paths.runs={runs}", "sweep=two", seed, *sweep, folder=tmp_path
    )
    assert (code, packages & {*HEAVY, "sklearn", "jinja2"}) == (0, set()), output
    owners = ["[seed=0] ", "[seed=1] "] if sweep else [""]
    shown = [line for line in output.splitlines() if "finished already: " in line]
    assert [line.partition("this search")[0] for line in shown] == owners
    assert output.splitlines()[0].startswith("espalier-search ")
    assert times_of(runs) == before and list(tmp_path.iterdir()) == []


def test_it_is_the_run_that_a_search_would_find(runs: Path) -> None:
    content = composed(*SEARCH, f"paths.runs={runs}", "sweep=two", "seed=1")
    found = finished_config(validate(content))
    assert found is not None
    same = identified(validate(content))
    # Which accelerator `auto` is, only torch can say.
    trainer = found.trainer.model_copy(update={"accelerator": same.trainer.accelerator})
    assert found.run_key == same.run_key
    assert found.model_copy(update={"trainer": trainer}) == same
    result = finished_result(found)
    assert result is not None and result.seed == 1


@pytest.mark.parametrize("other", ["seed=2", "trainer.steps=3", "data.limit=399", "boards={iot_terminal:{host:pi}}"])
def test_another_search_is_not_finished(runs: Path, other: str) -> None:
    profile = ("hardware.iot_terminal.runtime=onnxruntime",) if "boards" in other else ()
    content = composed(*SEARCH, f"paths.runs={runs}", "sweep=two", "seed=1", *profile, other)
    assert finished_config(validate(content)) is None


def test_data_that_may_have_changed_are_read_again(runs: Path, tmp_path: Path) -> None:
    content = composed(*SEARCH, f"paths.runs={tmp_path}/runs", "sweep=two", "seed=1")
    shutil.copytree(runs / "two", tmp_path / "runs" / "two")
    assert finished_config(validate(content)) is not None
    [path] = (tmp_path / "runs" / "two").glob("*seed1*/status.json")
    status = json.loads(path.read_text(encoding="utf-8"))
    for data in ({**status["data"], "files": "0" * 64}, {**status["data"], "files": None}, None):
        path.write_text(json.dumps({**status, "data": data}), encoding="utf-8")
        assert finished_config(validate(content)) is None


@pytest.mark.parametrize("lost", ["report.html", "architectures/iot_terminal.json", "result.json"])
def test_a_run_that_has_lost_a_file_is_not_only_shown(runs: Path, tmp_path: Path, lost: str) -> None:
    shutil.copytree(runs / "two", tmp_path / "runs" / "two")
    config = tiny_config(tmp_path / "runs", *SEARCH, "sweep=two", "seed=1")
    assert finished_result(config) is not None
    (config.run_folder / lost).unlink()
    assert finished_result(config) is None


def test_a_run_that_is_to_be_logged_elsewhere_too_is_not_only_shown(runs: Path) -> None:
    logged, local = (tiny_config(runs, *SEARCH, "sweep=two", "seed=1", f"logger={name}") for name in ("csv", "local"))
    assert finished(logged) is None and finished(local) is not None
