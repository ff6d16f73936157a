"""Contracts of latency models and profiles, for the tests of a device or model of one's own.

def test_my_model() -> None:
    check_latency_model(MyModel(model="mine", speed=2.0))
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import inf, isclose

import yaml

from hardware_models.latency_models.latency_model import LATENCY_MODELS, LatencyModel
from hardware_models.profile import METRICS, HardwareProfile
from search_spaces.errors import InvalidInputError
from search_spaces.operation import KINDS, Operation, parse_operation

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
    for metric, total in product(METRICS, (0.01, 1.0, 100.0)):
        estimate, upper = profile.estimate(metric, total), profile.upper(metric, total)
        assert 0 < estimate <= upper < inf, f"{metric}: the upper bound {upper} of {total} is below {estimate}"
        assert isclose(profile.upper(metric, profile.largest_total(metric, upper)), upper, rel_tol=1e-9)
    provenance = profile.provenance
    assert provenance["source"] and (provenance["error"] or provenance["error_reason"]), "no origin is given"
    assert yaml.safe_load(yaml.safe_dump(provenance)) == provenance, "the origin is no plain values"


def price(model: LatencyModel, operation: Operation) -> float | None:
    return model.price_ms(operation, bytes_per_element=4)
