"""Each line of jobs that print to one terminal says whose it is; a command says at once what it is."""

from pathlib import Path

import pytest
from console import imported_by
from omegaconf import OmegaConf

from trainers.cli.command import lines_of, say, tell
from trainers.cli.owners import owner_of
from trainers.cli.search_command import asked
from trainers.sweeps import sweep
from trainers.sweeps.records import Job


def test_every_line_of_a_job_begins_with_whose_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with lines_of("seed=1", shared=True):
        tell("epoch 1/2\n  mid_tablet  max 0.99x")
        tell("")
        say("espalier-search", "refused\n  seed: got -1")
    tell("4 jobs: 4 done")
    output, errors = capsys.readouterr()
    assert output.splitlines() == [
        "[seed=1] epoch 1/2",
        "[seed=1]   mid_tablet  max 0.99x",
        "[seed=1]",
        "4 jobs: 4 done",
    ]
    assert errors.splitlines() == ["[seed=1] espalier-search: refused", "[seed=1]   seed: got -1"]


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(sweep.VARIABLE, "")
    monkeypatch.delenv(sweep.VARIABLE)
    return tmp_path / "night"


def begin(folder: Path, *jobs: str, command: str = "espalier-search -m") -> None:
    listed = [Job(overrides=job.split(), folder=f"key{number}") for number, job in enumerate(jobs)]
    sweep.begin_sweep(folder, command=command, launcher="joblib", jobs=listed)


def test_a_job_is_named_by_the_overrides_that_not_all_jobs_have(swept: Path) -> None:
    jobs = ["seed=0 strategy=pool margin=point", "seed=1 strategy=dual margin=point"]
    begin(swept, *jobs)
    none = OmegaConf.create({"trial": None})
    assert [owner_of(none, job.split()) for job in jobs] == ["seed=0 strategy=pool", "seed=1 strategy=dual"]


def test_long_overrides_are_cut(swept: Path) -> None:
    key = "hardware.mid_tablet.budgets.latency_ms"
    jobs = [f"{key}={n} seed=1" for n in (10, 20)]
    begin(swept, *jobs)
    owner = owner_of({"trial": None}, jobs[1].split())
    assert owner is not None and len(owner) <= 40 and owner.endswith("latency_ms=20")


def test_a_trial_is_named_by_its_number_and_without_a_pruner_by_what_was_chosen_for_it(swept: Path) -> None:
    begin(swept, command="espalier-tune trials=3 margin=point 'optimizer.lr=interval(0,1)'")
    assert owner_of({"trial": {"number": 3}}, ["margin=point", "optimizer.lr=0.25"]) == "trial 3"
    assert owner_of({"trial": None}, ["trials=3", "margin=point", "optimizer.lr=0.25"]) == "optimizer.lr=0.25"


def test_a_job_alone_has_the_terminal_to_itself(swept: Path) -> None:
    assert owner_of({"trial": None}, ["seed=0"]) is None
    begin(swept, "seed=0")
    assert owner_of({"trial": None}, ["seed=0"]) is None


# The banner


def test_what_is_asked_is_said_of_any_configuration_for_nothing_of_it_is_checked() -> None:
    content = {
        **{"space": {"name": "mobile"}, "data": {"name": "digits"}, "strategy": {"name": "pool"}, "seed": 3},
        **{"hardware": {"pixel6": {}, "mid_tablet": {}}, "paths": {"runs": "runs"}, "sweep": "night"},
    }
    words = asked(content).split(" · ")
    assert words == ["space mobile", "data digits", "pixel6, mid_tablet", "strategy pool", "seed 3", "in runs/night"]
    assert asked(dict.fromkeys(content, 5)).count("5") >= 6


@pytest.mark.parametrize("arguments", [("seed=3", "trainer.steps=0"), ("-m", "seed=3,4", "trainer.steps=0")])
def test_a_command_says_first_and_once_what_it_is(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, output, _ = imported_by("search_command", *arguments, folder=tmp_path)
    lines = output.splitlines()
    assert code == 2
    assert lines[0].startswith("espalier-search ") and "seed=3" in lines[0]
    assert len(lines) == 2 and lines[1].startswith("sweep runs/search" if "-m" in arguments else "space mobile")


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job"), ("-sc", "install=bash"), ("--info", "defaults")])
def test_answers_have_no_banner(arguments: tuple[str, ...], tmp_path: Path) -> None:
    _, output, _ = imported_by("search_command", *arguments, folder=tmp_path)
    assert output and not output.startswith("espalier-search ")
