"""What one network is predicted to cost on devices, beside their budgets: nothing is trained."""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.metrics import METRICS, Margin
from hardware_models.profile import HardwareProfile, profile_from_dict, resolve_profile
from search_spaces.architecture import Architecture, build_space
from trainers.devices.command_config import PriceConfig
from trainers.runs.given_network import given_network
from trainers.runs.transfer import predicted_on

Report = Callable[[str], None]
NO_BUDGET = {"latency_ms": 1.0}  # of a device without any: then a network is placed for the least latency
UPPER = "latency_upper_ms"


@dataclass(frozen=True)
class Price:
    """Predicted costs of a network on a device, with the upper bound of its latency where the device has one.

    `met` says of each budget whether it is; that of latency is checked against the bound if `held_by_upper`. `outside`
    says how far the bound is widened because the network leaves the domain of the profile; empty if it does not.
    """

    device: str
    latency_ms: float
    latency_upper_ms: float | None
    gflops: float
    params_m: float
    peak_memory_mb: float
    flash_kb: float
    sram_kb: float
    budgets: dict[str, float]
    met: dict[str, bool]
    held_by_upper: bool
    outside: str


def run_price(config: PriceConfig, report: Report) -> None:
    """Reports the prices of the network of `config`. Raises: InvalidInputError."""
    height, width = config.image_size
    images: dict[str, Any] = {"num_classes": config.num_classes, "channels": config.channels}
    architecture = given_network(config.architecture, config.arch, config.space, image_size=(height, width), **images)
    cache = Path(os.path.expanduser(config.paths.cache))
    profiles = [profile_from_dict(n, resolve_profile(n, content, cache)) for n, content in config.hardware.items()]
    prices = price(architecture, profiles, margin=config.margin)
    for line in {"table": table_lines, "json": json_lines, "csv": csv_lines}[config.format](architecture, prices):
        report(line)


def price(architecture: Architecture, profiles: Sequence[HardwareProfile], *, margin: Margin) -> list[Price]:
    """Price of a network on each device. Raises: InvalidInputError if a device has no price for an operation."""
    space = build_space(architecture)
    table = CostTable(space, profiles, only=architecture.choices)
    return [_price_on(table, profile, margin) for profile in profiles]


def _price_on(table: CostTable, profile: HardwareProfile, margin: Margin) -> Price:
    budgets: dict[str, float] = dict(profile.budgets.items())
    problem = BudgetProblem(table, profile.name, budgets or NO_BUDGET, margin=margin)
    found = predicted_on(problem, (0,) * len(table.space.decisions))
    held: dict[str, float] = {metric: float(getattr(found, metric)) for metric in METRICS}
    if problem.is_bound("latency_ms") and found.latency_upper_ms is not None:
        held["latency_ms"] = found.latency_upper_ms
    return Price(
        device=profile.name,
        **found.model_dump(include={*METRICS, UPPER}),
        budgets=budgets,
        met={metric: held[metric] <= limit for metric, limit in budgets.items()},
        held_by_upper=problem.is_bound("latency_ms"),
        outside=problem.profile.outside,
    )


def table_lines(architecture: Architecture, prices: Sequence[Price]) -> list[str]:
    """A row for each device; a budget stands behind the figure that it is checked against: `46.2/76 met`."""
    space = build_space(architecture)
    rows = [["device", "latency_ms", UPPER, *METRICS[1:]]]
    for each in prices:
        upper = "" if each.latency_upper_ms is None else f"{each.latency_upper_ms:.4g}"
        cells = {"latency_ms": f"{each.latency_ms:.4g}", UPPER: upper}
        cells |= {metric: f"{getattr(each, metric):.4g}" for metric in METRICS[1:]}
        for metric, limit in each.budgets.items():
            place = UPPER if metric == "latency_ms" and each.held_by_upper else metric
            cells[place] += f"/{limit:g} {'met' if each.met[metric] else 'NOT MET'}"
        rows.append([each.device, *cells.values()])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    shape = "x".join(map(str, space.input_shape(architecture.choices)))
    lines += [f"{each.device}: {each.outside}" for each in prices if each.outside]
    return [f"{architecture.space}  {space.notation(architecture.choices)}  (input {shape})", *lines]


def json_lines(architecture: Architecture, prices: Sequence[Price]) -> list[str]:
    """One object: the network, and what it costs on each device."""
    space = build_space(architecture)
    network = {"space": architecture.space, "arch": space.notation(architecture.choices), "id": architecture.id}
    devices = [asdict(each) for each in prices]
    return json.dumps(network | {"devices": devices}, indent=2, allow_nan=False).splitlines()


def csv_lines(architecture: Architecture, prices: Sequence[Price]) -> list[str]:
    """A row for each device; the cells of what it has no budget or bound for are empty."""
    budgets = [(metric, f"{metric}_budget", f"{metric}_met") for metric in METRICS]
    rows = [
        {"device": each.device, **{name: getattr(each, name) for name in ("latency_ms", UPPER, *METRICS[1:])}}
        | {budget: each.budgets.get(metric) for metric, budget, _ in budgets}
        | {met: each.met.get(metric) for metric, _, met in budgets}
        for each in prices
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().splitlines()
