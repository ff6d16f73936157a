"""Linear conditions between choices, as exactly two inputs per node: declared by a space, held by all that draws."""

# Shapes: S networks, or states of a group; n decisions, N choices of all decisions, C of one decision, R rules.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
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
DECIMALS = 9  # to which sums are compared
MOST_SUMS = 2**16  # that the coefficients of a group's choices may have after any of its decisions


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


@dataclass(frozen=True)
class Group:
    """Decisions that rules join, and the states that a network passes as they are chosen one after the other.

    A state stands for what the rules' coefficients sum to so far. `steps` has for each decision the state (S, C) that
    each choice leads to, counted anew after each decision; -1 where the rules cannot hold any more.
    """

    decisions: tuple[int, ...]
    steps: tuple[Indices, ...]


class RuleMatrix:
    """The rules of a space as rows over all choices, and the groups of decisions that they join.

    It alone draws what rules allow. Raises: UnknownDecisionError for a rule about a choice that the space lacks;
    InvalidInputError for rules whose coefficients have too many different sums.
    """

    def __init__(self, decisions: Sequence["Decision"], rules: Sequence[Rule]) -> None:
        self.first_choice = np.concatenate([[0], np.cumsum([len(decision.choices) for decision in decisions])])
        self.matrix_RN = np.zeros((len(rules), int(self.first_choice[-1])))
        places = [(decision.name, choice) for decision in decisions for choice in decision.choices]
        place = {key: k for k, key in enumerate(places)}
        for row, rule in enumerate(rules):
            for key, coefficient in rule.coefficients.items():
                if key not in place:
                    raise UnknownDecisionError(f"rule {rule.name} is about {key}, which the space lacks")
                self.matrix_RN[row, place[key]] = coefficient
        self.names = [rule.name for rule in rules]
        self.low_R, self.high_R = (np.array([getattr(rule, side) for rule in rules]) for side in ("low", "high"))
        self.groups = [self._group(decisions_joined) for decisions_joined in self._joined()]

    def block(self, decision: int) -> slice:
        """The choices of a decision among all."""
        return slice(int(self.first_choice[decision]), int(self.first_choice[decision + 1]))

    def _joined(self) -> list[tuple[int, ...]]:
        """Decisions that share a rule, directly or through others."""
        groups: list[set[int]] = []
        for row_N in self.matrix_RN:
            joined = {int(k) for k in np.searchsorted(self.first_choice, np.flatnonzero(row_N), side="right") - 1}
            apart = [group for group in groups if not group & joined]
            groups = [*apart, joined.union(*(group for group in groups if group & joined))]
        return [tuple(sorted(group)) for group in groups if group]

    def _group(self, decisions: tuple[int, ...]) -> Group:
        blocks = [self.matrix_RN[:, self.block(k)].T for k in decisions]
        own = np.any([block_CR.any(axis=0) for block_CR in blocks], axis=0)
        blocks, low_R, high_R = [b[:, own] for b in blocks], self.low_R[own] - TOLERANCE, self.high_R[own] + TOLERANCE
        least_R, most_R = sum(b.min(axis=0) for b in blocks), sum(b.max(axis=0) for b in blocks)
        steps, sums_SR = [], np.zeros((1, int(own.sum())))
        for block_CR in blocks:
            least_R, most_R = least_R - block_CR.min(axis=0), most_R - block_CR.max(axis=0)
            sums_SCR = sums_SR[:, None] + block_CR
            possible_SC = ((sums_SCR + most_R >= low_R) & (sums_SCR + least_R <= high_R)).all(axis=2)
            sums_SR, reached = np.unique(sums_SCR[possible_SC].round(DECIMALS), axis=0, return_inverse=True)
            if len(sums_SR) > MOST_SUMS:
                names = ", ".join(name for name, its in zip(self.names, own, strict=True) if its)
                raise InvalidInputError(
                    f"rules {names}: their coefficients have more than {MOST_SUMS:,} different sums; "
                    "give multiples of one number"
                )
            step_SC = np.full(possible_SC.shape, -1)
            step_SC[possible_SC] = reached.ravel()
            steps.append(step_SC)
        return Group(decisions, tuple(steps))

    def _scores(self, group: Group, scores_N: Array, join: np.ufunc) -> list[Array]:
        """For each decision, of each state and choice (S, C), the scores of all that may follow joined by `join`."""
        scores: list[Array] = []
        ahead_S = np.zeros(group.steps[-1].max() + 1)
        for decision, step_SC in zip(reversed(group.decisions), reversed(group.steps), strict=True):
            scores.append(scores_N[self.block(decision)] + np.append(ahead_S, -np.inf)[step_SC])
            ahead_S = join.reduce(scores[-1], axis=1)
        if not np.isfinite(ahead_S).all():
            raise InvalidInputError("no network of these choices obeys the rules of the space; loosen them")
        return scores[::-1]

    def sums(self, indices_Sn: Indices) -> Array:
        """What the coefficients of networks (S, n) sum to, (S, R)."""
        sums_SR: Array = self.matrix_RN[:, indices_Sn + self.first_choice[:-1]].sum(axis=2).T
        return sums_SR

    def hold(self, sums: Array) -> Mask:
        """Whether all rules hold (...,) at these sums (..., R)."""
        return np.asarray(((sums >= self.low_R - TOLERANCE) & (sums <= self.high_R + TOLERANCE)).all(axis=-1))

    def obeyed(self, indices_Sn: Indices) -> Mask:
        """Which networks (S, n) obey all rules, (S,)."""
        return self.hold(self.sums(indices_Sn))

    def reduced(self, mask_N: Mask) -> Mask:
        """The choices of `mask_N` that some network of them takes which obeys the rules.

        Raises: InvalidInputError if no network does.
        """
        mask_N = mask_N.copy()
        for group in self.groups:
            scores = self._scores(group, np.where(mask_N, 0.0, -np.inf), np.maximum)
            states = np.zeros(1, dtype=np.int64)
            for decision, step_SC, scores_SC in zip(group.decisions, group.steps, scores, strict=True):
                taken_SC = np.isfinite(scores_SC[states])
                mask_N[self.block(decision)] = taken_SC.any(axis=0)
                states = np.unique(step_SC[states][taken_SC])
        return mask_N

    def redraw(self, indices_Sn: Indices, logits_N: Array, generator: np.random.Generator) -> Indices:
        """Networks (S, n) whose decisions that rules join are drawn again: softmax of the logits, given the rules.

        Without rules they stay. Choices with a logit of -inf are not drawn. Raises: InvalidInputError if no network of
        the others obeys the rules.
        """
        return self._walk(
            indices_Sn, logits_N, np.logaddexp, lambda scores: scores + generator.gumbel(size=scores.shape)
        )

    def best(self, scores_N: Array) -> tuple[int, ...]:
        """The network (n,) with the largest sum of scores that obeys the rules."""
        alone_1n = np.array([[int(scores_N[self.block(k)].argmax()) for k in range(len(self.first_choice) - 1)]])
        return tuple(self._walk(alone_1n, scores_N, np.maximum, lambda scores: scores)[0].tolist())

    def _walk(
        self, indices_Sn: Indices, scores_N: Array, join: np.ufunc, perturbed: Callable[[Array], Array]
    ) -> Indices:
        """Networks whose joined decisions take, one after the other, the choice of the largest perturbed score."""
        indices_Sn = indices_Sn.copy()
        for group in self.groups:
            state_S = np.zeros(len(indices_Sn), dtype=np.int64)
            scores = self._scores(group, scores_N, join)
            for decision, step_SC, scores_SC in zip(group.decisions, group.steps, scores, strict=True):
                indices_Sn[:, decision] = perturbed(scores_SC[state_S]).argmax(axis=1)
                state_S = step_SC[state_S, indices_Sn[:, decision]]
        return indices_Sn

    def sample(self, size: int, generator: np.random.Generator) -> Indices:
        """Networks (size, n) drawn uniformly from those that obey the rules. Raises: InvalidInputError if none does."""
        indices_Sn = np.stack([generator.integers(count, size=size) for count in np.diff(self.first_choice)], axis=1)
        return self.redraw(indices_Sn, np.zeros(int(self.first_choice[-1])), generator)

    def neighbours(self, indices: Sequence[int], mask_N: Mask) -> Indices:
        """Networks (S, n) of the choices in `mask_N` that differ in one choice and obey the rules.

        Of decisions that rules join they may differ in two.
        """
        alive = [np.flatnonzero(mask_N[self.block(k)]).tolist() for k in range(len(indices))]
        changes: list[tuple[int, ...]] = [(decision,) for decision in range(len(indices))]
        changes += [pair for group in self.groups for pair in combinations(group.decisions, 2)]
        rows = []
        for changed in changes:
            others = [[k for k in alive[decision] if k != indices[decision]] for decision in changed]
            for choices in product(*others):
                row = np.array(indices)
                row[list(changed)] = choices
                rows.append(row)
        networks_Sn = np.array(rows, dtype=np.int64).reshape(-1, len(indices))
        return networks_Sn[self.obeyed(networks_Sn)]
