"""What a search reports in words before it begins: what it sets out to do, and what the budgets leave."""

import numpy as np

from hardware_models.budgets.budget_problem import BudgetProblem, Survivors
from hardware_models.budgets.cost_table import METRICS
from hardware_models.measuring.measure import counted
from trainers.data.image_set import described
from trainers.runs.config import is_host
from trainers.runs.warnings import warning_line, warnings_of_data
from trainers.search.plan import Plan

WIDE_BOUND = 2.0  # times the estimate


def headline(plan: Plan) -> str:
    images = sum(plan.data.record().images.model_dump().values())
    own = plan.space.decisions[: plan.table.num_own]
    decades = int(np.floor(sum(np.log10(len(d.choices)) for d in own)))
    beside = f"; {described(plan.data.left_out)}" if plan.data.left_out else ""
    data = f"{plan.data.name} ({images:,} images, {plan.data.size_mb:,.1f} MB decoded{beside})"
    if plan.is_proxy:
        sizes = ("x".join(map(str, size)) for size in (plan.data.image_size, plan.space.deploy_shape[1:]))
        data += ", a proxy of {} pixels for networks of {}".format(*sizes)
    devices = counted(len(plan.problems), "device")
    strategy, seed = plan.config.strategy["name"], plan.config.seed
    return f"space {plan.space.name} · 10^{decades} networks · {devices} · {data} · {strategy} · seed {seed}"


def data_lines(plan: Plan) -> list[str]:
    """Warnings of the data, one line each."""
    data = plan.data.record()
    return [warning_line(warned, {"data": data.model_dump()}) for warned in warnings_of_data(data)]


def bound_lines(plan: Plan) -> list[str]:
    """Warnings of a profile of this machine whose bound is wide, before it refuses a budget."""
    hosts = (problem for problem in plan.problems if is_host(plan.config.hardware[problem.name]))
    return [line for problem in hosts if (line := wide_bound_line(problem)) is not None]


def wide_bound_line(problem: BudgetProblem) -> str | None:
    """How little of a latency budget a wide bound leaves; none of one that is not."""
    bound = problem.profile.network_bound
    if bound is None or not problem.is_bound("latency_ms"):
        return None
    factor = bound.factor * problem.profile.widening
    if factor <= WIDE_BOUND:
        return None
    return (
        f"warning {problem.name}: its {bound.level:.0%} bound is {factor:.2f} times the estimate, which may use "
        f"{1 / factor:.0%} of a latency budget; delete its file in paths.cache to measure it on an idle machine"
    )


def feasible_line(plan: Plan, device: int, survivors: Survivors) -> str:
    """The cheapest and the most expensive network of the space beside each budget, as budgets are held."""
    problem = plan.problems[device]
    low = problem.held_all(plan.table.cheapest(survivors.mask_N, device))
    high = problem.held_all(plan.table.worst(survivors.mask_N, device))
    parts = []
    for k, metric in enumerate(METRICS):
        if metric in problem.limits:
            note = "" if high[k] > problem.limits[metric] else ", never binds"
            bound = " at the bound" if problem.is_bound(metric) else ""
            parts.append(f"{metric} {low[k]:.3g}–{high[k]:.3g}{bound} (budget {problem.limits[metric]:g}{note})")
    outside = f"  ({problem.profile.outside})" if problem.profile.outside and problem.is_bound("latency_ms") else ""
    return f"feasible  {problem.name}  " + "  ".join(parts) + outside
