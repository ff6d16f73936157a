"""Errors of budgets."""

from collections.abc import Mapping
from math import nan

from search_spaces.errors import EspalierError


class BudgetInfeasibleError(EspalierError):
    """No network of the space meets the budgets of a device.

    `smallest` has the figure of the smallest network in each metric whose budget is out of reach by itself; it is empty
    where each is reachable alone. `ratio` is by how much all budgets must grow together.
    """

    def __init__(self, message: str, *, smallest: Mapping[str, float] | None = None, ratio: float = nan) -> None:
        super().__init__(message)
        self.smallest, self.ratio = dict(smallest or {}), ratio
