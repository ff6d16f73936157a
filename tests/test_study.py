"""Studies: where they are stored, what they are continued with, what they search over, what their trials report."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from console import CONF
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins.espalier_optuna import distribution_of
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from studies import SPACE, config, ended, trials_of
from tiny_search import MOBILE, tiny_config

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.cli.search import run_search
from trainers.runs.exit_status import SearchStoppedError
from trainers.tuning.search_space import fixed_values
from trainers.tuning.study import open_study
from trainers.tuning.study_storage import StudyError, answering, open_storage, storage_url
from trainers.tuning.trial import watcher
from trainers.tuning.trials import Outcome, Trials
from trainers.tuning.tuning_config import validate_tuning

# Storage


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/a/s.db", "sqlite:////a/s.db"),
        ("sqlite:////a/s", "sqlite:////a/s"),
        ("/a/s.journal", "journal:////a/s.journal"),
        ("journal:////a/s", "journal:////a/s"),
        ("postgresql://me@host/base", "postgresql+psycopg://me@host/base"),
    ],
)
def test_a_storage_is_named_by_its_file_or_url(text: str, url: str) -> None:
    assert storage_url(text) == url == storage_url(url)


@pytest.mark.parametrize(
    "text",
    [
        *("somewhere", "mysql://me@host/base", "sqlite://"),
        *("postgresql://me:secret@127.0.0.1/base", "postgresql://me@127.0.0.1/base?password=secret"),
    ],
)
def test_a_storage_that_cannot_be_one_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        storage_url(text)
    assert "password=secret" not in str(refusal.value) and ":secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["postgresql+psycopg://me@127.0.0.1:1/base", "/proc/none/study.db", "/proc/none/s.journal"]
)
def test_a_storage_that_does_not_open_is_a_clear_error(text: str) -> None:
    with pytest.raises(EspalierError):
        open_storage(text if "://" in text else storage_url(text))


@pytest.mark.parametrize("name", ["precious.db", "precious.journal"])
def test_a_file_that_is_no_study_is_left_as_it_is(tmp_path: Path, name: str) -> None:
    precious = tmp_path / name
    precious.write_text('{"my": "thesis"}\n')
    with pytest.raises(EspalierError):
        open_storage(storage_url(str(precious)))
    assert precious.read_text() == '{"my": "thesis"}\n'


def test_a_full_disk_is_an_error_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    trials = trials_of(config(tmp_path, storage=f"{tmp_path}/s.journal"))
    monkeypatch.setattr("optuna.storages.journal.JournalFileBackend.append_logs", full)
    with pytest.raises(StudyError, match="No space left on device"), answering(trials.config.url):
        trials.ask(1)


# Settings


def test_every_sampler_of_the_configuration_is_one_of_the_study(tmp_path: Path) -> None:
    for path in (CONF / "hydra" / "sweeper" / "sampler").glob("*.yaml"):
        settings = config(tmp_path, sampler=yaml.safe_load(path.read_text()))
        assert settings.sampler.name == path.stem


def test_settings_are_refused_by_the_names_that_a_user_gives_them(tmp_path: Path) -> None:
    content = config(tmp_path).model_dump()
    content |= {"n_trials": 0, "more": 1, "sampler": {"name": "gp", "startup_trials": 1, "population": 1}}
    found, problems = validate_tuning(content, {"n_trials": "trials"})
    keys = [problem.partition(":")[0] for problem in problems]
    assert (found, keys) == (None, ["trials", "hydra.sweeper.sampler.population", "hydra.sweeper.more"])


@pytest.mark.parametrize(
    ("objectives", "key"),
    [
        ({"validation_accuracy": "maximize", "seconds": "minimize"}, "hydra.sweeper.pruner.name"),
        ({"seconds": "minimize"}, "hydra.sweeper.pruner.name"),  # it would prune the best trials
    ],
)
def test_a_pruner_that_would_mislead_is_refused(tmp_path: Path, objectives: dict[str, str], key: str) -> None:
    _, problems = validate_tuning(config(tmp_path).model_dump() | {"objectives": objectives}, {})
    assert [problem.partition(":")[0] for problem in problems] == [key]


# What a study is continued with


@pytest.mark.parametrize(
    ("changes", "space", "fixed"),
    [
        ({}, SPACE, {"seed": 1}),
        ({}, {"x": FloatDistribution(0, 2)}, {"seed": 0}),
        ({"constraints": {"seconds": 8}}, SPACE, {"seed": 0}),
        ({"objectives": {"seconds": "minimize"}, "pruner": {**config(Path()).pruner.model_dump(), "name": "none"}},
         SPACE, {"seed": 0}),
    ],
    ids=["a fixed value", "the space", "a constraint", "the objective"],
)  # fmt: skip
def test_a_study_goes_on_only_over_what_it_was_begun_with(
    tmp_path: Path, changes: dict[str, Any], space: dict[str, BaseDistribution], fixed: dict[str, Any]
) -> None:
    settings = config(tmp_path)
    trials = Trials(open_study(settings, SPACE, {"seed": 0}), settings, SPACE)
    trials.ask(1)
    assert len(open_study(settings, SPACE, {"seed": 0}).trials) == 1
    with pytest.raises(InvalidInputError) as refusal:
        open_study(config(tmp_path, **changes), space, fixed)
    assert refusal.value.fields[-1] in ("seed", "x", "constraints", "pruner")


def test_the_content_of_tables_and_the_order_of_devices_belong_to_a_study(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    priced = {"latency": {"model": "table", "file": str(table)}}

    def fixed(*devices: str) -> dict[str, Any]:
        job = {"hardware": dict.fromkeys(devices, priced), "seed": 1, "trials": 3, "x": 0.5}
        return fixed_values([job, job | {"seed": 2}], ["x"], ["trials"])

    table.write_text("operation,latency_ms\n")
    first = fixed("a", "b")
    assert first["seed"] == [1, 2] and first.keys().isdisjoint({"x", "trials"})
    assert fixed("a", "b") == first != fixed("b", "a")
    table.write_text("operation,latency_ms\nadd,1\n")
    assert fixed("a", "b") != first


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    settings = config(tmp_path)
    study = open_study(settings, SPACE, {})
    study._storage.set_study_user_attr(study._study_id, "espalier", "something else")
    study._storage.create_new_trial(study._study_id)
    with pytest.raises(InvalidInputError):
        open_study(settings, SPACE, {})


# What a study searches over


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x=interval(0,1.5)", FloatDistribution(0, 1.5)),
        ("x=interval(2.0,2.0)", FloatDistribution(2.0, 2.0)),
        ("x=tag(log,interval(0.003,0.3))", FloatDistribution(0.003, 0.3, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("x=range(1,9)", IntDistribution(1, 8)),  # as range of Python, without its end
        ("x=range(1,9,3)", IntDistribution(1, 7, step=3)),
        ("x=range(9,1,-4)", IntDistribution(5, 9, step=4)),
        ("x=range(0.5,2.5,0.5)", FloatDistribution(0.5, 2.0, step=0.5)),
        ("x=a,b,a", CategoricalDistribution(["a", "b"])),
        ("x=choice([1,2],{k:1},true,'a b')", CategoricalDistribution(["[1,2]", "{k:1}", "True", "a\\ b"])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_override_of_hydra_means_this_distribution(override: str, expected: BaseDistribution) -> None:
    assert distribution_of(OverridesParser.create().parse_override(override)) == expected


@pytest.mark.parametrize(
    "override",
    [
        *("x=interval(2,1)", "x=tag(log,interval(0,1))", "x=tag(log,range(1,9,2))", "x=tag(lgo,interval(1,2))"),
        "x=range(3,3)",
    ],
)
def test_an_override_that_means_no_distribution_is_refused(override: str) -> None:
    with pytest.raises(ValueError):
        distribution_of(OverridesParser.create().parse_override(override))


# Epochs of a trial


def test_epochs_are_reported_once_over_all_attempts(tmp_path: Path) -> None:
    trials = trials_of(config(tmp_path))
    [trial] = trials.ask(1)
    where = {"storage": trials.config.url, "study": "s", "number": trial.number}
    watcher(**where)({"epoch": 1, "val/acc": 0.5})
    trials.give_back()
    [trial] = trials.ask(1)
    again = watcher(**where)
    again({"epoch": 1, "val/acc": 0.9})
    again({"epoch": 2, "val/loss": 0.1})  # an epoch without the metric
    again({"epoch": 3, "val/acc": 0.7})
    assert trials.study.trials[trial.number].intermediate_values == {1: 0.5, 3: 0.7}


def test_a_search_that_diverges_is_pruned(tmp_path: Path) -> None:
    trials = trials_of(config(tmp_path))
    [trial] = trials.ask(1)
    with pytest.raises(SearchStoppedError):
        watcher(storage=trials.config.url, study="s", number=trial.number)({"epoch": 1, "val/acc": math.nan})


@pytest.mark.parametrize("file", ["study.db", "study.journal"])
def test_a_storage_that_is_away_for_some_epochs_costs_one_warning_and_ends_no_search(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    trials = trials_of(config(home, storage=f"{home}/{file}"))
    [trial] = trials.ask(1)
    watch = watcher(storage=trials.config.url, study="s", number=trial.number)
    watch({"epoch": 1, "val/acc": 0.1})
    home.rename(away)
    watch({"epoch": 2, "val/acc": 0.2})
    watch({"epoch": 3, "val/acc": 0.3})
    with pytest.raises(SearchStoppedError):
        watch({"epoch": 4, "val/acc": math.nan})
    away.rename(home)
    watch({"epoch": 5, "val/acc": 0.5})
    assert trials_of(trials.config).study.trials[0].intermediate_values == {1: 0.1, 5: 0.5}
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
def test_a_pruned_search_ends_at_once_and_keeps_no_checkpoint(tmp_path: Path) -> None:
    trials = trials_of(config(tmp_path))
    [good] = trials.ask(1)
    for epoch in range(2, 20):
        good.report(1.0, epoch)  # no search can be as good
    trials.tell(good, ended(1.0))
    [bad] = trials.ask(1)
    trial = {"storage": trials.config.url, "study": "s", "number": bad.number, "metric": "val/acc"}
    changes = ("strategy.pool_size=32", "trainer.steps=40", "trainer.checkpoint_seconds=0")
    search = tiny_config(tmp_path / "runs", *MOBILE, *changes)
    search = search.model_validate({**search.model_dump(), "trial": trial})
    kept: list[bool] = []

    def note(line: str) -> None:
        if line.startswith("epoch 2/"):
            kept.append(any((search.run_folder / "checkpoints").glob("*.ckpt")))

    with pytest.raises(SearchStoppedError):
        run_search(search, note)
    assert kept == [True]
    assert not (search.run_folder / "checkpoints").exists()
    assert json.loads((search.run_folder / "status.json").read_text())["status"] == "stopped"
    reported = trials.tell(bad, Outcome("stopped", {}))
    assert reported is not None
    assert (reported.state, list(reported.intermediate_values)) == (TrialState.PRUNED, [1, 2])
