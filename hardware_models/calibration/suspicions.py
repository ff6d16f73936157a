"""What looks wrong with a file of measured networks once a model is fitted to it: signs of how it was measured."""

# Shapes: N held-out networks, in the order of the file.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from hardware_models.calibration.fitting import Array

LEAST = 10  # networks below which chance makes any sign
OUTLYING = np.log(2.0), 6.0  # a row off by both a factor of two and six deviations of the others stands out
TWO_PEAKED = 4.5, 0.2, np.log(1.2)  # distance of two halves in deviations, least share and distance of each
DRIFTING = 0.001, 0.1  # chance of such an order, and how much times change from the first row to the last
SHIFTED = 0.3  # by which ranks agree better with the times of the rows beside
DISORDERED = 0.7, 0.15, 0.05  # least rank correlation where the median error is larger, or where chance gives as much
USELESS = 0.3, 0.25


@dataclass(frozen=True)
class Suspicion:
    """One sign, by its `kind`, the places of the rows that show it, and what to do."""

    kind: str
    places: tuple[int, ...]
    words: str


def suspicions(predicted_N: Array, measured_N: Array, typical_N: Array) -> list[Suspicion]:
    """Signs of mistaken measurements in held-out predictions and times; `typical_N` are times on a typical device.

    Times near their predictions show none: a model's own error is what each sign is compared with.
    """
    if len(measured_N) < LEAST:
        return []
    residual_N = np.log(measured_N / predicted_N)
    found = [*_shifted(measured_N, typical_N)]
    if not found:
        found = [*_two_peaked(residual_N), *_drifting(residual_N), *_disordered(predicted_N, measured_N)]
        found += _outlying(residual_N)
    return found


def is_useless(predicted_N: Array, measured_N: Array) -> bool:
    """Whether predictions say next to nothing about the order of networks that they are far off of."""
    least, error = USELESS
    far = float(np.median(np.abs(predicted_N / measured_N - 1))) > error
    return len(measured_N) >= LEAST and far and _rank_correlation(predicted_N, measured_N) < least


def _outlying(residual_N: Array) -> Iterator[Suspicion]:
    least, deviations = OUTLYING
    off_N = residual_N - np.median(residual_N)
    limit = max(least, deviations * _deviation(off_N))
    for sign, kind, words in ((1, "slow", "slower"), (-1, "fast", "faster")):
        places = np.flatnonzero(sign * off_N > limit)
        if len(places):
            factor = float(np.exp(np.abs(off_N[places]).max()))
            yield Suspicion(
                kind,
                tuple(places.tolist()),
                f"up to {factor:.2g} times {words} than the others predict; measure them again",
            )


def _two_peaked(residual_N: Array) -> Iterator[Suspicion]:
    """Two groups of rows, one of them slower by the same factor throughout: a throttled half, or a second device."""
    deviations, share, distance = TWO_PEAKED
    sorted_N = np.sort(residual_N)
    least = max(3, round(share * len(sorted_N)))
    splits = range(least, len(sorted_N) - least + 1)
    spread = [sorted_N[:k].var() * k + sorted_N[k:].var() * (len(sorted_N) - k) for k in splits]
    k = splits[int(np.argmin(spread))]
    gap = float(sorted_N[k:].mean() - sorted_N[:k].mean())
    if gap > distance and gap > deviations * np.sqrt(min(spread) / len(sorted_N)):
        slow = np.flatnonzero(residual_N >= sorted_N[k])
        yield Suspicion(
            "two groups",
            tuple(slow.tolist()),
            f"{np.exp(gap):.2g} times slower than predicted beside the other rows, and hardly any between: throttled, "
            "or another device? Measure these again, or split the file",
        )


def _drifting(residual_N: Array) -> Iterator[Suspicion]:
    chance, change = DRIFTING
    if np.ptp(residual_N) == 0:
        return
    order_N = np.arange(len(residual_N))
    found = spearmanr(order_N, residual_N)
    slope = float(np.polyfit(order_N, residual_N, 1)[0]) * (len(order_N) - 1)
    if found.pvalue < chance and abs(slope) > change:
        words = "slower" if slope > 0 else "faster"
        yield Suspicion(
            "drift",
            tuple(order_N.tolist()),
            f"the device became {np.exp(abs(slope)):.2g} times {words} from the first row to the last: did it warm up, "
            "or was it busy? Let it rest, and measure again",
        )


def _shifted(measured_N: Array, typical_N: Array) -> Iterator[Suspicion]:
    own = _rank_correlation(typical_N, measured_N)
    beside = {"above": (typical_N[:-1], measured_N[1:]), "below": (typical_N[1:], measured_N[:-1])}
    for where, (typical, measured) in beside.items():
        correlation = _rank_correlation(typical, measured)
        if correlation > own + SHIFTED and correlation > DISORDERED[0]:
            every = tuple(range(len(measured_N)))
            yield Suspicion("shifted", every, f"each time fits the network of the row {where}: are they a row apart?")


def _disordered(predicted_N: Array, measured_N: Array) -> Iterator[Suspicion]:
    least, error, chance = DISORDERED
    correlation = _rank_correlation(predicted_N, measured_N)
    far = float(np.median(np.abs(predicted_N / measured_N - 1))) > error
    # Of times that hardly differ, predictions may be right and rank by chance; but not against chance.
    by_chance = correlation <= 0 or spearmanr(predicted_N, measured_N, alternative="greater").pvalue > chance
    if correlation < least and (far or by_chance):
        worst = np.argsort(-np.abs(np.log(measured_N / predicted_N)))[:5]
        yield Suspicion(
            "order",
            tuple(sorted(worst.tolist())),
            f"predictions hardly rank the networks (Spearman {correlation:.2f}); these are furthest off: are times and "
            "networks of the same rows, and of one device?",
        )


def _deviation(values_N: Array) -> float:
    """Of a normal distribution of the same median deviation."""
    return 1.4826 * float(np.median(np.abs(values_N - np.median(values_N))))


def _rank_correlation(one_N: Array, other_N: Array) -> float:
    if np.ptp(one_N) == 0 or np.ptp(other_N) == 0:
        return 0.0
    return float(spearmanr(one_N, other_N).statistic)
