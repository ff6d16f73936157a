"""Milliseconds between the entries of a look-up table, by the logarithms of sizes and times."""

# Shapes: N entries of one category, C coordinates.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator

Array = NDArray[np.float64]
Category = tuple[str | int, ...]
Sizes = tuple[float, ...]

# Mean error in % on blocks of four phones held out at random, and by unseen channels: this 1.15 and 1.49, with 32
# neighbours 1.15 and 1.42; Gaussian functions 1.14 and 1.58; local linear regression on 16 neighbours 1.31 and 2.20;
# the nearest entry moved along the trend 1.59 and 1.75; the trend alone 7.84 and 8.38.
NEIGHBOURS = 16
BEYOND = 1.25  # a coordinate may leave the range of the entries by this factor: a step of most tables
REACH = 2.0  # by the trend, the nearest entry takes at least 1/REACH and at most REACH times as long as the operation


@dataclass(frozen=True, slots=True)
class Entry:
    """One measured time: what must be equal to compare, sizes between which to interpolate, ms; all above 0."""

    category: Category
    sizes: Sizes
    ms: float


@final
class LookUpTable:
    """Prices of what was measured, and of what lies between entries of its category; nothing beyond.

    A time between entries is a log-linear trend through its category plus what its nearest entries leave of that trend
    (linear radial basis functions over the logarithms of sizes), so that every entry is met exactly.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        by_category: dict[Category, dict[Sizes, float]] = {}
        for entry in entries:
            known = by_category.setdefault(entry.category, {})
            known[entry.sizes] = entry.ms
        self._categories = {category: _Category(known) for category, known in by_category.items()}

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(self._categories)

    def price_ms(self, category: Category, sizes: Sizes) -> float | None:
        """Milliseconds, exact for an entry; None where `missing` has a reason."""
        prices = self._categories.get(category)
        if prices is None:
            return None
        exact = prices.exact_ms.get(sizes)
        if exact is not None:
            return exact
        return None if prices.too_far(sizes) else prices.between_ms(sizes)

    def missing(self, category: Category, sizes: Sizes) -> str:
        """Why there is no price: no such category, or too far from the entries, by how much and what is allowed."""
        prices = self._categories.get(category)
        if prices is None:
            return f"no entry for {_words(category)}"
        return f"{len(prices.exact_ms)} entries for {_words(category)}, but {prices.too_far(sizes)}"


@final
class _Category:
    """Entries of one category: exact times, their log-linear trend, and an interpolant of what is left of it."""

    def __init__(self, exact_ms: dict[Sizes, float]) -> None:
        self.exact_ms = exact_ms
        logs_NC = np.log(np.array(list(exact_ms)))
        log_ms_N = np.log(list(exact_ms.values()))
        self._low_C, self._high_C = logs_NC.min(axis=0), logs_NC.max(axis=0)
        self._centre_C, self._level = logs_NC.mean(axis=0), float(log_ms_N.mean())
        # Least norm: a direction in which the entries do not vary gets no slope, and `too_far` refuses to go there.
        centred_NC = logs_NC - self._centre_C
        self._slope_C = np.linalg.lstsq(centred_NC, log_ms_N - self._level, rcond=1e-9)[0]
        self._varied_CC = np.linalg.pinv(centred_NC, rcond=1e-9) @ centred_NC
        self._points_NC = centred_NC
        left_N = log_ms_N - self._level - centred_NC @ self._slope_C
        neighbours = min(NEIGHBOURS, len(left_N))
        self._left = RBFInterpolator(self._points_NC, left_N, neighbors=neighbours, kernel="linear", degree=0)

    def between_ms(self, sizes: Sizes) -> float:
        offset_C = np.log(sizes) - self._centre_C
        left = float(self._left(offset_C[None])[0])
        return exp(self._level + float(offset_C @ self._slope_C) + left)

    def too_far(self, sizes: Sizes) -> str:
        """Why no price is given here; empty where one is."""
        log_C = np.log(sizes)
        beyond_C = np.maximum(self._low_C - log_C, log_C - self._high_C)
        if beyond_C.max() > log(BEYOND) + 1e-9:
            c = int(beyond_C.argmax())
            low, high = exp(self._low_C[c]), exp(self._high_C[c])
            return (
                f"its size {sizes[c]:g} is outside of their range {low:g} to {high:g} by a factor of "
                f"{exp(beyond_C[c]):.3g}; allowed: {BEYOND:g}"
            )
        offset_C = log_C - self._centre_C
        if np.abs(offset_C - offset_C @ self._varied_CC).max() > 1e-6:
            return f"they do not vary in the direction of its sizes {_numbers(sizes)}"
        factor = exp(float(np.linalg.norm((self._points_NC - offset_C) * self._slope_C, axis=1).min()))
        if factor > REACH:
            return f"the nearest differs by a factor of about {factor:.3g} in time; allowed: {REACH:g}"
        return ""


def _words(category: Category) -> str:
    return " ".join(map(str, category))


def _numbers(sizes: Sequence[float]) -> str:
    return ", ".join(f"{size:g}" for size in sizes)
