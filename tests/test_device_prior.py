"""The regression over devices: its posterior, its robustness, what it learns from devices and asks to measure."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hardware_models.calibration.device_prior import (
    DeviceBelief,
    choose_measurements,
    fit_device,
)

BENCHMARKS = str(Path(__file__).parent / "benchmarks")


@pytest.fixture
def learn_prior(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DeviceBelief]:
    """What made the shipped populations."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from learned_prior import learn_prior

    return learn_prior


def one_feature(mean: float = 1.0, variance: float = 0.04, noise: float = 0.1) -> DeviceBelief:
    return DeviceBelief(np.array([mean]), np.array([[variance]]), noise)


def two_features(noise: float = 0.01) -> DeviceBelief:
    return DeviceBelief(np.array([1.0, 1.0]), np.diag([0.25, 0.25]), noise)


def test_the_speed_of_a_device_is_the_median_ratio_and_needs_no_prior() -> None:
    # Times are exactly seven times the prior's: nothing is left for the coefficients to explain.
    x_MP = np.array([[1.0, 2.0], [3.0, 1.0], [2.0, 2.0]])
    fit = fit_device(two_features(), x_MP, 7 * x_MP.sum(axis=1))
    assert fit.mean_P == pytest.approx([7.0, 7.0], rel=1e-9)
    assert fit.predict_ms(np.array([[10.0, 0.0]])) == pytest.approx([70.0])


def test_the_posterior_variance_is_that_of_the_textbook() -> None:
    # One feature of size 1 measured where the prior expects it: weights of the t distribution are 5 / 4.
    fit = fit_device(one_feature(), np.ones((1, 1)), np.array([1.0]))
    assert fit.covariance_PP[0, 0] == pytest.approx(1 / (1 / 0.04 + 1.25 / 0.01), rel=1e-9)
    assert fit.deviation_ms(np.ones((1, 1)))[0] == pytest.approx(np.sqrt(fit.covariance_PP[0, 0] + 0.01), rel=1e-9)


def test_a_glitch_near_zero_hardly_moves_the_fit() -> None:
    generator = np.random.default_rng(0)
    x_MP = generator.uniform(1, 5, (12, 2))
    y_M = x_MP @ np.array([2.0, 3.0])
    y_M[4] *= 0.001
    fit = fit_device(DeviceBelief(np.ones(2), np.eye(2), 0.03), x_MP, y_M)
    assert fit.mean_P == pytest.approx([2.0, 3.0], rel=0.01)


def test_what_was_not_measured_keeps_the_proportions_of_the_prior() -> None:
    prior = DeviceBelief(np.array([1.0, 3.0]), np.diag([0.01, 0.09]), 0.05)
    fit = fit_device(prior, np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([10.0, 20.0]))
    assert fit.mean_P == pytest.approx([10.0, 30.0], rel=1e-6)
    assert fit.covariance_PP[1, 1] == pytest.approx(0.09 * 100, rel=1e-6)


def test_coefficients_stay_at_zero_or_above_where_that_is_asked() -> None:
    x_MP = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    y_M = np.array([3.0, 2.5, 2.0])  # falls with the second feature
    wide = DeviceBelief(np.ones(2), np.eye(2) * 100, 0.01)
    assert fit_device(wide, x_MP, y_M).mean_P[1] < -0.4
    bounded = fit_device(wide, x_MP, y_M, nonnegative=True).mean_P
    assert bounded[1] == 0 and 2 < bounded[0] < 3


def test_a_prior_learned_from_devices_has_their_mean_and_spread(learn_prior: Callable[..., DeviceBelief]) -> None:
    generator = np.random.default_rng(0)
    mean_P, deviation_P = np.array([0.5, 0.25]), np.array([0.05, 0.1])
    devices = []
    for _ in range(60):
        x_NP = generator.uniform(0, 2, (40, 2))
        coefficients_P = mean_P + deviation_P * generator.standard_normal(2)
        speed = np.exp(generator.uniform(-2, 2))
        devices.append((x_NP, speed * (x_NP @ coefficients_P) * (1 + 0.01 * generator.standard_normal(40))))
    prior = learn_prior(devices, shrinkage=0.0)
    # Speed and mean are one product: only the ratio of the coefficients, and its spread, is known. A ratio of
    # coefficients that spread by 10 % and 40 % spreads by some 40 %; both bounds are four standard errors wide.
    assert prior.mean_P[1] / prior.mean_P[0] == pytest.approx(0.5, rel=0.2)
    ratios = [fit_device(prior, x, y).mean_P for x, y in devices]
    assert np.std([b / a for a, b in ratios]) / 0.5 == pytest.approx(0.41, abs=0.15)
    assert prior.noise == pytest.approx(0.01, rel=0.3)


def test_structure_adds_directions_in_which_any_device_may_differ(learn_prior: Callable[..., DeviceBelief]) -> None:
    x_NP = np.array([[1.0, 1.0], [2.0, 1.0], [1.0, 3.0]])
    devices = [(x_NP, x_NP @ np.array([1.0, 2.0]))] * 3
    structure_PK = np.array([[0.0], [0.5]])
    plain, wide = learn_prior(devices), learn_prior(devices, structure_PK=structure_PK)
    assert wide.covariance_PP - plain.covariance_PP == pytest.approx(structure_PK @ structure_PK.T)


def test_the_first_measurement_is_the_most_uncertain_and_the_second_of_another_kind() -> None:
    candidates_NP = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]])
    prior = DeviceBelief(np.ones(2), np.diag([1.0, 0.5]), 0.1)
    assert choose_measurements(prior, candidates_NP, 2) == [0, 1]
    assert sorted(choose_measurements(prior, candidates_NP, 9)) == [0, 1, 2]


def test_a_designed_set_leaves_less_variance_than_any_random_set_of_its_size() -> None:
    generator = np.random.default_rng(1)
    candidates_NP = generator.gamma(1.0, size=(200, 4))
    prior = DeviceBelief(np.ones(4), np.eye(4), 0.05)

    def variance_left(chosen: list[int]) -> float:
        x_MP = candidates_NP[chosen]
        fit = fit_device(prior, x_MP, x_MP.sum(axis=1))
        return float(np.linalg.slogdet(fit.covariance_PP)[1])

    random = [variance_left(list(generator.choice(200, 5, replace=False))) for _ in range(50)]
    assert variance_left(choose_measurements(prior, candidates_NP, 5)) < min(random)
