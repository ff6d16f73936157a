"""A profile whose bound leaves little of a latency budget: a warning before it refuses one."""

import pytest
import yaml
from tiny_search import CONF, small_space

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.profile import profile_from_dict
from trainers.search.console import wide_bound_line


@pytest.mark.parametrize(
    ("factor", "margin", "warns"), [(1.9, "upper", False), (2.5, "upper", True), (2.5, "point", False)]
)
def test_a_bound_of_more_than_twice_the_estimate_warns(factor: float, margin: str, warns: bool) -> None:
    content = yaml.safe_load((CONF / "hardware" / "mid_tablet.yaml").read_text(encoding="utf-8"))
    content["bound"] |= {"factor": factor}
    content["domain"]["pixels"] = [1, 1_000_000]  # wherever these networks lie, nothing is widened
    table = CostTable(small_space(), [profile_from_dict("this_machine", content)])
    line = wide_bound_line(BudgetProblem(table, "this_machine", {"latency_ms": 1e6}, margin=margin))
    assert (line is not None) == warns
    if line is not None:
        assert "this_machine" in line
        assert "40%" in line
