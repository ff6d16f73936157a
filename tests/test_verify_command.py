"""`espalier-report verify` as a command: what it refuses, and a line for each run of a sweep."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reported_runs import COMMAND, ended, searched, set_field
from trainers.cli.report_command import run as espalier_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return searched(tmp_path_factory.mktemp("runs"), "seed=0")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to change."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))


def test_a_run_without_a_result_is_refused_with_the_command_that_ends_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(finished, tmp_path / finished.name)
    folder = ended(Path(copy), "interrupted", "interrupted", error="ended by SIGTERM")
    assert espalier_report(["verify", str(folder)]) == 2
    assert COMMAND in capsys.readouterr().err


def test_help_answers_without_torch() -> None:
    code = (
        "import sys; from trainers.cli.report_command import run\n"
        "try: run(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'jinja2', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "espalier-report verify runs/" in done.stdout and "Exit codes" in done.stdout


def test_each_run_of_a_sweep_is_checked_in_a_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = run.parent
    altered = Path(shutil.copytree(run, sweep / "altered"))
    set_field(altered, "devices.mid_tablet.met", False)
    ended(run, "interrupted", "interrupted", error="ended by SIGTERM")
    assert espalier_report(["verify", str(sweep)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("altered  ") and " 0 failed" not in lines[0]
    faults = [line for line in lines if line.startswith("FAILED")]
    assert faults == lines[1 : 1 + len(faults)] and any("mid_tablet" in line for line in faults)
    assert any(line.startswith("interrupted  not verified: ") for line in lines)
    assert any(line.startswith(f"{run.name}  ") and " 0 failed" in line for line in lines)
    assert lines[-1] == "1 of 3 runs are as told"
    shutil.rmtree(altered)
    assert espalier_report(["verify", str(sweep)]) == 0
    assert espalier_report(["verify", str(run / "weights")]) == 2
