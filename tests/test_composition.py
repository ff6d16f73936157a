"""Command lines that make no configuration: Hydra stops at the first thing that is wrong, and all of them are told."""

from pathlib import Path
from typing import Any

import pytest
from console import CALIBRATE, CONF, MEASURE, SEARCH, TUNE, App, Cli, complaints, console
from tiny_search import TINY

from trainers.cli.composition import wrong_in_all
from trainers.runs.validation import refusal

DEVICES = ", ".join(sorted(path.stem for path in (CONF / "hardware").glob("*.yaml")))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(SEARCH, monkeypatch, capsys, tmp_path)


def wrong(command: Cli, *arguments: str, app: App = SEARCH) -> set[str]:
    """What is told of a command line, up to what is allowed instead."""
    return {line.partition(" allowed")[0].partition("; Input")[0] for line in complaints(command(*arguments, app=app))}


@pytest.mark.parametrize("flags", [(), ("-m",)], ids=["run", "sweep"])
def test_unknown_choices_and_keys_and_wrong_values_are_told_at_once(command: Cli, flags: tuple[str, ...]) -> None:
    arguments = ("trainer.stepz=3", "trainer.batch_size=-1", "space=mobil", "hardware=[pixel99,host]", "sede=3")
    assert wrong(command, *arguments, "seed=-1", *flags) == {
        "trainer.stepz: no such key; did you mean trainer.steps?",
        "trainer.batch_size: got -1",
        "space: no such choice: space/mobil; did you mean mobile?",
        "hardware: no such choice: hardware/pixel99; did you mean pixel6 or pixel4?",
        "sede: no such key; did you mean seed or sweep?",
        "seed: got -1",
    }
    assert list(Path.cwd().rglob("*.json")) == []


def test_a_device_that_there_is_not_is_told_with_those_there_are(command: Cli, tmp_path: Path) -> None:
    code, _, errors = command("hardware=[pixel99]")
    assert code == 2
    assert errors.endswith(f"allowed: {DEVICES}\n")
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "pixel98.yaml").write_text("# @package hardware.pixel98\n{}\n")
    code, _, errors = command("--config-dir", str(tmp_path), "hardware=[pixel99]")
    assert "did you mean pixel98" in errors
    # It is there also for what is looked at next, and may be wrong itself.
    assert wrong(command, "--config-dir", str(tmp_path), "hardware=[pixel98]", "sede=3", "margin=lower") >= {
        "sede: no such key; did you mean seed or sweep?",
        "margin: got 'lower'",
    }


def test_what_is_allowed_in_place_of_several_names_is_told_once(command: Cli) -> None:
    code, _, errors = command("hardware=[pixel99,xxx,host,yyy]", "trainer.xxx=1", "trainer.stepz=2", "xxx=1", "yyy=2")
    assert (code, errors.count(f" allowed: {DEVICES}\n"), errors.count(" allowed"), errors.count(";\n")) == (2, 1, 3, 0)
    assert sorted(line.partition(" allowed")[0].strip("; ") for line in errors.splitlines()[1:]) == [
        "hardware: no such choice: hardware/pixel99; did you mean pixel6 or pixel4?",
        "hardware: no such choice: hardware/xxx",
        "hardware: no such choice: hardware/yyy",
        "trainer.stepz: no such key; did you mean trainer.steps?",
        "trainer.xxx: no such key",
        "xxx: no such key",
        "yyy: no such key",
    ]


def test_what_is_set_inside_an_unknown_choice_is_not_held_against_another(command: Cli) -> None:
    assert wrong(command, "space=resnet", "space.depths=[50]", "space.bottleneck=true", "seed=-1") == {
        "space: no such choice: space/resnet;",
        "seed: got -1",
    }


def test_an_override_that_cannot_be_read_hides_no_other(command: Cli) -> None:
    found = wrong(command, *TINY, "trainer.steps=[1", "nope=1", "seed=-2")
    assert {"nope: no such key;", "seed: got -2"} < found
    assert [line for line in found if line.startswith("trainer.steps: got '[1', which cannot be read")] != []


def test_a_value_that_cannot_be_read_is_told_in_one_line_that_names_the_key(command: Cli) -> None:
    code, _, errors = command("tags=[\x01]")
    assert code == 2
    assert errors == "espalier-search: tags: got '[\\x01]', which cannot be read; quote it, as 'tags=\"...\"'\n"


