"""Odd command lines, drawn: refused in words or understood, never a traceback, and nothing written elsewhere."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from console import CALIBRATE, EXPORT, MEASURE, PRICE, RETRAIN, SEARCH, TUNE, App, Cli, Found, console
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from surroundings import Surroundings, clear_environment, surround
from tiny_search import TINY, composed

import trainers.cli.search
import trainers.devices.calibrate
import trainers.devices.measurement
import trainers.reports.export
from trainers.cli.overrides import key_of, quoted
from trainers.devices.calibrate_input import checked_candidates, checked_measurements
from trainers.devices.measure_plan import plan

FUZZ = settings(
    deadline=None,
    derandomize=True,  # the same lines on every machine and day
    database=None,
    phases=[Phase.generate],  # lines are short as they are
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CELLS = ("space=nasbench201", "space.width=4", "space.num_cells=1", "space.image_size=8")
SAMPLE = next((Path(__file__).parents[1] / "notebooks/sample/host").iterdir())
CELL = 'arch="|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"'
SMALL = "hardware=[iot_terminal]"  # a configuration that is quick to compose
ALWAYS = {  # what a script is given before the line that is drawn, and how many lines
    SEARCH: ((SMALL,), 300),
    TUNE: ((SMALL, "seed=1,2", "trials=1"), 40),
    MEASURE: ((*CELLS, "networks=2"), 100),
    CALIBRATE: ((*CELLS, "propose=2"), 100),
    EXPORT: ((f"run={SAMPLE}",), 100),
    RETRAIN: ((*CELLS, "data.limit=300", CELL), 100),
    PRICE: ((*CELLS, SMALL, CELL), 100),
}
OTHER_KEYS = (
    *(
        "trainer.stepz",
        "hardware.pixel99.budgets.gflops",
        "a.b.c",
        "0",
        "é",
        "space",
        "hardware",
        "experiment",
        "debug",
    ),
    *(
        "hydra.run.dir",
        "hydra.sweep.dir",
        "hydra.job.env_set.HOME",
        "hydra.callbacks.sweep._target_",
        "hydra/callbacks",
    ),
)
PATHS = ("../../x", "/elsewhere_of_espalier/x", "~nobody_there/x", "$(touch pwned)", "a\nb", ".", "..", "", "a\x1b[2J")
NUMBERS = (-1, 0, 1, 2, 3, 7, 1e-300, 0.5, 1.5, -0.0, 1e300, 2**31, 2**63, 2**64, 10**30)
VALUES = st.one_of(
    st.sampled_from(PATHS).map(quoted),
    st.sampled_from(NUMBERS).map(str),
    st.sampled_from(
        ["1e400", "nan", "inf", "true", "null", "'1'", "many", "[]", "{}", "[1,[2,{a:b}]]", "[", "{a:", "'"]
    ),
    st.sampled_from(
        ["a'b", "???", "a,b", "${seed}", "${nope}", "${oc.env:NOT_SET}", "choice(1", "range(3)", "glob(*)"]
    ),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=20),
)


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Surroundings:
    clear_environment(monkeypatch)
    return surround(monkeypatch, tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], around: Surroundings) -> Cli:
    return console(SEARCH, monkeypatch, capsys, around.folder)


def leaves(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a configuration with its dotted key, sections too."""
    for key, value in content.items():
        yield f"{above}{key}", value
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{key}.")


@st.composite
def arguments(draw: st.DrawFn, defaults: dict[str, str | None]) -> str:
    """Any key with any value, or its default. Sections are alike likely: a device has more keys than all the rest."""
    section = draw(st.sampled_from(sorted({key.partition(".")[0] for key in defaults})))
    key = draw(st.sampled_from([key for key in defaults if key.partition(".")[0] == section]))
    default = defaults[key]
    if default is not None and draw(st.booleans()):
        return f"{key}={default}"
    prefix = draw(st.sampled_from(["", "", "", "", "+", "++", "~"]))
    return f"{prefix}{key}={draw(VALUES)}"


def as_written(value: Any) -> str | None:
    """A value as it stands on a command line, if it is one alone."""
    if isinstance(value, str):
        return quoted(value)
    return None if isinstance(value, dict | list) else yaml.safe_dump(value).split("\n")[0]


