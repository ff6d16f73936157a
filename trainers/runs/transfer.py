"""What one network is predicted to cost on a device."""

from collections.abc import Sequence

import numpy as np

from hardware_models.budgets.budget_problem import BudgetProblem
from trainers.runs.result import Transfer


def predicted_on(problem: BudgetProblem, indices: Sequence[int]) -> Transfer:
    """Predicted costs of a network on the device of `problem`, placed there at its best, and whether it is within."""
    placed, profile = problem.with_best_placement(indices), problem.profile
    totals = problem.table.named(placed, problem.device)
    return Transfer(
        **{metric: profile.estimate(metric, total) for metric, total in totals.items()},
        latency_upper_ms=None if profile.network_bound is None else profile.upper("latency_ms", totals["latency_ms"]),
        utilisation=max(problem.utilisation_of(totals).values()),
        within=bool(problem.is_feasible(np.array([placed]))[0]),
    )
