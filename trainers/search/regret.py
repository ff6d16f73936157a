"""How far a network is from the best of a benchmark's table within the same budgets."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from search_spaces.architecture import build_space, read_architecture
from search_spaces.errors import InvalidInputError
from search_spaces.space import SearchSpace
from trainers.runs.compare_result import BenchmarkConfig
from trainers.runs.result import Result
from trainers.runs.state import architecture_file
from trainers.search.benchmark_table import read_accuracies
from trainers.search.plan import check_profile


def regrets(
    folder: Path, config: Mapping[str, Any], result: Result, table: BenchmarkConfig, known: dict[str, float]
) -> dict[str, float]:
    """Points between the best network of the table within a device's budgets and the one found, by device.

    Devices of several units, measured ones, and those whose network the table lacks have none. `known` keeps the best
    for other runs. Raises: InvalidInputError for a table or an architecture file that cannot be read.
    """
    accuracies = _accuracies(table.file, table.column, table.notation)
    found = {}
    for name, device in result.devices.items():
        mapping = config["hardware"][name]
        if mapping.get("units") or device.measured is not None or device.notation not in accuracies:
            continue
        architecture = read_architecture(architecture_file(folder, name))
        key = repr((architecture.space, architecture.spec, name, mapping, device.margin))
        if key not in known:
            space = build_space(architecture)
            known[key] = best_within(space, accuracies, name, mapping, margin=device.margin)
        found[name] = 100 * (known[key] - accuracies[device.notation])
    return found


def best_within(
    space: SearchSpace, accuracies: Mapping[str, float], name: str, mapping: Mapping[str, Any], *, margin: Any
) -> float:
    """The best accuracy, as a share, of the table's networks of a space within the budgets of a device."""
    profile = check_profile(name, mapping)
    problem = BudgetProblem(CostTable(space, [profile]), name, dict(profile.budgets.items()), margin=margin)
    rows = list(_networks(space, accuracies))
    within = problem.is_feasible(np.array([indices for indices, _ in rows]))
    return max(accuracy for (_, accuracy), meets in zip(rows, within, strict=True) if meets)


def _networks(space: SearchSpace, accuracies: Mapping[str, float]) -> Iterator[tuple[tuple[int, ...], float]]:
    for notation, accuracy in accuracies.items():
        try:
            yield space.indices(space.parse(notation)), accuracy
        except InvalidInputError:  # of a larger space than this one
            continue


@lru_cache(maxsize=2)
def _accuracies(file: str, column: str, notation: str) -> dict[str, float]:
    return read_accuracies(file, column=column, notation=notation)