def test_in_a_sweep_the_first_job_is_looked_at(command: Cli) -> None:
    assert wrong(command, "-m", "trainer.stepz=3", "seed=-1,2", "strategy.pool_size=range(2,9)") == {
        "trainer.stepz: no such key; did you mean trainer.steps?",
        "seed: got -1",
        "strategy.pool_size: got 2",
    }


@pytest.mark.parametrize(
    ("app", "arguments", "told"),
    [
        (MEASURE, ("thread=3", "repeats=-2"), {"thread: no such key; did you mean threads?", "repeats: got -2"}),
        (CALIBRATE, ("levl=1", "threads=-2"), {"levl: no such key; did you mean level?", "threads: got -2"}),
        (TUNE, ("trialz=3", "seed=-1"), {"trialz: no such key; did you mean trial or trials?", "seed: got -1"}),
    ],
    ids=lambda value: value.name if isinstance(value, App) else "",
)
def test_every_command_tells_all_at_once(command: Cli, app: App, arguments: tuple[str, ...], told: set[str]) -> None:
    assert wrong(command, *arguments, app=app) >= told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("~hardware", "seed=x", "bogus=1"), {"bogus: no such key;", "seed: got 'x'"}),
        (("trainer=null", "seed=x", "bogus=1"), {"bogus: no such key;", "seed: got 'x'"}),
        (("hardware@foo=[mid_tablet]", "seed=x"), {"seed: got 'x'"}),
        (
            ("seed=${nope}", "margin=foo", "trainer.steps=-1"),
            {"seed: Interpolation key 'nope' not found", "margin: got 'foo'", "trainer.steps: got -1"},
        ),
        (("seed=x", "boards={nobody:{host:h}}"), {"seed: got 'x'", "boards.nobody: no such device"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_else_is_wrong_is_told_beside_any_error(command: Cli, arguments: tuple[str, ...], told: set[str]) -> None:
    found = wrong(command, *arguments)
    assert {each for each in told if not any(line.startswith(each) for line in found)} == set(), found


def test_a_sweep_over_no_value_hides_no_other_mistake(command: Cli) -> None:
    assert "seed: got -1" in wrong(command, "-m", "sede=glob(*)", "seed=-1", "margn=x")


def test_a_study_and_its_searches_are_checked_at_once(command: Cli) -> None:
    study = ("trials=0", "study=x.txt", "objectives=[zzz]", "jobs=x", "seed=-1", "sede=3")
    found = wrong(command, *study, app=TUNE)
    assert {line.partition(":")[0] for line in found} == {"trials", "objectives", "jobs", "seed", "sede"}
    found = wrong(command, "study=x.txt", "trials=9", "seed=-1,-2", "margin=foo", app=TUNE)
    assert {line.partition(":")[0] for line in found} == {"study", "seed", "margin"}


@pytest.mark.parametrize(
    ("app", "arguments", "keys"),
    [
        (MEASURE, ("architecture=nope*.json", "output=/tmp/x.txt"), {"architecture", "output"}),
        (MEASURE, ("threads=0", "limit=3", "networks=2", "space=mobile"), {"threads", "limit"}),
        (MEASURE, ("architecture=[]",), {"architecture"}),
        (CALIBRATE, ("threads=0", "measurements=m.csv", "name=pixel6"), {"threads", "name"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_between_values_is_told_beside_those_of_another_kind(
    command: Cli, app: App, arguments: tuple[str, ...], keys: set[str]
) -> None:
    told = [line.strip() for line in command(*arguments, app=app)[2].splitlines()[1:]]
    assert sorted(line.partition(":")[0] for line in told) == sorted(keys)


@pytest.mark.parametrize(
    ("jobs", "told", "looked_at"),
    [
        ([["seed: got -1", "a: x"], ["seed: got -2", "a: x"]], ["seed: got -1", "a: x", "seed: got -2"], 2),
        ([["seed: got -1", "a: x"], ["b: y", "a: x"]], ["a: x"], 2),
        ([["a: x"], ["b: y"]], [], 2),
        ([["a: x"], [], ["a: x"]], [], 2),
        ([[], ["a: x"]], [], 1),
    ],
)
def test_what_is_wrong_with_all_jobs_is_told_by_its_key_and_none_is_looked_at_after_a_right_one(
    jobs: list[list[str]], told: list[str], looked_at: int
) -> None:
    seen: list[dict[str, Any]] = []

    def check(job: dict[str, Any]) -> None:
        seen.append(job)
        if job["wrong"]:
            raise refusal(job["wrong"])

    assert wrong_in_all(({"wrong": wrong} for wrong in jobs), check) == told
    assert len(seen) == looked_at
