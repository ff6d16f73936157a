"""What of the machine makes measured times uncertain: reported before they are taken, and at the end."""

from itertools import count
from pathlib import Path

import pytest
from console import MEASURE, Cli, console, done

import trainers.devices.measurement
from hardware_models.measuring import runner
from hardware_models.measuring.measure import Machine, Measurement
from hardware_models.measuring.measurements import read_measurements

GIVEN = ("space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=8", "warmup=1", "repeats=3")


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(MEASURE, monkeypatch, capsys, tmp_path)


def take(monkeypatch: pytest.MonkeyPatch, slower: float = 1.0) -> None:
    """Makes up times, each so many times the one before."""
    calls = count()

    def measured(*subject: object, threads: int, machine: Machine, **settings: object) -> Measurement:
        ms = slower ** next(calls)
        return Measurement(ms, ms, ms, 3, threads, "onnxruntime", machine.versions, machine.description)

    monkeypatch.setattr(trainers.devices.measurement, "time_module", measured)


@pytest.mark.parametrize(("slower", "drifts"), [(1.0, False), (1.02, True)])
def test_a_speed_that_drifts_is_reported_at_the_end(
    measure: Cli, monkeypatch: pytest.MonkeyPatch, slower: float, drifts: bool
) -> None:
    """Each of twelve networks takes 2 % longer than the one before: the first three then 1.02 ** 12 times as long."""
    take(monkeypatch, slower)
    output = done(measure(*GIVEN, "networks=12"))
    (line,) = [line for line in output.splitlines() if "times as long as before" in line]
    assert f"{slower**12:.3g} times" in line
    assert line.startswith("warning") == drifts
    assert len(read_measurements(Path("bench.csv")).rows) == 12


@pytest.mark.parametrize(
    ("load", "governor", "num"), [(0.1, "", 0), (0.1, "performance", 0), (0.9, "", 1), (2.0, "powersave", 2)]
)
def test_a_busy_machine_and_a_clock_that_varies_are_reported_first(
    measure: Cli, monkeypatch: pytest.MonkeyPatch, load: float, governor: str, num: int
) -> None:
    take(monkeypatch)
    monkeypatch.setattr(runner, "load", lambda: load)
    monkeypatch.setattr(runner, "governor", lambda: governor)
    output = done(measure(*GIVEN, "networks=2"))
    assert sum(line.startswith("warning") for line in output.splitlines()) == num
