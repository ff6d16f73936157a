"""Hostile command lines and files: a message that names the key or the field, never a traceback, nothing elsewhere."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from console import SEARCH, Cli, Found, Result, console
from fuzzed_lines import FLAGS, FUZZ, PATHS, composed_by, key_of, leaves, lines, names, near_misses, quoted
from hydra._internal.hydra import Hydra
from hypothesis import given, settings
from surroundings import Surroundings, surround
from tiny_search import TINY

import trainers.cli.search
from trainers.runs.config import SearchConfig
from trainers.search.plan import prepare

SMALL = "hardware=[iot_terminal]"  # a configuration that is quick to compose
DEFAULT = composed_by("search", SMALL)
AROUND = [path for path in PATHS if not path.startswith(("/", "~", "con/"))]  # what they lead to is seen by the tests
SEARCHED = 8
LINES = lines(DEFAULT, flags=("-m", "-m", *FLAGS))


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Surroundings:
    return surround(monkeypatch, tmp_path)


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], around: Surroundings) -> Cli:
    # Hydra composes the configuration once more to read hydra.mode, which is not set: a third of the time of a command.
    monkeypatch.setattr(Hydra, "get_mode", lambda *arguments, **more: None)
    return console(SEARCH, monkeypatch, capsys, around.folder, SMALL)


def told(result: Result, line: list[str], around: Surroundings) -> int:
    """The exit code, after a look at the message and at all that is there besides the runs."""
    code, _, errors = result
    assert code in (0, 2), errors
    assert "Traceback" not in errors
    assert (code == 0) == (errors == "")
    assert code == 0 or (errors.startswith("espalier-search: ") and names(errors, line)), errors
    assert around.strays(around.folder / "runs") == []
    return code


def test_any_command_line_is_refused_by_name_or_understood_and_touches_nothing_else(
    search: Cli, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The configuration is whole and checked; what a search would build of it is the next test's.
    monkeypatch.setattr(trainers.cli.search, "run_search", lambda config, report, *, command: Found())
    codes: Counter[int] = Counter()

    @settings(FUZZ, max_examples=1000)
    @given(line=LINES)
    def each(line: list[str]) -> None:
        runs = [f"paths.runs={around.folder}/runs"] if "-m" in line else []
        codes[told(search(*line, *runs), line, around)] += 1

    each()
    assert codes.total() >= 1000
    assert min(codes[0], codes[2]) > 200


@pytest.mark.parametrize("override", ["+=", "=", "~=x", "++=1"])
@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
def test_an_override_without_a_key_is_refused(search: Cli, override: str, flags: list[str]) -> None:
    code, _, errors = search(*flags, override)
    assert code == 2
    assert f"{override!r}: names no key; write key=value" in errors


def test_any_value_is_refused_by_name_or_makes_a_search_that_could_begin(
    search: Cli, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(config: SearchConfig, report: Any, *, command: str) -> Found:
        prepare(config)
        return Found()

    monkeypatch.setattr(trainers.cli.search, "run_search", begin)
    codes: Counter[int] = Counter()

    @settings(FUZZ, max_examples=100)
    @given(argument=near_misses(DEFAULT))
    def each(argument: str) -> None:
        codes[told(search(argument), [argument], around)] += 1

    each()
    assert min(codes[0], codes[2]) > 5


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize("path", ["~/x", "runs/~/x", "~nobody_there/x", *AROUND], ids=lambda path: repr(path)[:20])
def test_a_path_is_refused_by_name_or_all_that_is_written_is_below_it(
    search: Cli, around: Surroundings, path: str, flags: list[str]
) -> None:
    # No network is so small, which a real search tells soon, in a run folder.
    code, _, errors = search(*flags, "hardware.iot_terminal.budgets.gflops=1e-9", f"paths.runs={quoted(path)}")
    assert code == 2 and "Traceback" not in errors
    assert "no network" in errors or "paths.runs" in errors or path[:100] in errors
    assert around.strays(Path(os.path.normpath(around.here / os.path.expanduser(path) / "search"))) == []


# What a search is given is real from here on.


def searched(result: Result, around: Surroundings) -> int:
    """The exit code of a search that has ended in one of the ways there are, and left nothing but its run folder."""
    code, _, errors = result
    assert code in (0, 1, 2, 3), errors
    assert "Traceback" not in errors and "fault of Espalier" not in errors, errors
    assert (code in (0, 3)) == (errors == ""), errors
    assert around.strays(around.folder / "runs") == []
    return code


def test_some_of_the_accepted_are_searched_to_their_end(search: Cli, around: Surroundings) -> None:
    ours = {key_of(argument) for argument in TINY}  # which keep it short
    numbers = {
        key: value
        for key, value in leaves(composed_by("search", *TINY)).items()
        if isinstance(value, int | float) and key not in ours
    }
    codes: Counter[int] = Counter()

    @settings(FUZZ, max_examples=40)
    @given(argument=near_misses(numbers))
    def each(argument: str) -> None:
        if codes[0] + codes[3] < SEARCHED:
            result = search(*TINY, argument, f"paths.runs={around.folder}/runs")
            codes[searched(result, around)] += 1

    each()
    assert codes[0] + codes[3] == SEARCHED


def test_a_script_leaves_nothing_but_its_run_folder(around: Surroundings) -> None:
    around.here.mkdir()
    script = Path(sys.executable).parent / "espalier-search"
    ended = subprocess.run(
        [script, *TINY, "-m", "seed=1", f"paths.runs={around.folder}/runs"],
        capture_output=True,
        text=True,
        cwd=around.here,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(list((around.folder / "runs").rglob("result.json"))) == 1
    assert around.strays(around.folder / "runs") == []


@pytest.mark.parametrize("argument", ["trainer.steps=1", "seed=4294967295", "paths.cache='$(touch pwned)'"])
def test_a_few_of_the_accepted_are_searched_to_their_end(search: Cli, around: Surroundings, argument: str) -> None:
    runs = around.folder / "runs" / "~x y;é"
    assert searched(search(*TINY, argument, f"paths.runs={quoted(str(runs))}"), around) == 0
    assert len(list(runs.rglob("result.json"))) == 1
