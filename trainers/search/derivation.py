"""From a finished run and new devices or budgets to the configuration of a run that is derived from it."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import METRICS, CostTable
from hardware_models.metrics import Margin
from search_spaces.architecture import make_space
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of
from trainers.data.datasets import data_config, load_data
from trainers.runs.config import SearchConfig
from trainers.runs.config import validate as validate_search
from trainers.runs.derive_config import DeriveConfig, FrontConfig
from trainers.runs.validation import refusal
from trainers.search.heritage import parent_result
from trainers.search.plan import load_profile, part_problems
from trainers.search.trained import read_supernet

SWEEP = "derive"  # the folder of derived runs below paths.runs
DIGITS = 4  # of the budgets of a front


def derived_config(asked: DeriveConfig) -> SearchConfig:
    """The configuration of the run that is asked for: that of its parent, but for devices and what else is named.

    Raises: InvalidInputError if the parent is not finished or keeps no supernet, or for what cannot be used.
    """
    folder = Path(os.path.abspath(os.path.expanduser(asked.parent)))
    result, digest = parent_result(folder)
    read_supernet(folder, result)
    content = _content(folder)
    hardware = asked.hardware or content["hardware"]
    front = asked.front
    changes = {key: value for key, value in asked.trainer.model_dump().items() if value is not None}
    content |= {
        "hardware": hardware,
        "boards": asked.boards or {},
        "measured_on": {},
        "margin": asked.margin or content["margin"],
        "trainer": {**content["trainer"], **changes, "keep": "none", "accelerator": "auto"},
        "data": {**content["data"], **({} if asked.data.root is None else {"root": asked.data.root})},
        "paths": asked.paths.model_dump(),
        "logger": {"name": "local"},
        "tags": [],
        "trial": None,
        "callbacks": [],
        "sweep": SWEEP,
        "parent": {"run": str(folder), "result": digest, "points": {}},
    }
    if front.points is not None:
        name = _front_device(front, hardware)
        single = {**content, "hardware": {name: {**hardware[name], "budgets": _budgets(hardware[name])}}}
        budgets = {**_budgets(hardware[name]), front.metric: spaced_budgets(validate_search(single), name, front)}
        content["hardware"] = {name: {**hardware[name], "budgets": budgets}}
    expanded, points = expand(content["hardware"])
    if points:
        content["hardware"], content["parent"] = expanded, {**content["parent"], "points": points}
        content["boards"] = {
            name: content["boards"][points.get(name, name)]
            for name in expanded
            if points.get(name, name) in content["boards"]
        }
        if not front.deploy:
            content["trainer"] |= {"deploy": False, "finetune_steps": 0}
    config = validate_search(content)
    if problems := part_problems(config):
        raise refusal(problems)
    return config


def expand(hardware: Mapping[str, dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Devices with one budget each of a metric, and the device that each point of a front is of.

    A budget that is a list makes a point of each of its values, the smallest first. Raises: InvalidInputError if two
    budgets of a device are lists.
    """
    found: dict[str, dict[str, Any]] = {}
    points: dict[str, str] = {}
    for name, mapping in hardware.items():
        budgets = _budgets(mapping)
        lists = [metric for metric, budget in budgets.items() if isinstance(budget, list)]
        if not lists:
            found[name] = mapping
            continue
        metric, values = lists[0], budgets[lists[0]]
        if len(lists) > 1 or not values or not all(type(value) in (int, float) for value in values):
            raise InvalidInputError(f"hardware.{name}.budgets.{metric}: got {values}; allowed: a list in one budget")
        for value in sorted({float(value) for value in values}):
            point = f"{name}-{metric}-{value:g}"
            found[point] = {**mapping, "budgets": {**budgets, metric: value}}
            points[point] = name
    return found, points


def spaced_budgets(config: SearchConfig, name: str, front: FrontConfig) -> list[float]:
    """Budgets of a front, in equal ratios, from the cheapest network to the most expensive unless their ends are given.

    `config` has the device alone, whose budget of the metric is not counted.
    """
    data = load_data(data_config(config.data))
    space = make_space(config.space, num_classes=data.num_classes, channels=data.channels, image_size=data.image_size)
    table = CostTable(space, [load_profile(name, config.hardware[name], config)])
    ends = _ends(table, name, front, config.margin)
    if ends[0] >= ends[1]:
        raise InvalidInputError(f"front: the smallest budget, {ends[0]:g}, must be below the largest, {ends[1]:g}")
    assert front.points is not None
    return [rounded_up(float(value)) for value in np.geomspace(*ends, front.points)]


def _ends(table: CostTable, name: str, front: FrontConfig, margin: Margin) -> tuple[float, float]:
    worst_M = table.worst(np.ones(table.space.num_choices, dtype=bool), table.device(name))
    profile, metric = table.devices[table.device(name)], front.metric
    total = float(worst_M[METRICS.index(metric)])
    high = profile.upper(metric, total) if margin == "upper" else profile.estimate(metric, total)
    low = BudgetProblem(table, name, {metric: high}, margin=margin).reachable()[metric]
    return front.min or low, front.max or high


def rounded_up(value: float) -> float:
    """The smallest number of a few digits that is no less: the cheapest network must stay within it."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    return float(f"{math.ceil(value / unit) * unit:.{DIGITS}g}")


def _front_device(front: FrontConfig, hardware: Mapping[str, Any]) -> str:
    """Raises: InvalidInputError if it is not one of the devices."""
    name = front.hardware or (next(iter(hardware)) if len(hardware) == 1 else None)
    if name not in hardware:
        raise InvalidInputError(
            f"front.hardware: got {name}, allowed: one of {', '.join(hardware)}; another device is chosen with "
            "hardware=[name]"
        )
    return str(name)


def _budgets(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The budgets of a profile that are set."""
    budgets = mapping.get("budgets")
    return {k: v for k, v in budgets.items() if v is not None} if isinstance(budgets, Mapping) else {}


def _content(folder: Path) -> dict[str, Any]:
    """The configuration of a run, as plain values that are not checked yet. Raises: InvalidInputError."""
    path = folder / "config.yaml"
    try:
        content = yaml.safe_load(text_of(path))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error
    return validate_search(content if isinstance(content, dict) else {}).model_dump(mode="json")