@pytest.mark.slow
@pytest.mark.parametrize("app", ALWAYS, ids=lambda app: app.name)
def test_any_line_is_refused_in_words_or_understood_and_touches_nothing_else(
    run: Cli, around: Surroundings, monkeypatch: pytest.MonkeyPatch, app: App
) -> None:
    # The configuration is whole and checked; what is searched, measured or fitted is the subject of other tests.
    monkeypatch.setattr(trainers.cli.search, "run_identified", lambda *given, **more: Found())
    monkeypatch.setattr(trainers.devices.measurement, "run_measure", lambda config, report: plan(config))
    monkeypatch.setattr("trainers.deploy.retrain.retrain", lambda *given, **more: Found())
    monkeypatch.setattr(trainers.devices.calibrate, "run_calibrate", lambda c, report: checked_measurements(c))
    monkeypatch.setattr(trainers.devices.calibrate, "run_propose", lambda c, report: checked_candidates(c))
    monkeypatch.setattr(trainers.reports.export, "run_export", lambda config, report, *, command: Found())
    monkeypatch.setattr("trainers.devices.calibrate_input.RANDOM_CANDIDATES", 20)
    always, number = ALWAYS[app]
    groups = [argument for argument in always if argument.partition("=")[0] in ("space", "hardware")]
    runs, codes, searches = around.folder / "runs", Counter[int](), app in (SEARCH, TUNE, RETRAIN)
    whole = leaves(composed(*groups, app=app.config))
    defaults = {key: as_written(value) for key, value in whole if key != "trials"}  # of as many as they say
    defaults |= dict.fromkeys(OTHER_KEYS)

    @settings(FUZZ, max_examples=number)
    @given(line=st.lists(arguments(defaults), min_size=1, max_size=2), flags=st.sampled_from([[], [], [], ["-m"]]))
    def each(line: list[str], flags: list[str]) -> None:
        own = [*flags, f"paths.runs={runs}"] if searches else []
        code, _, errors = run(*always, *line, *own, app=app)
        assert code in (0, 2) and "Traceback" not in errors and "internal error" not in errors, (line, errors)
        assert (code == 0) == (errors == ""), (line, errors)
        assert around.strays(runs) == [], line
        shutil.rmtree(runs, ignore_errors=True)  # a study goes on with what it was begun with
        codes[code] += 1

    each()
    assert codes[0] and codes[2]


@pytest.mark.slow
def test_some_of_the_accepted_are_searched_to_their_end(run: Cli, around: Surroundings) -> None:
    tiny = (*TINY, SMALL, "trainer.candidates=1", "trainer.steps=2")
    ours = {key_of(argument) for argument in tiny}  # which keep it short
    keys = [key for key, value in leaves(composed(*tiny)) if isinstance(value, int | float) and key not in ours]
    searched: Counter[int] = Counter()

    @settings(FUZZ, max_examples=25)
    @given(key=st.sampled_from(keys), number=st.sampled_from(NUMBERS))
    def each(key: str, number: float) -> None:
        if searched[0] + searched[3] < 5:
            code, _, errors = run(*tiny, f"{key}={number}", f"paths.runs={around.folder}/runs")
            assert code in (0, 1, 2, 3) and "Traceback" not in errors and "internal error" not in errors, errors
            assert around.strays(around.folder / "runs") == []
            searched[code] += 1

    each()
    assert searched[0]


@pytest.mark.parametrize("path", ["~/x", "runs/~/x", *(path for path in PATHS if path[:1] != "/")], ids=repr)
def test_a_path_is_refused_or_all_that_is_written_is_below_it(run: Cli, around: Surroundings, path: str) -> None:
    # No network is so small, which a real search says soon, in a run folder.
    code, _, errors = run(SMALL, "hardware.iot_terminal.budgets.gflops=1e-9", f"paths.runs={quoted(path)}")
    assert code == 2 and "Traceback" not in errors
    assert around.strays(Path(os.path.normpath(around.here / os.path.expanduser(path) / "search"))) == []
