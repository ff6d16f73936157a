"""Errors of budgets."""

from search_spaces.errors import EspalierError


class BudgetInfeasibleError(EspalierError):
    """No network of the space meets the budgets of a device."""
