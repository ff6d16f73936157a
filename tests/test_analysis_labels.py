"""Words for what tells runs apart, by hand on configurations of a few keys."""

from copy import deepcopy
from typing import Any

import pytest

from trainers.analysis.labels import differing, natural, run_labels, search_labels, settings_hash

BASE: dict[str, Any] = {
    "space": {"name": "mobile", "widths": [[16, 24], [24, 40]]},
    "hardware": {"phone": {"budgets": {"latency_ms": 12.0}}, "board": {"budgets": {"latency_ms": 30.0}}},
    "strategy": {"name": "pool", "pool_size": 64},
    "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9},
    "arch_optimizer": {"_target_": "torch.optim.Adam", "lr": 0.03},
    "paths": {"runs": "runs"},
    "seed": 0,
}


def config(**changes: Any) -> dict[str, Any]:
    """`BASE` with `optimizer__lr=0.2` and the like."""
    found = deepcopy(BASE)
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        place = found
        for part in filter(None, section.split("__")):
            place = place[part]
        place[name] = value
    return found


def test_words_are_sorted_by_the_numbers_in_them() -> None:
    words = ["latency_ms=120", "latency_ms=40 seed=10", "latency_ms=40 seed=9", "lr=0.03", "lr=0.1", "lr=1e-05", "pool"]
    assert sorted(words, key=natural) == [words[i] for i in (2, 1, 0, 5, 3, 4, 6)]


def test_swept_values_are_the_words_and_the_seed_is_that_of_runs_alone() -> None:
    configs = [config(optimizer__lr=lr, seed=seed) for lr in (0.1, 0.03) for seed in (0, 1)]
    assert run_labels(configs) == ["lr=0.1 seed=0", "lr=0.1 seed=1", "lr=0.03 seed=0", "lr=0.03 seed=1"]
    assert search_labels(configs) == {settings_hash(configs[0]): "lr=0.1", settings_hash(configs[2]): "lr=0.03"}
    assert differing(configs) == {"optimizer.lr": [0.1, 0.1, 0.03, 0.03], "seed": [0, 1, 0, 1]}


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ([{}, {"seed": 1}], ["seed=0", "seed=1"]),
        ([{}, {}], ["", ""]),
        ([{"paths__runs": "here"}, {"paths__runs": "there"}], ["", ""]),
        (
            [{}, {"optimizer__lr": 0.2, "arch_optimizer__lr": 0.2}],
            ["optimizer.lr=0.1 arch_optimizer.lr=0.03", "optimizer.lr=0.2 arch_optimizer.lr=0.2"],
        ),
        ([{}, {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.002}}], ["optimizer=SGD", "optimizer=AdamW"]),
        (
            [{}, {"optimizer__lr": 0.2}, {"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.2}}],
            ["optimizer=SGD lr=0.1", "optimizer=SGD lr=0.2", "optimizer=AdamW lr=0.2"],
        ),
        ([{}, {"strategy": {"name": "random"}, "seed": 1}], ["pool seed=0", "random seed=1"]),
        ([{}, {"hardware": {"phone": BASE["hardware"]["phone"]}}], ["hardware=phone,board", "hardware=phone"]),
        ([{}, {"hardware__board__budgets__latency_ms": None}], ["latency_ms=30", "latency_ms=null"]),
        ([{}, {"space__widths": [[16, 24]]}], ["widths=[[16,24],[24,40]]", "widths=[[16,24]]"]),
        ([{"tables": "a" * 20 + "b" * 20}, {"tables": "c"}], ["tables=aaaaaaaaaaa…bbbbbbbbbbbb", "tables=c"]),
    ],
)
def test_words_say_what_differs_and_no_more(changes: list[dict[str, Any]], labels: list[str]) -> None:
    assert run_labels([config(**change) for change in changes]) == labels


def test_no_two_searches_have_the_same_words() -> None:
    alike = [config(tables=f"{'a' * 20}{middle}{'a' * 20}") for middle in "bc"]
    found = search_labels([*alike, {}])
    assert set(found.values()) == {f"tables=aaaaaaaaaaa…aaaaaaaaaaaa {settings_hash(one)}" for one in alike}
    assert list(search_labels([config(), config(seed=1)]).values()) == ["pool"]


def test_searches_of_two_data_folders_have_the_names_of_the_folders() -> None:
    contents = {"cats": "1" * 64, "dogs": "2" * 64}
    configs = [config(data={"name": "image_folder", "root": f"/a/{n}", "content": c}) for n, c in contents.items()]
    assert run_labels(configs) == ["content=cats-11111111", "content=dogs-22222222"]
