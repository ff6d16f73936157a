"""Spaces and devices that several tests share."""

from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import Array, CostTable, Indices, Mask
from hardware_models.latency_models.additive import Additive
from hardware_models.profile import METRICS, load_profile
from search_spaces.architecture import SPACES
from search_spaces.space import SearchSpace

ROOT = Path(__file__).resolve().parents[1]
# The host has no prices until it is measured.
PROFILES = {p.stem: load_profile(p) for p in sorted((ROOT / "conf" / "hardware").glob("*.yaml")) if p.stem != "host"}
# Fewer operations on the edges of a cell: 729 cells, whose tables are made in no time.
NARROWER = {"nasbench201": {"operations": ["none", "avg_pool_3x3", "nor_conv_3x3"]}}
# Spaces small enough to look at every network.
CHAIN = {"kernels": [3], "expansions": [3], "squeeze_excite": ["off"], "depths": [1], "resolutions": [128]}
WIDTHS = [[8], [8], [8], [16], [16]]
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "depths": ("mobile", {**CHAIN, "widths": [*WIDTHS[:4], [16, 24]], "depths": [1, 2], "resolutions": [96, 128, 160]}),
    "blocks": (
        "mobile",
        {**CHAIN, "widths": [[8, 16, 24], *WIDTHS[1:]], "expansions": [3, 6], "resolutions": [96, 128]},
    ),
    "attention": ("mobile", {**CHAIN, "widths": [[8, 16], *WIDTHS[1:4], [16, 64]], "squeeze_excite": ["off", "on"]}),
    "cells": ("nasbench201", {"width": 4, "num_cells": 1, "image_size": 8, **NARROWER["nasbench201"]}),
}


def yaml_spec(name: str) -> dict[str, Any]:
    spec = yaml.safe_load((ROOT / "conf" / "space" / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in spec.items() if key != "name"} | {"num_classes": 10}


@cache
def yaml_space(name: str) -> SearchSpace:
    return SPACES[name](**SPACES[name].filled(yaml_spec(name), (224, 224)))


@cache
def narrow_space(name: str) -> SearchSpace:
    return SPACES[name].small(num_classes=10, **NARROWER.get(name, {}))


@cache
def small_space(name: str) -> SearchSpace:
    space, spec = SMALL[name]
    return SPACES[space](**spec, num_classes=4)


@cache
def cost_table(space: SearchSpace) -> CostTable:
    """Costs on two devices: one with a bound on latency, and one of an additive model if it knows the space."""
    second = PROFILES["nb201_pixel3" if space.name == "nasbench201" else "flagship_phone"]
    if isinstance(second.latency, Additive):  # the prices of the benchmark's cells serve smaller ones as well as any
        second = second.model_copy(update={"latency": second.latency.model_copy(update={"shapes": None})})
    return CostTable(space, [PROFILES["iot_terminal"], second])


def draw(space: SearchSpace, size: int, generator: np.random.Generator) -> Indices:
    """Networks (size, n) drawn uniformly from those that obey the space's rules."""
    return space.rule_matrix.sample(size, generator)


def feasible_networks(space: SearchSpace, size: int, generator: np.random.Generator) -> Indices:
    """Networks (size, n) drawn uniformly from those within the 95 % quantile of each cost, device by device."""
    table = cost_table(space)
    drawn_Sn = draw(space, 40 * size + 400, generator)
    parts = []
    for device, profile in enumerate(table.devices):
        costs_SM = table.of(drawn_Sn, device)
        limits = {m: profile.upper(m, float(np.quantile(costs_SM[:, k], 0.95))) for k, m in enumerate(METRICS)}
        meets_S = BudgetProblem(table, profile.name, limits).is_feasible(drawn_Sn)
        parts.append(drawn_Sn[meets_S][: -(-size // len(table.devices))])
    chosen_Sn = np.concatenate(parts)[:size]
    assert len(chosen_Sn) == size
    return chosen_Sn


@cache
def all_networks(space: SearchSpace) -> Indices:
    """Every network (S, n)."""
    return np.array(list(product(*(range(len(d.choices)) for d in space.decisions))), dtype=np.int64)


def within(table: CostTable, networks_Sn: Indices, mask_N: Mask) -> Mask:
    """Which networks (S,) are made of the choices in `mask_N`."""
    return mask_N[networks_Sn + table.first_choice[:-1]].all(axis=1)


def upper_costs(table: CostTable, networks_Sn: Indices, device: int) -> Array:
    """Costs (S, M) with latency at the bound of the device's profile, as budgets read them."""
    bound = table.devices[device].bound
    factor = bound.factor * table.devices[device].widening if bound else 1.0
    factors_M = np.array([factor if metric == "latency_ms" else 1.0 for metric in METRICS])
    return table.of(networks_Sn, device) * factors_M


def random_limits(
    upper_SM: Array, generator: np.random.Generator, low: float = 0.02, high: float = 0.7
) -> dict[str, float]:
    """Budgets on some of the metrics, each at a random quantile of all networks' costs and never at a cost itself."""
    costs_of = [np.unique(costs_S) for costs_S in upper_SM.T]
    gaps_of = [np.flatnonzero(np.diff(costs) > 1e-4 * costs[:-1]) for costs in costs_of]
    differ = np.flatnonzero([len(gaps) > 0 for gaps in gaps_of])
    budgeted = set(differ[generator.random(len(differ)) < 0.6]) | {generator.choice(differ)}
    limits = {}
    for k in sorted(budgeted):
        costs, gaps = costs_of[k], gaps_of[k]
        gap = gaps[int(generator.uniform(low, high) * len(gaps))]
        limits[METRICS[k]] = float(costs[gap] + costs[gap + 1]) / 2
    return limits


def random_mask(table: CostTable, generator: np.random.Generator, share: float) -> Mask:
    """Choices (N,), each kept with probability `share`, one of every decision at least."""
    mask_N = generator.random(int(table.first_choice[-1])) < share
    for first, last in zip(table.first_choice[:-1], table.first_choice[1:], strict=True):
        mask_N[generator.integers(first, last)] = True
    return mask_N
