"""What all tests share: one thread for each process; what must be there; a disk easily filled."""

import gc
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Before torch is imported: threads that wait for a processor that another process has take ten times as long. Where
# more are asked for, they sleep while they wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

VARIABLE = "ESPALIER_REQUIRE"  # of the environment: those of NEEDS whose tests may not be skipped, with commas between
# What tests are skipped without, and what the reason then says. Those of Debian's packages are named by the package.
NEEDS = {
    "postgresql": "postgresql",
    "chromium": "chromium",
    "sshd": "openssh-server",
    "bash": "bash",
    "mount": "no right to mount",
    "data": "ESPALIER_DATA",
}


def required() -> list[str]:
    """The names in the variable. Raises: pytest.UsageError for one that is unknown."""
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    unknown = [name for name in names if name not in NEEDS]
    if unknown:
        raise pytest.UsageError(f"{VARIABLE}: got {', '.join(unknown)}; allowed: {', '.join(NEEDS)}")
    return names


def pytest_configure() -> None:
    required()  # at once, and not in each test


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported stays: to look through it for garbage takes a sixth of all time


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is skipped for want of what must be there has failed."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[-1].removeprefix("Skipped: ")
        missing = [name for name in required() if NEEDS[name] in reason]
        if missing:
            report.outcome = "failed"
            report.longrepr = f"{VARIABLE} names {', '.join(missing)}, but this test was to be skipped: {reason}"
    return report


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is easily filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)
