"""Hostile command lines of other scripts: refused in words or understood, and nothing written that was not asked."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from console import CALIBRATE, MEASURE, SEARCH, TUNE, App, Cli, Found, Result, console
from fuzzed_lines import FLAGS, FUZZ, PATHS, composed_by, key_of, lines, names
from hydra._internal.hydra import Hydra
from hypothesis import given, settings
from hypothesis import strategies as st
from surroundings import Surroundings, surround

import trainers.cli.search
import trainers.devices.calibrate
import trainers.devices.measurement
from trainers.cli import dashboard_command as dashboard
from trainers.cli import report_command as report
from trainers.cli import status
from trainers.devices.calibrate_input import checked_candidates, checked_measurements
from trainers.devices.measure_plan import plan

SAMPLE = Path(__file__).resolve().parents[1] / "notebooks" / "sample"
LINES, STUDIES = 150, 60  # of each script; a study takes longer
CELLS = ("space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=8")
STUDY = ("hardware=[iot_terminal]", "seed=1,2", "trials=1")
OBJECTIVE = {"validation_accuracy": 0.5, "utilisation": 0.5, "seconds": 1.0}


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Surroundings:
    return surround(monkeypatch, tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], around: Surroundings) -> Cli:
    # Hydra composes the configuration once more to read hydra.mode, which is not set: a third of the time of a command.
    monkeypatch.setattr(Hydra, "get_mode", lambda *arguments, **more: None)
    return console(SEARCH, monkeypatch, capsys, around.folder)


def told(result: Result, name: str, line: list[str]) -> int:
    """The exit code of a command that has been understood, or has said in words what it refuses."""
    code, _, errors = result
    assert code in (0, 2), errors
    assert "Traceback" not in errors
    assert (code == 0) == (errors == ""), errors
    assert code == 0 or (errors.startswith(f"{name}: ") and names(errors, line)), errors
    return code


def understood(
    app: App,
    call: Callable[[list[str]], Result],
    drawn: st.SearchStrategy[list[str]],
    *always: str,
    number: int = LINES,
) -> Counter[int]:
    """The exit codes of the command for lines that are drawn, told with what is `always` said before."""
    codes: Counter[int] = Counter()

    @settings(FUZZ, max_examples=number)
    @given(line=drawn)
    def each(line: list[str]) -> None:
        codes[told(call(line), app.name, [*always, *line])] += 1

    each()
    return codes


def test_any_line_of_a_study_is_refused_by_name_or_understood(
    run: Cli, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A search takes seconds; the study around it is real.
    monkeypatch.setattr(trainers.cli.search, "run_search", lambda *given, **more: Found(objective=OBJECTIVE))
    runs = around.folder / "runs"

    def call(line: list[str]) -> Result:
        result = run(*STUDY, *line, f"paths.runs={runs}", app=TUNE)
        assert around.strays(runs) == []
        shutil.rmtree(runs, ignore_errors=True)  # a study goes on with what it was begun with
        return result

    # Of as many trials as they say, which takes as long.
    drawn = lines(composed_by("tune", STUDY[0]), flags=(*FLAGS, "-m")).filter(
        lambda line: not any(key_of(argument) == "trials" for argument in line)
    )
    codes = understood(TUNE, call, drawn, *STUDY, number=STUDIES)
    assert codes[0] and codes[2] > 10


def test_any_line_of_a_measurement_is_refused_by_name_or_understood(
    run: Cli, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What there would be to measure; measuring is another test's.
    monkeypatch.setattr(trainers.devices.measurement, "run_measure", lambda config, report: plan(config))

    def call(line: list[str]) -> Result:
        result = run(*CELLS, "networks=2", *line, app=MEASURE)
        assert around.strays() == []
        return result

    codes = understood(MEASURE, call, lines(composed_by("measure", *CELLS)), *CELLS)
    assert codes[0] and codes[2] > 20


def test_any_line_of_a_calibration_is_refused_by_name_or_understood(
    run: Cli, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What there would be to fit, or to choose from.
    monkeypatch.setattr(
        trainers.devices.calibrate, "run_calibrate", lambda config, report: checked_measurements(config)
    )
    monkeypatch.setattr(trainers.devices.calibrate, "run_propose", lambda config, report: checked_candidates(config))
    monkeypatch.setattr("trainers.devices.calibrate_input.RANDOM_CANDIDATES", 20)
    bench = around.folder / "bench"
    shutil.copytree(SAMPLE, bench, ignore=shutil.ignore_patterns("*.json", "*.html"))
    modes = st.sampled_from([[*CELLS, "propose=2"], [f"measurements={bench}/networks.csv", "name=phone"]])

    def call(line: list[str]) -> Result:
        result = run(*line, app=CALIBRATE)
        assert around.strays(bench) == []
        return result

    drawn = st.tuples(modes, lines(composed_by("calibrate", *CELLS))).map(lambda parts: [*parts[0], *parts[1]])
    codes = understood(CALIBRATE, call, drawn)
    assert codes[0] and codes[2] > 20


# Scripts of words and not of keys

OURS = [path for path in PATHS if "\x00" not in path]  # which no argument of a process can hold
WORDS = st.sampled_from(OURS) | st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=9
)


def words(*known: str) -> st.SearchStrategy[list[str]]:
    """Up to four arguments, most of them those that the script knows."""
    return st.lists(st.one_of(st.sampled_from(known), st.sampled_from(known), WORDS), max_size=4)


@pytest.fixture
def runs(around: Surroundings) -> Path:
    """Two sweeps: a whole one, and one with a torn file and an empty folder; and a file that is none of a run."""
    around.here.mkdir()
    folder = around.here / "runs"
    shutil.copytree(SAMPLE / "host", folder / "whole")
    one = next((folder / "whole").glob("*/status.json")).parent
    shutil.copytree(one, folder / "torn" / one.name)
    (folder / "torn" / one.name / "result.json").write_bytes(b'{"status": "do')
    (folder / "torn" / "empty").mkdir()
    (folder / "torn" / "a file").write_text("x")
    return folder


def ended(
    main: Callable[[], Any],
    name: str,
    line: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Result:
    monkeypatch.setattr(sys, "argv", [name, *line])
    with pytest.raises(SystemExit) as end:
        main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def folders(runs: Path) -> list[str]:
    return [".", "runs", *(f"runs/{path.relative_to(runs)}" for path in sorted(runs.rglob("*")) if path.is_dir())]


@pytest.mark.parametrize(
    ("name", "main", "flag", "codes"),
    [
        ("espalier-status", status.main, "--json", {0, 1, 2, 3, 4}),
        ("espalier-report", report.main, "verify", {0, 1, 2}),
    ],
)
def test_any_words_about_runs_are_refused_or_answered(
    runs: Path,
    around: Surroundings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    main: Callable[[], None],
    flag: str,
    codes: set[int],
) -> None:
    monkeypatch.chdir(around.here)
    found: Counter[int] = Counter()
    known = folders(runs)
    one = st.sampled_from(known).flatmap(lambda name: st.sampled_from([[name], [flag, name]]))

    @settings(FUZZ, max_examples=LINES)
    @given(line=one | words(flag, "--help", "--", *known))
    def each(line: list[str]) -> None:
        code, output, errors = ended(main, name, line, monkeypatch, capsys)
        assert code in codes and "Traceback" not in errors
        assert (f"{name}: " in errors) == (not output), errors
        assert code != 0 or output
        found[code] += 1

    each()
    assert around.strays(runs) == []
    assert {path.name for path in runs.rglob("*.html")} <= {"report.html"}
    assert found[2] > 20 and found.total() - found[2] > 5  # no line is drawn twice


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydantic", "ignore::DeprecationWarning:wandb_workspaces")
def test_any_words_about_a_dashboard_are_refused_or_answered(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    around.here.mkdir()
    monkeypatch.chdir(around.here)
    known = (
        "build",
        "build",
        "push",
        "me/espalier",
        "--devices=pixel6",
        "--metrics=latency_ms,x",
        "--output=d.json",
        "--help",
    )
    right = ("--devices=pixel6,host", "--metrics=gflops", "--output=d.json")
    found: Counter[int] = Counter()

    @settings(FUZZ, max_examples=LINES)
    @given(line=words(*known) | st.lists(st.sampled_from(right), max_size=3).map(lambda more: ["build", *more]))
    def each(line: list[str]) -> None:
        code, _, errors = ended(dashboard.main, "espalier-dashboard", line, monkeypatch, capsys)
        assert code in (0, 2) and "Traceback" not in errors
        assert ("espalier-dashboard" in errors) == (code == 2), errors
        found[code] += 1

    each()
    assert around.strays(around.here / "d.json") == []
    assert min(found[0], found[2]) > 20
