"""The pool of feasible networks against the distribution it samples, worked out over every network."""

# Shapes: S networks, n decisions, N choices of all decisions.

import numpy as np
import pytest
from spaces import SMALL, all_networks, cost_table, random_mask, small_space, upper_costs, within, yaml_space

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import Array, CostTable, Indices, Mask
from hardware_models.budgets.pool import effective_size
from hardware_models.profile import METRICS

SIZE = 4000
SWEEPS = 12
BUDGETS = {  # metric: quantile of all networks' costs that is its limit
    "one, loose": {"latency_ms": 0.8},
    "one, tight": {"gflops": 0.1},
    "peak memory": {"peak_memory_mb": 0.4},
    "all, tight": dict.fromkeys(METRICS, 0.3),
}


def problem_at(table: CostTable, quantiles: dict[str, float], device: int) -> BudgetProblem:
    upper_SM = upper_costs(table, all_networks(table.space), device)
    limits = {m: float(np.quantile(upper_SM[:, METRICS.index(m)], q)) * (1 + 1e-6) for m, q in quantiles.items()}
    return BudgetProblem(table, table.device_names[device], limits)


def marginals(table: CostTable, networks_Sn: Indices, weights_S: Array) -> Array:
    """Share (N,) of the weight of networks that take each choice."""
    counts_N = np.zeros(int(table.first_choice[-1]))
    np.add.at(counts_N, networks_Sn + table.first_choice[:-1], weights_S[:, None])
    return counts_N / weights_S.sum()


def pool_of(problem: BudgetProblem, mask_N: Mask, logits_N: Array, incumbent: Indices, *, seed: int) -> Indices:
    chains = problem.chains(mask_N, np.random.default_rng(seed))
    networks_Sn = chains.start(logits_N, SIZE, incumbent)
    for _ in range(SWEEPS):
        networks_Sn = chains.sweep(networks_Sn, logits_N)
    return networks_Sn


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("budget", BUDGETS)
def test_pool_has_the_marginals_of_the_distribution_conditioned_on_the_budgets(name: str, budget: str) -> None:
    table, generator = cost_table(small_space(name)), np.random.default_rng(sum(map(ord, name + budget)))
    networks_Sn = all_networks(table.space)
    for round_ in range(2):
        problem = problem_at(table, BUDGETS[budget], round_ % 2)
        mask_N, logits_N = random_mask(table, generator, 0.9), generator.normal(size=table.space.num_choices)
        feasible_Sn = networks_Sn[problem.is_feasible(networks_Sn)]
        distance_S = (feasible_Sn != problem.start()[0].incumbent).sum(axis=1)
        mask_N[feasible_Sn[distance_S.argsort()[:2]] + table.first_choice[:-1]] = True  # or no two might be left
        allowed_Sn = networks_Sn[problem.is_feasible(networks_Sn) & within(table, networks_Sn, mask_N)]
        assert len(allowed_Sn) > 1
        logits_S = logits_N[allowed_Sn + table.first_choice[:-1]].sum(axis=1)
        expected_N = marginals(table, allowed_Sn, np.exp(logits_S - logits_S.max()))
        pool_Sn = pool_of(problem, mask_N, logits_N, allowed_Sn[:1], seed=round_)
        found_N = marginals(table, pool_Sn, np.ones(SIZE))
        error_N = np.sqrt(expected_N * (1 - expected_N).clip(min=0) / SIZE)
        assert (np.abs(found_N - expected_N) <= 5 * error_N + 1e-9).all()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_network_of_the_pool_is_feasible_and_alive(name: str, budget: str) -> None:
    table, generator = cost_table(small_space(name)), np.random.default_rng(1)
    for device in range(2):
        problem = problem_at(table, BUDGETS[budget], device)
        survivors, _ = problem.start()
        logits_N = 3 * generator.normal(size=table.space.num_choices)
        chains = problem.chains(survivors.mask_N, generator)
        pool_Sn = chains.start(logits_N, 500, np.array([survivors.incumbent]))
        for _ in range(3):
            assert pool_Sn.shape == (500, len(table.space.decisions))
            assert problem.is_feasible(pool_Sn).all()
            assert within(table, pool_Sn, survivors.mask_N).all()
            pool_Sn = chains.sweep(pool_Sn, logits_N)


def test_pool_of_a_whole_space_is_feasible_where_next_to_no_random_network_is() -> None:
    table = cost_table(yaml_space("mobile"))
    device, generator = 0, np.random.default_rng(2)
    cheapest_M = table.cheapest(np.ones(table.space.num_choices, dtype=bool), device)
    smallest_M = [table.devices[device].upper(m, float(cost)) for m, cost in zip(METRICS, cheapest_M, strict=True)]
    problem = BudgetProblem(
        table, table.device_names[device], dict(zip(METRICS, 1.2 * np.array(smallest_M), strict=True))
    )
    survivors, _ = problem.start()
    pool_Sn = problem.chains(survivors.mask_N, generator).start(
        np.zeros(table.space.num_choices), 200, np.array([survivors.incumbent])
    )
    assert problem.is_feasible(pool_Sn).all()
    assert within(table, pool_Sn, survivors.mask_N).all()


def test_pool_without_a_binding_budget_is_drawn_from_the_softmax_itself() -> None:
    table, generator = cost_table(small_space("depths")), np.random.default_rng(3)
    problem = BudgetProblem(table, table.device_names[0], {"gflops": 1e6})
    logits_N = generator.normal(size=table.space.num_choices)
    pool_Sn = problem.chains(np.ones(len(logits_N), dtype=bool), generator).start(
        logits_N, SIZE, all_networks(table.space)[:1]
    )
    found_N = marginals(table, pool_Sn, np.ones(SIZE))
    for first, last in zip(table.first_choice[:-1], table.first_choice[1:], strict=True):
        expected_C = np.exp(logits_N[first:last]) / np.exp(logits_N[first:last]).sum()
        assert found_N[first:last] == pytest.approx(expected_C, abs=5 * 0.5 / np.sqrt(SIZE))


def test_same_seed_draws_the_same_pool() -> None:
    table = cost_table(small_space("depths"))
    problem = problem_at(table, BUDGETS["all, tight"], 0)
    survivors, _ = problem.start()
    logits_N, incumbent = np.zeros(table.space.num_choices), np.array([survivors.incumbent])
    first, again, other = (pool_of(problem, survivors.mask_N, logits_N, incumbent, seed=seed) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_effective_size_counts_equal_weights_in_full_and_a_dominant_one_as_one() -> None:
    assert effective_size(np.full(8, -3.0)) == pytest.approx(8)
    assert effective_size(np.array([0.0, -80.0, -80.0])) == pytest.approx(1)
    # Weights 1 and 3: (1 + 3)^2 / (1 + 9).
    assert effective_size(np.log([1.0, 3.0])) == pytest.approx(1.6)
