"""The parts of a search, looked at before anything is trained: values that can never work are refused by their keys."""

from pathlib import Path

import pytest
import torch
from tiny_search import TINY, tiny_config

from search_spaces.errors import InvalidInputError
from trainers.search.plan import make_optimizer, prepare


def refused(folder: Path, *overrides: str) -> str:
    with pytest.raises(InvalidInputError) as error:
        prepare(tiny_config(folder, *TINY, *overrides))
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.lr=nan", "optimizer.lr: got nan, allowed: a finite number, as 0.001"),
        ("optimizer.lr=fast", "optimizer.lr: got 'fast', allowed: a finite number, as 0.001"),
        ("optimizer.momentum=true", "optimizer.momentum: got True, allowed: a finite number, as 0"),
        ("optimizer.weight_decay=inf", "optimizer.weight_decay: got inf, allowed: a finite number, as 0"),
        ("optimizer.nesterov=1", "optimizer.nesterov: got 1, allowed: true or false"),
        (
            "arch_optimizer.betas=[3,x]",
            "arch_optimizer.betas: got [3, 'x'], allowed: 2 finite numbers",
        ),
        ("arch_optimizer.betas=[0.9]", "arch_optimizer.betas: got [0.9], allowed: 2 finite numbers"),
        (
            "strategy.pool_size=1000000000000",
            "strategy.pool_size: got 1000000000000; Input should be",
        ),
        (
            "space.resolutions=[100000000]",
            "space.resolutions must be rising whole numbers from 1 to 4,096, got [",
        ),
    ],
)
def test_a_value_that_can_never_work_is_refused_by_its_key(tmp_path: Path, override: str, told: str) -> None:
    assert told in refused(tmp_path, override)


def test_all_that_is_wrong_with_a_space_is_told_at_once_and_with_other_parts(tmp_path: Path) -> None:
    lists = ("kernels=[]", "depths=[0]", "widths=[]", "resolutions=[0]", "expansions=[101]", "squeeze_excite=[]")
    told = refused(tmp_path, *(f"space.{each}" for each in lists), "optimizer.lr=nan")
    lines = [line.strip() for line in told.splitlines()]
    for key in (*(f"space.{each.partition('=')[0]}" for each in lists), "optimizer.lr"):
        assert any(line.startswith(key) for line in lines), told


def test_numbers_of_cells_beyond_any_real_space_are_refused_together(tmp_path: Path) -> None:
    wrong = ("space=nasbench201", "space.width=65537", "space.num_cells=1000", "space.image_size=10000")
    with pytest.raises(InvalidInputError) as error:
        prepare(tiny_config(tmp_path, *wrong, "hardware=[nb201_pixel3]"))
    for told in ("width must be a whole number from 1 to 65,536", "num_cells must be", "image_size must be"):
        assert f"space.{told}" in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"_target_": "torch.optim.SGD", "lr": 1, "momentum": 0.9, "nesterov": True, "fused": True, "foreach": None},
        {"_target_": "torch.optim.Adafactor", "eps": [None, 0.001]},
        {"_target_": "torch.optim.RMSprop", "lr": 0.1, "centered": True},
    ],
)
def test_values_that_an_optimizer_takes_are_passed_on(arguments: dict[str, object]) -> None:
    made = make_optimizer(arguments, "optimizer")([torch.nn.Parameter(torch.zeros(1))])
    for name, value in arguments.items():
        if name != "_target_":
            assert made.defaults[name] == (tuple(value) if isinstance(value, list) else value)
