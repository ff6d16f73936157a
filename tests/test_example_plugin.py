"""The example package, built and installed beside Espalier in a fresh environment, and used as its users would."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from tiny_search import SHORT

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "tests" / "example_plugin"
SEARCH = (
    *("espalier-search", "space=ladder", "space.width=8", "data=stripes", "relaxation=softmax", "logger=text"),
    *(each for each in SHORT if not each.startswith(("data.", "trainer.steps", "trainer.candidates"))),
    *("trainer.steps=80", "trainer.checkpoint_seconds=0", "strategy.pool_size=32", "hardware=[mid_tablet]"),
    "trainer.candidates=1",
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees the packages of this one, Espalier and the example installed as wheels."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # Each folder is added as Python adds it here: what is editable here stays out, for its .pth files are not read.
    seen = [path for path in map(Path, sys.path) if path.name == "site-packages"]
    (site / "seen.pth").write_text("".join(f"{path}\n" for path in seen), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", f"--python={folder}/bin/python", "install", "--quiet", "--no-index"]
    for package in (ROOT, EXAMPLE):
        flags = ["--no-deps", "--no-build-isolation", "--force-reinstall", "--disable-pip-version-check"]
        subprocess.run([*pip, *flags, package], check=True)
    return folder


def run(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = {"PATH": f"{environment}/bin:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    name, *arguments = command
    return subprocess.run(
        [environment / "bin" / name, *arguments],
        cwd=folder,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_an_installed_package_is_searched_killed_resumed_reported_and_verified(
    environment: Path, tmp_path: Path
) -> None:
    search = subprocess.Popen([environment / "bin" / SEARCH[0], *SEARCH[1:]], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while search.poll() is None and not list(tmp_path.glob("runs/search/*/checkpoints/*")):
        time.sleep(0.05)
    search.send_signal(signal.SIGKILL)
    assert search.wait() == -signal.SIGKILL
    (folder,) = tmp_path.glob("runs/search/*")
    assert not (folder / "result.json").exists()

    resumed = run(environment, tmp_path, *SEARCH)
    assert resumed.returncode == 0 and "resumed" in resumed.stdout, resumed.stderr
    result = json.loads((folder / "result.json").read_bytes())
    assert (result["attempts"], result["data"]["name"]) == (2, "stripes")
    assert result["code"]["plugins"]["espalier_example"]["version"] == "0.3.0"
    assert result["earlier_code"] == []
    for command in (["espalier-report", str(folder)], ["espalier-report", "verify", str(folder)]):
        ended = run(environment, tmp_path, *command)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_contracts_of_the_installed_space_hold(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "test_contracts.py").write_bytes((EXAMPLE / "contracts.py").read_bytes())
    ended = run(environment, tmp_path, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_contracts.py")
    assert ended.returncode == 0, ended.stdout
