"""Linear conditions between choices, as exactly two inputs per node: declared by a space, held by all that draws."""

# Shapes: S networks, n decisions, N choices of all decisions, R rules, J combinations of the choices of a group.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import InvalidInputError, UnknownDecisionError

if TYPE_CHECKING:
    from search_spaces.space import Choice, Decision

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

TOLERANCE = 1e-9
MOST_LISTED = 2**16  # combinations of the decisions that rules join, up to which they are listed one by one
MOST_DRAWS = 1000  # networks drawn per network wanted, where there are too many combinations to list


@dataclass(frozen=True)
class Rule:
    """The coefficients of a network's choices sum to a number in [low, high]; what is not listed counts 0.

    `coefficients` are keyed by pairs of the name of a decision and one of its choices.
    """

    name: str
    coefficients: Mapping[tuple[str, "Choice"], float]
    low: float = -np.inf
    high: float = np.inf

    def holds(self, choices: Mapping[str, "Choice"]) -> bool:
        """Whether a network of these choices obeys the rule."""
        total = sum(self.coefficients.get((name, choice), 0.0) for name, choice in choices.items())
        return self.low - TOLERANCE <= total <= self.high + TOLERANCE


class RuleMatrix:
    """The rules of a space as rows over all choices, and the groups of decisions that they join.

    Raises: UnknownDecisionError for a rule about a choice that the space lacks.
    """

    def __init__(self, decisions: Sequence["Decision"], rules: Sequence[Rule]) -> None:
        self.first_choice = np.concatenate([[0], np.cumsum([len(decision.choices) for decision in decisions])])
        self.matrix_RN = np.zeros((len(rules), int(self.first_choice[-1])))
        place = {(d.name, c): int(a) + k for d, a in self._starts(decisions) for k, c in enumerate(d.choices)}
        for row, rule in enumerate(rules):
            for key, coefficient in rule.coefficients.items():
                if key not in place:
                    raise UnknownDecisionError(f"rule {rule.name} is about {key}, which the space lacks")
                self.matrix_RN[row, place[key]] = coefficient
        self.low_R, self.high_R = (np.array([getattr(rule, side) for rule in rules]) for side in ("low", "high"))
        self.groups = self._joined()

    def _starts(self, decisions: Sequence["Decision"]) -> "zip[tuple[Decision, np.int64]]":
        return zip(decisions, self.first_choice[:-1], strict=True)

    def _joined(self) -> list[tuple[int, ...]]:
        """Decisions that share a rule, directly or through others."""
        groups: list[set[int]] = []
        for row_N in self.matrix_RN:
            joined = {int(k) for k in np.searchsorted(self.first_choice, np.flatnonzero(row_N), side="right") - 1}
            apart = [group for group in groups if not group & joined]
            groups = [*apart, joined.union(*(group for group in groups if group & joined))]
        return [tuple(sorted(group)) for group in groups if group]

    def sums(self, indices_Sn: Indices) -> Array:
        """What the coefficients of networks (S, n) sum to, (S, R)."""
        sums_SR: Array = self.matrix_RN[:, indices_Sn + self.first_choice[:-1]].sum(axis=2).T
        return sums_SR

    def missed_by(self, sums: Array) -> Array:
        """The most (...,) by which sums (..., R) lie outside of any rule, 0 where all hold."""
        outside = np.maximum(self.low_R - sums, sums - self.high_R)
        missed: Array = np.where(outside > TOLERANCE, outside, 0.0).max(axis=-1, initial=0.0)
        return missed

    def obeyed(self, indices_Sn: Indices) -> Mask:
        """Which networks (S, n) obey all rules, (S,)."""
        if not len(self.matrix_RN):
            return np.ones(len(indices_Sn), dtype=bool)
        return np.asarray(self.missed_by(self.sums(indices_Sn)) == 0)

    def reduced(self, mask_N: Mask) -> Mask:
        """The choices of `mask_N` without those that break a rule whatever the rest takes, as far as bounds show."""
        mask_N = mask_N.copy()
        starts = self.first_choice[:-1]
        while len(self.matrix_RN):
            least_Rn = np.minimum.reduceat(np.where(mask_N, self.matrix_RN, np.inf), starts, axis=1)
            most_Rn = np.maximum.reduceat(np.where(mask_N, self.matrix_RN, -np.inf), starts, axis=1)
            if not np.isfinite(least_Rn).all():  # a decision is left without choice: no network obeys the rules
                return mask_N
            own = np.repeat(np.arange(len(starts)), np.diff(self.first_choice))
            lowest_RN = self.matrix_RN + (least_Rn.sum(axis=1, keepdims=True) - least_Rn)[:, own]
            highest_RN = self.matrix_RN + (most_Rn.sum(axis=1, keepdims=True) - most_Rn)[:, own]
            possible_RN = lowest_RN <= self.high_R[:, None] + TOLERANCE
            possible_RN &= highest_RN >= self.low_R[:, None] - TOLERANCE
            smaller_N = mask_N & possible_RN.all(axis=0)
            if (smaller_N == mask_N).all():
                break
            mask_N = smaller_N
        return mask_N

    def combinations(self, group: Sequence[int], mask_N: Mask, *, most: int) -> Indices | None:
        """All combinations (J, len(group)) of the choices in `mask_N`, rules aside; None if there are more than `most`.

        They are indices of choices within their decisions.
        """
        blocks = list(pairwise(self.first_choice))
        alive = [np.flatnonzero(mask_N[blocks[k][0] : blocks[k][1]]) for k in group]
        if prod(map(len, alive)) > most:
            return None
        return np.stack([grid.ravel() for grid in np.meshgrid(*alive, indexing="ij")], axis=1)

    def allowed_combinations(self, group: tuple[int, ...], mask_N: Mask) -> Indices | None:
        """Those of a whole group of `groups` that obey the rules; None if there are too many to list."""
        combinations_Jk = self.combinations(group, mask_N, most=MOST_LISTED)
        if combinations_Jk is None:
            return None
        own_R = self._rows_of(group)
        columns_Jk = combinations_Jk + self.first_choice[list(group)]
        return combinations_Jk[self._holds(self.matrix_RN[:, columns_Jk].sum(axis=2).T, own_R)]

    def _holds(self, sums_JR: Array, own_R: Mask) -> Mask:
        within_JR = (sums_JR >= self.low_R - TOLERANCE) & (sums_JR <= self.high_R + TOLERANCE)
        return np.asarray((within_JR | ~own_R).all(axis=1))

    def _rows_of(self, group: Sequence[int]) -> Mask:
        """Rules (R,) about a decision of the group."""
        about = [self.matrix_RN[:, self.first_choice[k] : self.first_choice[k + 1]].any(axis=1) for k in group]
        rows_R: Mask = np.logical_or.reduce(about)
        return rows_R

    def sample(self, size: int, generator: np.random.Generator) -> Indices:
        """Networks (size, n) drawn uniformly from those that obey the rules.

        Raises: InvalidInputError if there is none, or none is met by chance where there are too many to list.
        """
        indices_Sn = np.stack([generator.integers(count, size=size) for count in np.diff(self.first_choice)], axis=1)
        everything_N = np.ones(int(self.first_choice[-1]), dtype=bool)
        for group in self.groups:
            allowed_Jk = self.allowed_combinations(group, everything_N)
            if allowed_Jk is None:
                allowed_Jk = self._met_by_chance(group, size, generator)
            elif len(allowed_Jk):
                allowed_Jk = allowed_Jk[generator.integers(len(allowed_Jk), size=size)]
            if len(allowed_Jk) < size:
                raise InvalidInputError("no network obeys the rules of the space, or too few to draw; loosen them")
            indices_Sn[:, list(group)] = allowed_Jk[:size]
        return indices_Sn

    def _met_by_chance(self, group: tuple[int, ...], size: int, generator: np.random.Generator) -> Indices:
        own_R, counts = self._rows_of(group), np.diff(self.first_choice)[list(group)]
        met: list[Indices] = []
        for _ in range(MOST_DRAWS):
            drawn_Sk = np.stack([generator.integers(count, size=size) for count in counts], axis=1)
            sums_SR = self.matrix_RN[:, drawn_Sk + self.first_choice[list(group)]].sum(axis=2).T
            met.append(drawn_Sk[self._holds(sums_SR, own_R)])
            if sum(map(len, met)) >= size:
                break
        return np.concatenate(met)
