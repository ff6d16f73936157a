"""The contracts that every space keeps, over each by itself: networks, costs, expectations, exact selection."""

# Shapes: S networks, n decisions, M metrics, D devices, N choices of all decisions.

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from spaces import (
    SMALL,
    all_networks,
    cost_table,
    draw,
    feasible_networks,
    narrow_space,
    one_hot,
    random_limits,
    random_mask,
    small_space,
    upper_costs,
    within,
    yaml_space,
)
from torch import Tensor, nn

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import PEAK
from hardware_models.counting import operations_of, peak_activation_mb, recount
from hardware_models.profile import METRICS
from search_spaces.architecture import SPACES
from search_spaces.blocks import without_resize
from search_spaces.space import SearchSpace, Supernet

RELATIVE = 1e-9  # of the largest output; networks are compared in double precision, where rounding explains no more
NARROW_AND_YAML = [(name, make, size) for name in SPACES for make, size in ((narrow_space, 190), (yaml_space, 10))]


def spaces_of(cases: list) -> list:
    return [pytest.param(make(name), size, id=f"{name}-{make.__name__}") for name, make, size in cases]


@pytest.fixture
def double() -> Iterator[None]:
    """New modules are made in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@cache
def trained_like(space: SearchSpace) -> Supernet:
    """A supernet in eval mode with statistics of its own activations, and scales and shifts that hide no block."""
    torch.manual_seed(0)
    supernet = space.supernet().double()
    for norm in (m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data.uniform_(0.7, 1.3)
        norm.bias.data.uniform_(-0.2, 0.2)
        norm.momentum = 0.5
    with torch.no_grad():
        for indices in draw(space, 16, np.random.default_rng(0)):
            supernet(torch.randn(8, *images(space).shape[1:]), space.selection(indices))
    return supernet.eval()


def images(space: SearchSpace) -> Tensor:
    return torch.randn(2, space.deploy_shape[0], 24, 24, generator=torch.Generator().manual_seed(1))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=RELATIVE * float(expected.abs().max()))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("space", "size"), spaces_of(NARROW_AND_YAML))
def test_supernet_at_one_network_computes_what_the_extracted_network_does(space: SearchSpace, size: int) -> None:
    supernet, x = trained_like(space), images(space)
    generator = np.random.default_rng(2)
    num_sensitive = 0
    for indices in feasible_networks(space, size, generator):
        with torch.no_grad():
            expected = supernet.extract(space.choices(indices))(x)
            hard, vectors = space.selection(indices), one_hot(space, indices, torch.float64)
            assert_same(supernet(x, hard), expected)
            assert_same(supernet(x, vectors), expected)
            some = {name: vectors[name] if generator.random() < 0.5 else hard[name] for name in hard}
            assert_same(supernet(x, some), expected)
        num_sensitive += not torch.allclose(expected[0], expected[1], rtol=1e-3, atol=0)
    # A cell without a path from input to output computes a constant, and few others do.
    assert num_sensitive >= 0.8 * size


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("space", [narrow_space(name) for name in SPACES], ids=lambda s: s.name)
def test_pruned_supernet_computes_what_the_whole_one_does(space: SearchSpace) -> None:
    supernet, x = space.supernet().double().eval(), images(space)
    supernet.load_state_dict(trained_like(space).state_dict())
    table, generator = cost_table(space), np.random.default_rng(3)
    for indices in draw(space, 20, generator):
        mask_N = random_mask(table, generator, 0.3)
        mask_N[table.first_choice[:-1] + indices] = True
        for k, decision in enumerate(space.decisions):
            alive_C = mask_N[table.first_choice[k] : table.first_choice[k + 1]]
            supernet.restrict({decision.name: np.flatnonzero(alive_C)})
        with torch.no_grad():
            assert_same(
                supernet(x, one_hot(space, indices, torch.float64)), trained_like(space)(x, space.selection(indices))
            )


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("space", [narrow_space(name) for name in SPACES], ids=lambda s: s.name)
def test_output_of_the_largest_extracted_network_depends_on_every_weight_it_has(space: SearchSpace) -> None:
    largest = [len(decision.choices) - 1 for decision in space.decisions]
    network = trained_like(space).extract(space.choices(largest))
    network(images(space)).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


COUNTED = [(name, make, size) for name in SPACES for make, size in ((narrow_space, 16), (yaml_space, 3))]
THOROUGH = [(name, narrow_space, 200) for name in SPACES]


@pytest.mark.parametrize(
    ("space", "size"),
    [
        *spaces_of(COUNTED),
        *(pytest.param(*p.values, id=f"{p.id}-200", marks=pytest.mark.slow) for p in spaces_of(THOROUGH)),
    ],
)
def test_cost_table_equals_the_recount_of_the_extracted_network(space: SearchSpace, size: int) -> None:
    table, supernet = cost_table(space), space.supernet()
    for indices in feasible_networks(space, size, np.random.default_rng(4)):
        choices = space.choices(indices)
        network, shape = supernet.extract(choices), space.input_shape(choices)
        operations = operations_of(without_resize(network), shape)
        counted, peak_mb = recount(network, shape), peak_activation_mb(network, shape)
        for device, profile in enumerate(table.devices):
            priced = [profile.price(operation) for operation in operations]
            expected = {m: sum(price[m] for price in priced) for m in ("latency_ms", "gflops", "params_m")}
            expected["latency_ms"] += profile.constant_ms
            expected["peak_memory_mb"] = sum(price["weight_mb"] for price in priced) + peak_mb
            assert table.named(indices, device) == pytest.approx(expected, rel=1e-9)
            assert (expected["gflops"], expected["params_m"]) == pytest.approx(
                (counted.gflops, counted.params_m), rel=1e-9
            )


def random_weights(space: SearchSpace, generator: np.random.Generator) -> list[np.ndarray]:
    """A distribution for each decision, some choices without weight."""
    weights = []
    for decision in space.decisions:
        raw = generator.exponential(size=len(decision.choices)) * (generator.random(len(decision.choices)) < 0.8)
        raw = raw if raw.any() else np.ones(len(decision.choices))
        weights.append(raw / raw.sum())
    return weights


TABLES = [make(name) for name in SPACES for make in (narrow_space, yaml_space)]


@pytest.mark.parametrize("space", TABLES, ids=lambda space: f"{space.name}-{space.num_choices}-{space.deploy_shape[1]}")
def test_expected_cost_equals_the_mean_over_sampled_networks(space: SearchSpace) -> None:
    table, generator, size = cost_table(space), np.random.default_rng(5), 4000
    for _ in range(10):
        weights = random_weights(space, generator)
        expected_DM = table.expected(torch.from_numpy(np.concatenate(weights))).numpy()
        sampled_Sn = np.stack([generator.choice(len(p), size=size, p=p) for p in weights], axis=1)
        for device in range(len(table.devices)):
            costs_SM = table.of(sampled_Sn, device)
            mean_M, error_M = costs_SM.mean(axis=0), costs_SM.std(axis=0) / np.sqrt(size)
            sums = np.arange(len(METRICS)) != PEAK
            assert (np.abs(expected_DM[device] - mean_M) <= 5 * error_M + 1e-12)[sums].all()
            # Of activations it takes the largest expectation, which is below the expected largest.
            assert expected_DM[device, PEAK] <= mean_M[PEAK] + 5 * error_M[PEAK] + 1e-12


@pytest.mark.parametrize("space", TABLES, ids=lambda space: f"{space.name}-{space.num_choices}-{space.deploy_shape[1]}")
def test_expected_cost_of_one_network_is_its_cost(space: SearchSpace) -> None:
    table = cost_table(space)
    for indices in feasible_networks(space, 200, np.random.default_rng(6)):
        expected_DM = table.expected(torch.cat(list(one_hot(space, indices, torch.float64).values()))).numpy()
        for device in range(len(table.devices)):
            np.testing.assert_allclose(expected_DM[device], table.of(indices[None], device)[0], rtol=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_exact_selection_equals_brute_force(name: str) -> None:
    space, generator = small_space(name), np.random.default_rng(7)
    table, networks_Sn = cost_table(space), all_networks(space)
    for round_ in range(12):
        device = round_ % len(table.devices)
        upper_SM = upper_costs(table, networks_Sn, device)
        limits = random_limits(upper_SM, generator, low=-0.1 if round_ % 4 == 0 else 0.02)
        problem = BudgetProblem(table, table.device_names[device], limits)
        mask_N = random_mask(table, generator, 0.8)
        scores_N = generator.normal(size=len(mask_N))
        allowed_S = within(table, networks_Sn, mask_N)
        for metric, limit in limits.items():
            allowed_S &= upper_SM[:, METRICS.index(metric)] <= limit
        values_S = scores_N[networks_Sn + table.first_choice[:-1]].sum(axis=1)
        ranked = networks_Sn[allowed_S][np.argsort(-values_S[allowed_S])]
        # The best network, and the next ones as those before them are forbidden; at the end there is none.
        for place in {0, 1, 3, min(len(ranked), 12)}:
            found = problem.select(scores_N, mask_N=mask_N, forbidden=[tuple(row) for row in ranked[:place]])
            if place >= len(ranked):
                assert found is None
            else:
                assert found is not None
                assert found.indices == tuple(ranked[place])
                assert found.value == pytest.approx(np.sort(-values_S[allowed_S])[place] * -1)
    # The case without an answer: the only network that is left is forbidden.
    only = tuple(networks_Sn[0])
    alone_N = np.zeros(int(table.first_choice[-1]), dtype=bool)
    alone_N[table.first_choice[:-1] + networks_Sn[0]] = True
    problem = BudgetProblem(table, table.device_names[0], {"gflops": 1e3})
    assert problem.select(np.zeros(len(alone_N)), mask_N=alone_N) is not None
    assert problem.select(np.zeros(len(alone_N)), mask_N=alone_N, forbidden=[only]) is None
