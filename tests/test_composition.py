"""Command lines that make no configuration: refused in one message that names the key."""

from pathlib import Path
from typing import Any

import pytest
from console import CALIBRATE, MEASURE, SEARCH, TUNE, App, Cli, console
from tiny_search import TINY

from search_spaces.errors import keys_of
from trainers.cli.composition import wrong_in_all
from trainers.runs.validation import refusal


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(SEARCH, monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize("flags", [(), ("-m",)], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("app", "argument", "key", "meant"),
    [
        (SEARCH, "trainer.stepz=3", "trainer.stepz", "steps"),
        (SEARCH, "+trainer.stepz=3", "trainer.stepz", ""),
        (SEARCH, "sede=3", "sede", "seed"),
        (SEARCH, "space=mobil", "space", "mobile"),
        (SEARCH, "hardware=[pixel99,host]", "hardware", "pixel6"),
        (SEARCH, "hardware.pixel99.budgets.gflops=1", "hardware.pixel99", "mid_tablet"),
        (SEARCH, "trainer.steps=[", "trainer.steps", ""),
        (SEARCH, "tags=[\x01]", "tags", ""),
        (SEARCH, "seed=${nope}", "seed", ""),
        (TUNE, "trialz=3", "trialz", "trials"),
        (MEASURE, "thread=3", "thread", "threads"),
        (CALIBRATE, "levl=1", "levl", "level"),
    ],
    ids=lambda value: value.name if isinstance(value, App) else str(value),
)
def test_a_command_line_that_makes_no_configuration_is_refused_by_its_key(
    command: Cli, app: App, argument: str, key: str, meant: str, flags: tuple[str, ...]
) -> None:
    if flags and app in (MEASURE, CALIBRATE):
        flags = ()
    code, _, errors = command(*TINY if app is SEARCH else (), argument, *flags, app=app)
    assert (code, "Traceback" in errors) == (2, False), errors
    assert key in keys_of(errors.removeprefix(f"{app.name}: ")), errors
    assert meant in errors
    assert list(Path.cwd().rglob("*.json")) == []


def test_a_study_and_its_searches_are_checked_at_once(command: Cli) -> None:
    arguments = ("trials=0", "study=x.txt", "objectives=[zzz]", "jobs=x", "seed=-1", "margin=foo")
    code, _, errors = command(*arguments, app=TUNE)
    assert (code, set(keys_of(errors.partition("\n")[2]))) == (2, {"trials", "objectives", "jobs", "seed", "margin"}), (
        errors
    )


@pytest.mark.parametrize(
    ("jobs", "found", "looked_at"),
    [
        ([["seed: got -1", "a: x"], ["seed: got -2", "a: x"]], ["seed: got -1", "a: x", "seed: got -2"], 2),
        ([["seed: got -1", "a: x"], ["b: y", "a: x"]], ["a: x"], 2),
        ([["a: x"], ["b: y"]], [], 2),
        ([["a: x"], [], ["a: x"]], [], 2),
    ],
)
def test_what_is_wrong_with_all_jobs_is_found_by_its_key_and_none_is_looked_at_after_a_right_one(
    jobs: list[list[str]], found: list[str], looked_at: int
) -> None:
    seen: list[dict[str, Any]] = []

    def check(job: dict[str, Any]) -> None:
        seen.append(job)
        if job["wrong"]:
            raise refusal(job["wrong"])

    assert wrong_in_all(({"wrong": wrong} for wrong in jobs), check) == found
    assert len(seen) == looked_at
