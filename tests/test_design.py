"""What to measure next: designed networks tell more than as many random ones."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from measured_networks import (
    mobile_networks,
    true_device,
    true_times,
    write_networks,
)

from hardware_models.calibration.design import ORDINARY, propose
from hardware_models.calibration.device_prior import DeviceBelief, fit_device
from hardware_models.calibration.fitting import Array, fit_with_prior
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import population_design, roofline_amounts
from hardware_models.measuring.measurements import read_measurements
from search_spaces.errors import InvalidInputError


@cache
def candidates() -> tuple[list[str], Array, Array, list[int]]:
    """Names of 300 networks, their features, their times on the typical device, and the places of ordinary ones."""
    networks, fit = mobile_networks(300), population_design(load_population())
    x_NP = fit.features(roofline_amounts(list(networks.values()), bytes_per_element=4))
    typical_N = x_NP @ fit.prior_P
    low, high = np.quantile(typical_N, ORDINARY)
    return list(networks), x_NP, typical_N, list(np.flatnonzero((typical_N >= low) & (typical_N <= high)))


def design(num: int) -> list[int]:
    chosen = propose(mobile_networks(300), (), num_networks=num, num_random=0, bytes_per_element=4)
    return [candidates()[0].index(proposal.name) for proposal in chosen]


def relative_variance(chosen: Sequence[int]) -> float:
    """Mean over ordinary networks of the variance of their times that is left once the chosen ones are measured."""
    _, x_NP, typical_N, ordinary = candidates()
    prior = load_population().prior(population_design(load_population()).columns)
    device = fit_device(prior, x_NP[chosen], typical_N[chosen])
    variance_N = np.einsum("np,pq,nq->n", x_NP, device.covariance_PP, x_NP) / typical_N**2
    return float(variance_N[ordinary].mean())


@pytest.mark.parametrize("num", [5, 10, 20])
def test_designed_networks_leave_less_variance_than_as_many_random_ones(num: int) -> None:
    generator, ordinary = np.random.default_rng(0), candidates()[3]
    drawn = [relative_variance(generator.choice(ordinary, num, replace=False)) for _ in range(50)]
    assert relative_variance(design(num)) < min(drawn)


def test_designed_networks_give_a_smaller_error_on_other_networks_than_random_ones() -> None:
    # 200 devices drawn from the population, measured with 5 % noise: the errors are about 1.7 % and 2.1 %.
    population, generator = load_population(), np.random.default_rng(0)
    fit, (_, x_NP, _, ordinary) = population_design(population), candidates()
    deviation_P = np.array([population.columns[column].log_deviation for column in fit.columns])
    designed, gains = design(10), []
    for _ in range(200):
        true_N = x_NP @ (fit.prior_P * np.exp(generator.normal(size=len(deviation_P)) * deviation_P))
        measured_N = true_N * np.exp(0.05 * generator.normal(size=len(true_N)))
        chosen = (designed, generator.choice(ordinary, 10, replace=False))
        fitted = [fit_with_prior(x_NP[rows], measured_N[rows], fit.prior_P) for rows in chosen]
        of_design, of_draw = (np.abs(x_NP @ c / true_N - 1)[ordinary].mean() for c in fitted)
        gains.append(of_draw - of_design)
    assert np.mean(gains) > 3 * np.std(gains) / math.sqrt(len(gains))


def test_proposed_networks_are_ordinary_and_distinct() -> None:
    chosen = design(12)
    assert len(set(chosen)) == 12
    assert set(chosen) <= set(candidates()[3])


def test_random_networks_are_the_first_candidates_whatever_their_latency_and_come_last() -> None:
    networks = mobile_networks(300)
    chosen = propose(networks, (), num_networks=41, num_random=30, bytes_per_element=4)
    assert [proposal.part for proposal in chosen] == ["telling"] * 11 + ["random"] * 30
    assert [proposal.name for proposal in chosen[11:]] == list(networks)[:30]
    assert len({proposal.name for proposal in chosen}) == 41
    assert not {*range(30)} <= set(candidates()[3])  # some of them are not ordinary


def test_measured_networks_and_their_likes_are_not_proposed_again(tmp_path: Path) -> None:
    networks = mobile_networks(60)
    first = [p.name for p in propose(networks, (), num_networks=6, num_random=2, bytes_per_element=4)]
    known = {name: networks[name] for name in first[:5]} | {"other name": networks[first[5]]}
    times = true_times(known, true_device(speed=3))
    rows = read_measurements(write_networks(tmp_path / "bench.csv", known, times)).rows
    more = propose(networks, rows, num_networks=30, num_random=9, bytes_per_element=4)
    assert {proposal.name for proposal in more}.isdisjoint(first)
    truth = true_times(networks, true_device(speed=3))
    for proposal in more:  # six measurements know the device within a fifth
        assert proposal.predicted_ms == pytest.approx(truth[proposal.name], rel=0.2)
        assert proposal.deviation_ms is not None and 0 < proposal.deviation_ms < proposal.predicted_ms
    with pytest.raises(InvalidInputError, match=r"propose: got 60, of them 9 at random"):
        propose(networks, rows, num_networks=60, num_random=9, bytes_per_element=4)


def test_a_design_follows_what_is_measured_already() -> None:
    # Two columns of equal spread: one measurement of the first leaves the second as the uncertain one.
    prior = DeviceBelief(np.ones(2), np.eye(2) * 0.25, noise=0.05)
    x_NP = np.array([[1.0, 0.1], [0.1, 1.0]])
    device = fit_device(prior, x_NP[:1], x_NP[:1] @ prior.mean_P)
    left_N = np.einsum("np,pq,nq->n", x_NP, device.covariance_PP, x_NP)
    assert left_N[0] < 0.1 * left_N[1]
