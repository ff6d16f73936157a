"""Signs of mistaken measurements: each is seen where it is, by its rows, and nowhere else."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_models.calibration.fitting import Array
from hardware_models.calibration.suspicions import LEAST, is_useless, suspicions

NUM = 24
Change = Callable[[Array, np.random.Generator], Array]


def kinds(change: Change, *, seed: int, error: float = 0.05) -> dict[str, tuple[int, ...]]:
    """Signs in times of a model with an error of so much, once they are changed, and the places that show them."""
    generator = np.random.default_rng(seed)
    truth_N = np.exp(generator.uniform(0, 2, NUM))
    predicted_N = truth_N * np.exp(error * generator.standard_normal(NUM))
    return {sign.kind: sign.places for sign in suspicions(predicted_N, change(truth_N, generator), predicted_N)}


def with_one(factor: float) -> Change:
    return lambda times_N, _: np.where(np.arange(NUM) == 7, times_N * factor, times_N)


@pytest.mark.parametrize("seed", range(20))
def test_sound_times_show_nothing(seed: int) -> None:
    assert kinds(lambda times_N, _: times_N, seed=seed) == {}
    assert kinds(lambda times_N, _: times_N, seed=seed, error=0.15).keys() <= {"drift"}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("change", "kind", "places"),
    [
        (with_one(10.0), "slow", (7,)),
        (with_one(0.1), "fast", (7,)),
        (lambda times_N, _: times_N * np.exp(np.linspace(0, 0.5, NUM)), "drift", tuple(range(NUM))),
        (lambda times_N, _: np.roll(times_N, 1), "shifted", tuple(range(NUM))),
        (
            lambda times_N, _: np.where(np.arange(NUM) % 3 == 0, 1.8 * times_N, times_N),
            "two groups",
            tuple(range(0, NUM, 3)),
        ),
        (lambda times_N, generator: generator.permutation(times_N), "order", None),
    ],
)
def test_mistakes_are_seen_with_their_rows(
    change: Change, kind: str, places: tuple[int, ...] | None, seed: int
) -> None:
    found = kinds(change, seed=seed)
    assert kind in found
    if places is not None:
        assert found[kind] == places


def test_times_without_any_order_are_of_no_use_and_few_rows_say_nothing() -> None:
    generator = np.random.default_rng(0)
    truth_N = np.exp(generator.uniform(0, 3, NUM))
    assert is_useless(truth_N, generator.permutation(truth_N))
    assert not is_useless(truth_N, truth_N * 1.5)
    few_N = truth_N[: LEAST - 1]
    assert suspicions(few_N, few_N[::-1], few_N) == []
    assert not is_useless(few_N, few_N[::-1])


@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", 40)), deadline=None)
@given(
    num=st.integers(1, 40),
    clusters=st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=3),
    noise=st.sampled_from([0.0, 1e-9, 0.05, 3.0]),
    seed=st.integers(0, 50),
)
def test_any_times_give_signs_with_rows_that_are_there(
    num: int, clusters: list[float], noise: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    predicted_N = generator.choice(clusters, num)
    measured_N = predicted_N * np.exp(noise * generator.standard_normal(num))
    for sign in suspicions(predicted_N, measured_N, predicted_N):
        assert sign.places
        assert set(sign.places) <= set(range(num))


@pytest.mark.parametrize(("rows", "word"), [(1, "above"), (-1, "below")])
def test_times_a_row_apart_are_said_to_be_of_the_row_that_they_are_of(rows: int, word: str) -> None:
    times_N = np.exp(np.random.default_rng(4).uniform(0, 2, NUM))
    (sign,) = suspicions(times_N, np.roll(times_N, rows), times_N)
    assert sign.kind == "shifted"
    assert word in sign.words
