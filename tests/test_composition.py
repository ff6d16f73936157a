"""Command lines that make no configuration: refused in one message that names the key."""

from pathlib import Path
from typing import Any

import pytest
from console import CALIBRATE, COMPARE, EXPORT, MEASURE, PRICE, RETRAIN, SEARCH, TUNE, App, Cli, console, refused
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tiny_search import TINY

from trainers.cli.composition import wrong_in_all
from trainers.cli.overrides import quoted
from trainers.runs.validation import refusal


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    return console(SEARCH, monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize(
    ("app", "arguments", "key", "meant"),
    [
        (SEARCH, ("trainer.stepz=3",), "trainer.stepz", "steps"),
        (SEARCH, ("+trainer.stepz=3",), "trainer.stepz", ""),
        (SEARCH, ("space=mobil",), "space", "mobile"),
        (SEARCH, ("hardware=[pixel99,host]", "-m"), "hardware", "pixel6"),
        (SEARCH, ("hardware.pixel99.budgets.gflops=1",), "hardware.pixel99", "mid_tablet"),
        (SEARCH, ("trainer.steps=[",), "trainer.steps", ""),
        (SEARCH, ("seed=${nope}", "-m"), "seed", ""),
        (SEARCH, ("--config-name=../../x",), "--config-name", "--config-dir"),
        (SEARCH, ("--config-dir=nowhere",), "--config-dir", "nowhere"),
        (SEARCH, ("hydra.run.dir=x",), "hydra.run.dir", "paths.runs"),
        (SEARCH, ("hydra.searchpath=[file://.]",), "hydra.searchpath", ""),
        (TUNE, ("trialz=3",), "trialz", "trials"),
        (COMPARE, ("seedz=3",), "seedz", "seeds"),
        (MEASURE, ("thread=3",), "thread", "threads"),
        (CALIBRATE, ("levl=1",), "levl", "level"),
        (EXPORT, ("limits.accuracy_dropp=1",), "limits.accuracy_dropp", "accuracy_drop"),
        (PRICE, ("arh=x",), "arh", "arch"),
        (RETRAIN, ("epoch=3",), "epoch", "epochs"),
    ],
    ids=lambda value: value.name if isinstance(value, App) else str(value),
)
def test_a_command_line_that_makes_no_configuration_is_refused_by_its_key(
    command: Cli, app: App, arguments: tuple[str, ...], key: str, meant: str
) -> None:
    found = command(*TINY if app is SEARCH else (), *arguments, app=app)
    refused(found, app.name, f"{key}: ", meant)
    assert list(Path.cwd().iterdir()) == []


def test_each_part_of_a_strategy_is_chosen_by_its_group(command: Cli) -> None:
    parts = ("relaxation=straight_through", "constraint=dual", "sampler=logits", "searcher=random")
    refused(command(*TINY, *parts, "trainer.steps=0"), "espalier-search", "trainer.steps")


def test_a_study_and_its_searches_are_checked_at_once(command: Cli) -> None:
    wrong = ("trials=0", "study=x.txt", "objectives=[zzz]", "jobs=x", "seed=-1", "margin=foo")
    keys = refused(command(*wrong, app=TUNE), "espalier-tune")
    assert set(keys) == {"trials", "objectives", "jobs", "seed", "margin"}


@pytest.mark.parametrize(
    ("jobs", "found", "looked_at"),
    [
        ([["seed: got -1", "a: x"], ["seed: got -2", "a: x"]], ["seed: got -1", "a: x", "seed: got -2"], 2),
        ([["seed: got -1", "a: x"], ["b: y", "a: x"]], ["a: x"], 2),
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


@pytest.mark.parametrize("text", ["", "null", "it's", "\\", "\\'", "a\\\\'b\\", "${seed}", "\\\\'${a", "[1,{b:2}]"])
def test_a_text_in_quotes_means_these_very_characters(text: str) -> None:
    override = OverridesParser.create().parse_override(f"key={{texts:[{quoted(text)}],more:1}}")
    assert OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True) == {
        "key": {"texts": [text], "more": 1}
    }
