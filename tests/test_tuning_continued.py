"""A study that is continued: what its trials depend on is as it was, or the command is refused before any trial."""

from pathlib import Path
from typing import Any

import pytest
from console import TUNE, Cli, console, done, refused
from tiny_search import TINY

import trainers.cli.search

OBJECTIVE = {"validation_accuracy": 0.5, "utilisation": 0.5}


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """`espalier-tune` whose searches are done as soon as they begin."""

    def run_search(*arguments: Any, **more: Any) -> dict[str, Any]:
        return {"status": "done", "objective": OBJECTIVE}

    monkeypatch.setattr(trainers.cli.search, "run_search", run_search)
    return console(TUNE, monkeypatch, capsys, tmp_path, f"paths.runs={tmp_path}/runs", *TINY, "pruner=none")


TABLE = ("hardware.iot_terminal.latency.model=table", "++hardware.iot_terminal.latency.file=table.csv")


@pytest.mark.parametrize(
    ("searched", "first", "then", "told"),
    [
        ("optimizer=sgd,adamw", "optimizer.lr=0.05", "optimizer.lr=0.5", "optimizer.lr: it has 0.05, now 0.5"),
        (
            "hardware=[mid_tablet],[iot_terminal]",
            "++hardware.iot_terminal.budgets.gflops=9",
            "++hardware.iot_terminal.budgets.gflops=8",
            "hardware.iot_terminal.budgets.gflops: it has 9, now 8",
        ),
        ("seed=1,2", "hardware=[mid_tablet,iot_terminal]", "hardware=[iot_terminal,mid_tablet]", "order of devices: "),
    ],
    ids=["inside a group", "inside a device", "the order of devices"],
)
def test_a_study_goes_on_with_the_values_it_was_begun_with_and_is_refused_with_others(
    tune: Cli, searched: str, first: str, then: str, told: str
) -> None:
    done(tune(searched, first, "trials=1"))
    assert "trial 1 (2/2)  done" in done(tune(searched, first, "trials=2"))
    found = tune(searched, then, "trials=3")
    refused(found, "espalier-tune", "cannot be continued with this:", f"\n  {told}")
    assert found[2].count(": it has ") == 1


def test_a_study_is_refused_once_a_look_up_table_of_its_devices_holds_something_else(tune: Cli) -> None:
    command = ("hardware=[iot_terminal],[iot_terminal,mid_tablet]", *TABLE)
    Path("table.csv").write_text("operation,latency_ms\n")
    done(tune(*command, "trials=1"))
    done(tune(*command, "trials=2"))
    Path("table.csv").write_text("operation,latency_ms\nadd,1\n")
    refused(tune(*command, "trials=3"), "espalier-tune", "\n  content of look-up tables: it has [")


def test_what_no_result_depends_on_may_change_between_the_commands_of_a_study(tune: Cli) -> None:
    done(tune("optimizer=sgd,adamw", "trials=1"))
    done(tune("optimizer=sgd,adamw", "trials=2", "trainer.threads=1", "logger=csv", "tags=[again]"))


def test_wrong_values_of_the_study_and_of_its_searches_are_told_at_once_before_a_study_is_made(
    tune: Cli, tmp_path: Path
) -> None:
    found = tune("trials=-1", "seed=-1", "trainer.steps=0,9", "margin=lower", "optimizer.lr=interval(0.01,0.1)")
    refused(found, "espalier-tune", "\n  trials: got -1", "\n  seed: got -1", "\n  margin: got 'lower'")
    assert "trainer.steps" not in found[2]  # which is wrong in some trials only
    refused(tune("seed=-1", "optimizer.lr=interval(0.01,0.1)"), "espalier-tune", "\n  seed: got -1")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
