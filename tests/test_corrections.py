"""Factors of single operations: found where networks show them, absent where there are few, priced as written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_networks import true_device

from hardware_models.calibration.corrections import LEAST_FACTOR, LEAST_NETWORKS, MOST_FACTOR, Corrections
from hardware_models.calibration.model_fit import Fitted
from hardware_models.calibration.roofline_fit import RooflineFit
from hardware_models.latency_models.roofline import Roofline
from hardware_models.measuring.measurements import MeasuredRow, Measurements
from hardware_models.testing import check_latency_model, example_operations
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

# Shapes: N networks.

BLOCKS = [
    Operation("conv", (16 * (1 + k), 28, 28), (16 * (1 + k), 28, 28), kernel=kernel, groups=groups * (1 + k))
    for k in range(4)
    for kernel, groups in ((1, 1), (3, 1), (3, 16), (5, 16))
]
ODD = BLOCKS[5].notation


def networks(num: int, seed: int = 0) -> list[tuple[Operation, ...]]:
    generator = np.random.default_rng(seed)
    return [tuple(BLOCKS[i] for i in generator.integers(len(BLOCKS), size=10)) for _ in range(num)]


def times_ms(of: list[tuple[Operation, ...]], factor: float) -> np.ndarray:
    """What a device of these rates takes, on which one operation takes `factor` times as long."""
    device = true_device()

    def price(operation: Operation) -> float:
        return device.price(operation)["latency_ms"] * (factor if operation.notation == ODD else 1.0)

    return np.array([sum(map(price, network)) for network in of])


def fit(of: list[tuple[Operation, ...]], ms: np.ndarray) -> tuple[RooflineFit, Fitted]:
    rows = [MeasuredRow(str(i), float(t), own, i, {}) for i, (own, t) in enumerate(zip(of, ms, strict=True))]
    model = RooflineFit(Measurements(None, "network", tuple(rows), {}), bytes_per_element=4)  # type: ignore[arg-type]
    return model, model.fit(np.ones(len(rows), dtype=bool))


def test_an_operation_that_takes_three_times_its_price_has_the_largest_factor() -> None:
    of = networks(80)
    _, fitted = fit(of, times_ms(of, 3.0))
    assert isinstance(fitted.latency, Roofline)
    factors = fitted.latency.factors
    assert max(factors, key=factors.__getitem__) == ODD
    assert factors[ODD] > 1.5 * np.median(list(factors.values()))


def test_networks_not_seen_are_predicted_better_with_factors() -> None:
    of = networks(120)
    ms = times_ms(of, 3.0)
    model, _ = fit(of, ms)
    seen = np.arange(120) < 60
    parts = model._parts(seen)
    plain = model.design.features(model.amounts_NF) @ parts.coefficients_P
    error = np.abs(model.predict(seen) / ms - 1)[~seen].mean()
    assert error < 0.5 * np.abs(plain / ms - 1)[~seen].mean()


def test_a_device_that_the_roofline_says_all_of_is_still_predicted() -> None:
    of = networks(120)
    ms = times_ms(of, 1.0)
    seen = np.arange(120) < 60
    assert fit(of, ms)[0].predict(seen)[~seen] == pytest.approx(ms[~seen], rel=0.05)


def test_few_networks_get_none() -> None:
    of = networks(LEAST_NETWORKS - 1)
    _, fitted = fit(of, times_ms(of, 3.0))
    assert isinstance(fitted.latency, Roofline) and not fitted.latency.factors


def test_the_profile_prices_as_the_fit_predicts() -> None:
    of = networks(60)
    model, fitted = fit(of, times_ms(of, 3.0))
    assert isinstance(fitted.latency, Roofline) and fitted.latency.factors
    sums = [sum(float(fitted.latency.price_ms(o, bytes_per_element=4)) for o in network) for network in of]  # type: ignore[arg-type]
    predicted = sums if fitted.calibrator is None else [fitted.calibrator.latency_ms(s) for s in sums]
    assert predicted == pytest.approx(model.predict(np.ones(60, dtype=bool)).tolist(), rel=0.01)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 60),
    st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=60),
    st.integers(0, 3),
)
def test_any_times_give_factors_within_their_limits(num: int, some: list[float], seed: int) -> None:
    of = networks(num, seed)
    corrections = Corrections(of)
    prices = np.full(len(corrections.operations), 0.1)
    measured = np.resize(np.array(some), num)
    factors = corrections.fit(prices, np.ones(num), measured, np.ones(num, dtype=bool))
    assert ((factors >= LEAST_FACTOR) & (factors <= MOST_FACTOR)).all()


def test_a_factor_multiplies_the_price_of_its_operation_alone() -> None:
    content = true_device().latency
    assert isinstance(content, Roofline)
    with_factor = Roofline.model_validate(content.model_dump() | {"factors": {ODD: 2.0}})
    for operation in BLOCKS:
        times = 2.0 if operation.notation == ODD else 1.0
        price, plain = (m.price_ms(operation, bytes_per_element=4) for m in (with_factor, content))
        assert price == pytest.approx(times * (plain or 0.0))


def test_a_roofline_with_factors_keeps_the_contract_of_latency_models() -> None:
    content = true_device().latency
    assert isinstance(content, Roofline)
    for operation in example_operations():
        check_latency_model(content.model_copy(update={"factors": {operation.notation: 0.2}}))


def test_a_factor_of_no_operation_is_refused() -> None:
    content = true_device().latency
    assert content is not None
    with pytest.raises((InvalidInputError, ValueError)):
        Roofline.model_validate(content.model_dump() | {"factors": {"conv of mine": 2.0}})
