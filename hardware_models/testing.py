"""Contracts for the tests of one's own latency model, profile or space.

def test_my_model() -> None:
    check_latency_model(MyModel(model="mine", speed=2.0))

class TestMine(CostContracts):
    space = MySpace.small()
"""

# Shapes: S networks, n decisions, M metrics, D devices, N choices of all decisions.

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from math import inf, isclose
from typing import Any

import numpy as np
import torch
import yaml

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import PEAK_M, Array, CostTable, Indices, Mask
from hardware_models.counting import peak_activation_mb, recount
from hardware_models.latency_models.latency_model import LATENCY_MODELS, LatencyModel
from hardware_models.latency_models.roofline import price_kinds
from hardware_models.profile import METRICS, HardwareProfile, profile_from_dict
from search_spaces.blocks import without_resize
from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS, Operation, parse_operation
from search_spaces.space import SearchSpace
from search_spaces.tracing import operations_of

MOST_NETWORKS = 4000  # of the sub-space that exact selection is compared with brute force on
SIDES, KERNELS = (1, 14), (1, 3)
CHANNELS = 16  # doubled and doubled again for what must not cost less


def example_operations(channels: int = CHANNELS) -> Iterator[Operation]:
    """Operations of every registered kind, over maps and vectors, with and without groups, that a space may have."""
    for kind, side, after, kernel, groups in product(KINDS, SIDES, SIDES, KERNELS, (1, channels // 4, channels)):
        operation = Operation(kind, (channels, side, side), (channels, after, after), kernel, groups=groups)
        try:
            yield parse_operation(operation.notation)
        except InvalidInputError:
            continue  # no such operation


def check_latency_model(model: LatencyModel) -> None:
    """A model is registered under its name, survives YAML, and prices every kind, or says what it prices.

    Prices are finite and not negative, some of them above 0; where it claims to be monotone, twice as many channels
    never cost less. Raises: AssertionError.
    """
    assert LATENCY_MODELS[model.model] is type(model), f"{model.model} is not registered as {type(model).__name__}"
    again = type(model).model_validate(yaml.safe_load(yaml.safe_dump(model.model_dump(mode="json"))))
    total = model.constant_ms
    for operation in example_operations():
        ms = price(model, operation)
        assert price(again, operation) == ms, f"{operation.notation} has another price after YAML"
        assert price(model, replace(operation, held=1000)) == ms, (
            f"{operation.notation}: what lies beside it has a price"
        )
        if ms is None:
            assert model.priced, f"{operation.notation} has no price, and `priced` does not say what has"
            continue
        assert 0 <= ms < inf, f"{operation.notation} takes {ms} ms"
        total += ms
    assert total > 0, "nothing has a price above 0"
    if model.monotone:
        check_monotone(model)


def check_monotone(model: LatencyModel) -> None:
    """Twice as many channels never cost less. Raises: AssertionError."""
    for small, large in zip(example_operations(), example_operations(2 * CHANNELS), strict=True):
        low, high = price(model, small), price(model, large)
        if low is not None and high is not None:
            assert low <= high, f"{small.notation} takes {low} ms, {large.notation} only {high}"


def check_profile(profile: HardwareProfile) -> None:
    """All latency models of a profile hold their contract; its prices, bounds and origin are whole.

    Raises: AssertionError.
    """
    for model in (profile.latency, *(unit.latency for unit in profile.units.values())):
        if model is not None:
            check_latency_model(model)
    for unit in profile.units or [None]:
        for operation in example_operations():
            try:
                costs = profile.price(operation, unit=unit)
            except InvalidInputError:
                continue  # no price, which the model says
            assert all(0 <= cost < inf for cost in costs.values()), f"{operation.notation} costs {costs}"
    models = [profile.latency, *(unit.latency for unit in profile.units.values())]
    refuses = all(model is None or model.refuses_others for model in models)
    assert profile.bound is None or profile.domain or refuses, "its bound has no domain, and it prices anything"
    for metric, total in product(METRICS, (0.01, 1.0, 100.0)):
        estimate, upper = profile.estimate(metric, total), profile.upper(metric, total)
        assert 0 < estimate <= upper < inf, f"{metric}: the upper bound {upper} of {total} is below {estimate}"
        assert isclose(profile.upper(metric, profile.largest_total(metric, upper)), upper, rel_tol=1e-9)
    provenance = profile.provenance
    assert provenance["source"] and (provenance["error"] or provenance["error_reason"]), "no origin is given"
    assert yaml.safe_load(yaml.safe_dump(provenance)) == provenance, "the origin is no plain values"


def price(model: LatencyModel, operation: Operation) -> float | None:
    return model.price_ms(operation, bytes_per_element=4)


def made_up_profile(name: str, *, gops: float, gb_per_s: float, overhead_ms: float) -> HardwareProfile:
    """A device that prices every kind of operation, with a bound on its latency."""
    kinds = {kind: {"throughput_gops": gops, "overhead_ms": overhead_ms} for kind in price_kinds()}
    latency = {"model": "roofline", "weight_gb_per_s": gb_per_s, "activation_gb_per_s": gb_per_s, "kinds": kinds}
    content: dict[str, Any] = {
        "title": name,
        "runtime": "none",
        "threads": 1,
        "precision": "fp32",
        "budgets": {},
        "latency": latency,
        "error": {"method": "made up", "n": 1, "mape": 0.1, "median_ape": 0.1, "within_20_share": 1, "spearman": 1},
        "bound": {"level": 0.9, "n": 10, "factor": 1.25},
        "domain": {"pixels": [1, 10**6]},
        "source": "made up for tests",
        "measured": [],
        "inferred": [],
    }
    return profile_from_dict(name, content)


@cache
def _made_up_table(space: SearchSpace) -> CostTable:
    """One for all contracts of a space: a large one takes seconds to make."""
    slow = made_up_profile("slow", gops=10.0, gb_per_s=50.0, overhead_ms=0.001)
    return CostTable(space, [slow, made_up_profile("starved", gops=200.0, gb_per_s=2.0, overhead_ms=0.05)])


class CostContracts:
    """Set `space` to a small version, priced on two made-up devices; `num_networks` are recounted."""

    space: SearchSpace
    num_networks = 5

    @property
    def table(self) -> CostTable:
        return _made_up_table(self.space)

    @property
    def profiles(self) -> Sequence[HardwareProfile]:
        return self.table.devices

    def networks(self, size: int, *, seed: int) -> Indices:
        """Networks (S, n), drawn uniformly from those that obey the space's rules."""
        return self.space.rule_matrix.sample(size, np.random.default_rng(seed))

    def test_table_costs_are_those_of_the_operations_hooked_out_of_the_network(self) -> None:
        supernet = self.space.supernet()
        for indices in self.networks(self.num_networks, seed=0):
            choices = self.space.choices(indices)
            network, inputs = supernet.extract(choices), self.space.inputs_of(choices)
            operations = operations_of(without_resize(network), inputs)
            counted, peak_mb = recount(network, inputs), peak_activation_mb(network, inputs)
            for device, profile in enumerate(self.profiles):
                prices = [profile.price(operation) for operation in operations]
                summed = ("latency_ms", "gflops", "params_m", "flash_kb")
                expected = {m: sum(price[m] for price in prices) for m in summed}
                expected["latency_ms"] += profile.constant_ms
                expected["peak_memory_mb"] = sum(price["weight_mb"] for price in prices) + peak_mb
                expected["sram_kb"] = 1000 * peak_mb
                costs = self.table.named(indices, device)
                for metric, value in expected.items():
                    np.testing.assert_allclose(costs[metric], value, rtol=1e-9, err_msg=f"{metric} of {choices}")
                np.testing.assert_allclose(costs["gflops"], counted.gflops, rtol=1e-9, err_msg=f"fvcore, {choices}")
                np.testing.assert_allclose(costs["params_m"], counted.params_m, rtol=1e-9, err_msg=f"{choices}")

    def test_expected_cost_is_the_mean_over_sampled_networks(self) -> None:
        generator, size = np.random.default_rng(1), 4000
        for _ in range(5):
            weights = [self._distribution(len(d.choices), generator) for d in self.space.decisions]
            expected_DM = self.table.expected(torch.from_numpy(np.concatenate(weights))).numpy()
            sampled_Sn = np.stack([generator.choice(len(p), size=size, p=p) for p in weights], axis=1)
            for device in range(len(self.profiles)):
                costs_SM = self.table.of(sampled_Sn, device)
                mean_M, error_M = costs_SM.mean(axis=0), costs_SM.std(axis=0) / np.sqrt(size)
                sums = PEAK_M == 0
                assert (np.abs(expected_DM[device] - mean_M) <= 5 * error_M + 1e-9 * mean_M)[sums].all()
                # Of activations it takes the largest expectation, which is below the expected largest.
                most_M = mean_M + 5 * error_M + 1e-9 * mean_M
                assert (expected_DM[device] <= most_M)[~sums].all()

    def test_expected_cost_of_one_network_is_its_cost(self) -> None:
        for indices in self.networks(50, seed=2):
            one_hot_N = torch.zeros(self.space.num_choices, dtype=torch.float64)
            one_hot_N[torch.from_numpy(indices + self.table.first_choice[:-1])] = 1.0
            expected_DM = self.table.expected(one_hot_N).numpy()
            for device in range(len(self.profiles)):
                np.testing.assert_allclose(expected_DM[device], self.table.of(indices[None], device)[0], rtol=1e-9)

    def test_exact_selection_is_that_of_brute_force(self) -> None:
        """On sub-spaces of few choices: the best network, the next ones as those before are forbidden, then none."""
        generator, starts = np.random.default_rng(3), self.table.first_choice[:-1]
        for round_ in range(6):
            device = round_ % len(self.profiles)
            mask_N = self._few_choices(generator)
            networks_Sn = self._all_of(mask_N)
            problem = BudgetProblem(
                self.table, self.profiles[device].name, self._limits(networks_Sn, device, generator)
            )
            scores_N = generator.normal(size=len(mask_N))
            allowed_Sn = networks_Sn[problem.is_feasible(networks_Sn)]
            values_S = scores_N[allowed_Sn + starts].sum(axis=1)
            ranked = [tuple(row) for row in allowed_Sn[np.argsort(-values_S)].tolist()]
            for place in sorted({0, 1, min(len(ranked), 3)}):
                found = problem.select(scores_N, mask_N=mask_N, forbidden=ranked[:place])
                if place >= len(ranked):
                    assert found is None
                else:
                    assert found is not None
                    np.testing.assert_allclose(found.value, np.sort(values_S)[::-1][place], rtol=1e-7)
                    assert found.indices in ranked[place:]

    def _distribution(self, size: int, generator: np.random.Generator) -> Array:
        """Probabilities (size,), some of them 0."""
        raw = generator.exponential(size=size) * (generator.random(size) < 0.8)
        raw = raw if raw.any() else np.ones(size)
        return np.asarray(raw / raw.sum())

    def _few_choices(self, generator: np.random.Generator) -> Mask:
        """The choices (N,) of a few networks that obey the rules, as many as brute force can look at."""
        mask_N = np.zeros(self.space.num_choices, dtype=bool)
        for indices in self.networks(50, seed=int(generator.integers(10**6))):
            wider_N = mask_N.copy()
            wider_N[self.table.first_choice[:-1] + indices] = True
            counts = [int(wider_N[a:b].sum()) for a, b in pairwise(self.table.first_choice)]
            if np.prod(np.array(counts, dtype=float)) <= MOST_NETWORKS:
                mask_N = wider_N
        return mask_N

    def _all_of(self, mask_N: Mask) -> Indices:
        """All networks (S, n) of the choices in a mask that obey the rules."""
        alive = [np.flatnonzero(mask_N[a:b]).tolist() for a, b in pairwise(self.table.first_choice)]
        networks_Sn = np.array(list(product(*alive)), dtype=np.int64)
        return networks_Sn[self.table.rules.obeyed(networks_Sn)]

    def _limits(self, networks_Sn: Indices, device: int, generator: np.random.Generator) -> dict[str, float]:
        """Budgets on some metrics, each between two costs that networks have, or below them all."""
        costs_SM = self.table.of(networks_Sn, device)
        limits = {}
        for k in generator.permutation(len(METRICS))[: generator.integers(1, len(METRICS) + 1)]:
            costs = np.unique(costs_SM[:, k])
            gaps = np.flatnonzero(np.diff(costs) > 1e-4 * costs[:-1])
            gap = int(generator.choice(gaps)) if len(gaps) else len(costs) - 1
            total = (costs[gap] + costs[min(gap + 1, len(costs) - 1)]) / 2 + (0 if len(gaps) else costs[-1])
            limits[METRICS[k]] = self.profiles[device].upper(METRICS[k], float(total))
        return limits
