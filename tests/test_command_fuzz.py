"""Hostile command lines, drawn: refused in words or understood, never a traceback, and nothing written elsewhere."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from console import CALIBRATE, MEASURE, SEARCH, TUNE, App, Cli, Found, console
from fuzzed_lines import FLAGS, FUZZ, PATHS, composed_by, key_of, leaves, lines, near_misses, quoted
from hypothesis import given, settings
from hypothesis import strategies as st
from surroundings import Surroundings, clear_environment, surround
from tiny_search import TINY

import trainers.cli.search
import trainers.devices.calibrate
import trainers.devices.measurement
from trainers.cli import report_command, status
from trainers.devices.calibrate_input import checked_candidates, checked_measurements
from trainers.devices.measure_plan import plan

SAMPLE = Path(__file__).resolve().parents[1] / "notebooks" / "sample"
CELLS = ("space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=8")
SMALL = "hardware=[iot_terminal]"  # a configuration that is quick to compose
AROUND = [path for path in PATHS if not path.startswith(("/", "~", "con/"))]  # what they lead to is seen by the tests
ALWAYS = {  # what a script is given before the line that is drawn, and how many lines
    SEARCH: ((SMALL,), 500),
    TUNE: ((SMALL, "seed=1,2", "trials=1"), 60),
    MEASURE: ((*CELLS, "networks=2"), 150),
    CALIBRATE: ((*CELLS, "propose=2"), 150),
}


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Surroundings:
    clear_environment(monkeypatch)
    return surround(monkeypatch, tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], around: Surroundings) -> Cli:
    return console(SEARCH, monkeypatch, capsys, around.folder)


@pytest.mark.slow
@pytest.mark.parametrize("app", ALWAYS, ids=lambda app: app.name)
def test_any_line_is_refused_in_words_or_understood_and_touches_nothing_else(
    run: Cli, around: Surroundings, monkeypatch: pytest.MonkeyPatch, app: App
) -> None:
    # The configuration is whole and checked; what is searched, measured or fitted is the subject of other tests.
    monkeypatch.setattr(trainers.cli.search, "run_search", lambda *given, **more: Found())
    monkeypatch.setattr(trainers.devices.measurement, "run_measure", lambda config, report: plan(config))
    monkeypatch.setattr(trainers.devices.calibrate, "run_calibrate", lambda c, report: checked_measurements(c))
    monkeypatch.setattr(trainers.devices.calibrate, "run_propose", lambda c, report: checked_candidates(c))
    monkeypatch.setattr("trainers.devices.calibrate_input.RANDOM_CANDIDATES", 20)
    always, number = ALWAYS[app]
    groups = [argument for argument in always if argument.partition("=")[0] in ("space", "hardware")]
    runs, codes = around.folder / "runs", Counter[int]()
    searches = app in (SEARCH, TUNE)

    @settings(FUZZ, max_examples=number)
    @given(line=lines(composed_by(app.config, *groups), flags=("-m", *FLAGS) if searches else FLAGS))
    def each(line: list[str]) -> None:
        if any(key_of(argument) == "trials" for argument in line):  # of as many as they say, which takes as long
            return
        code, _, errors = run(*always, *line, *([f"paths.runs={runs}"] if searches else []), app=app)
        assert code in (0, 2) and "Traceback" not in errors and "internal error" not in errors, (line, errors)
        assert (code == 0) == (errors == ""), (line, errors)
        assert around.strays(runs) == [], line
        shutil.rmtree(runs, ignore_errors=True)  # a study goes on with what it was begun with
        codes[code] += 1

    each()
    assert codes[0] and codes[2]


@pytest.mark.slow
def test_some_of_the_accepted_are_searched_to_their_end(run: Cli, around: Surroundings) -> None:
    ours = {key_of(argument) for argument in TINY}  # which keep it short
    numbers = {
        key: value
        for key, value in leaves(composed_by("search", *TINY)).items()
        if isinstance(value, int | float) and key not in ours
    }
    searched: Counter[int] = Counter()

    @settings(FUZZ, max_examples=25)
    @given(argument=near_misses(numbers))
    def each(argument: str) -> None:
        if searched[0] + searched[3] < 8:
            code, _, errors = run(*TINY, argument, f"paths.runs={around.folder}/runs")
            assert code in (0, 1, 2, 3) and "Traceback" not in errors and "internal error" not in errors, errors
            assert around.strays(around.folder / "runs") == []
            searched[code] += 1

    each()
    assert searched[0]


@pytest.mark.parametrize("flags", [(), ("-m",)], ids=["run", "sweep"])
@pytest.mark.parametrize("path", ["~/x", "runs/~/x", "~nobody_there/x", *AROUND], ids=lambda path: repr(path)[:20])
def test_a_path_is_refused_or_all_that_is_written_is_below_it(
    run: Cli, around: Surroundings, path: str, flags: tuple[str, ...]
) -> None:
    # No network is so small, which a real search says soon, in a run folder.
    code, _, errors = run(*flags, SMALL, "hardware.iot_terminal.budgets.gflops=1e-9", f"paths.runs={quoted(path)}")
    assert code == 2 and "Traceback" not in errors
    assert around.strays(Path(os.path.normpath(around.here / os.path.expanduser(path) / "search"))) == []


# Scripts of words and not of keys


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "main", "flag"),
    [("espalier-status", status.main, "--json"), ("espalier-report", report_command.main, "verify")],
)
def test_any_words_about_runs_are_refused_or_answered(
    around: Surroundings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    main: Callable[[], Any],
    flag: str,
) -> None:
    around.here.mkdir()
    monkeypatch.chdir(around.here)
    runs = around.here / "runs"
    shutil.copytree(SAMPLE / "host", runs / "whole")
    one = next((runs / "whole").glob("*/status.json")).parent
    shutil.copytree(one, runs / "torn" / one.name)
    (runs / "torn" / one.name / "result.json").write_bytes(b'{"status": "do')
    (runs / "torn" / "empty").mkdir()
    known = [".", "runs", *(f"runs/{path.relative_to(runs)}" for path in sorted(runs.rglob("*")) if path.is_dir())]
    one_of = st.sampled_from(known).flatmap(lambda place: st.sampled_from([[place], [flag, place]]))
    others = st.sampled_from([flag, "--help", "--", *known, *(path for path in PATHS if "\x00" not in path)])
    found: Counter[int] = Counter()

    @settings(FUZZ, max_examples=100)
    @given(line=one_of | st.lists(others, max_size=4))
    def each(line: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", [name, *line])
        with pytest.raises(SystemExit) as end:
            main()
        code, captured = int(end.value.code or 0), capsys.readouterr()
        assert code in range(5) and "Traceback" not in captured.err
        assert captured.out or captured.err, line
        found[code] += 1

    each()
    assert around.strays(runs) == []
    assert found[2] and found.total() > found[2]
