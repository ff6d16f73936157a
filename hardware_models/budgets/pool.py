"""A pool of networks within budget, drawn from a softmax distribution conditioned on being within budget."""

# Shapes: S networks, n decisions, M metrics, F factors, N choices of all decisions, C choices of one decision,
# J combinations of choices of decisions that are drawn together.

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hardware_models.budgets.cost_table import PEAK_M, Array, CostTable, Indices, Mask

Floats = NDArray[np.float64]
ANNEALING_SWEEPS = 6
ROUNDING = 1e-12  # costs are kept up to date move by move, which drifts by less than this share
MOST_COMBINATIONS = 128  # of decisions drawn together: a table of all networks and combinations is made
START_DRAWS = 4  # networks drawn per place in the pool before annealing; those already within budget are exact draws


@dataclass(frozen=True)
class Move:
    """Decisions that are drawn together, and the combinations (J, k) of their choices that may be drawn."""

    decisions: tuple[int, ...]
    combinations_Jk: Indices


@dataclass
class _State:
    """Networks as they move: their entries in each factor, and costs in the metrics that can bind."""

    indices_Sn: Indices
    positions_FS: Indices
    totals_MS: Floats


class GibbsChains:
    """S networks moved decision by decision, each draw exact given the others, within the limits of one device.

    The stationary distribution is proportional to exp(sum of logits) on the networks of the choices in `mask_N` that
    obey the space's rules and whose costs are within `limits_M`, and zero elsewhere. Decisions that rules join are
    drawn together, all of a group or, where that would be too many combinations, some at a time.
    """

    def __init__(
        self, table: CostTable, device: int, *, mask_N: Mask, limits_M: Array, generator: np.random.Generator
    ) -> None:
        self.table, self.device, self.mask_N, self.generator = table, device, mask_N, generator
        # Metrics that no active network can exceed need no look-up.
        binding = table.worst(mask_N, device) > limits_M
        self.metrics = np.flatnonzero(binding)
        self.limits = limits_M[self.metrics]
        self.summed, self.peak = table.summed[device][self.metrics], table.peak[device]
        self.blocks = list(zip(table.first_choice[:-1], table.first_choice[1:], strict=True))
        self.rules = table.rules
        self.ruled = {decision for group in self.rules.groups for decision in group.decisions}
        self.singles = [
            Move((decision,), np.arange(last - first)[:, None])
            for decision, (first, last) in enumerate(self.blocks)
            if decision not in self.ruled
        ]

    def draw(self, logits_N: Floats, size: int) -> Indices:
        """Networks (size, n) drawn independently: softmax of `logits_N` within `mask_N`, given the rules, no limits."""
        masked_N = np.where(self.mask_N, logits_N, -np.inf)
        columns = [
            (masked_N[first:last] + self.generator.gumbel(size=(size, last - first))).argmax(axis=1)
            for first, last in self.blocks
        ]
        return self.rules.redraw(np.stack(columns, axis=1).astype(np.int64), masked_N, self.generator)

    def costs(self, indices_Sn: Indices) -> Floats:
        """Costs (M', S) in the metrics that can bind."""
        return self.table.of(indices_Sn, self.device)[:, self.metrics].T

    def start(self, logits_N: Floats, size: int, known_Sn: Indices) -> Indices:
        """Networks (size, n) within limits: independent draws, the rest annealed into them; `known_Sn` if all fail."""
        drawn_Sn = self.draw(logits_N, START_DRAWS * size)
        if len(self.metrics) == 0:
            return drawn_Sn[:size]
        ratio_S = (self.costs(drawn_Sn) / self.limits[:, None]).max(axis=0)
        chosen = np.argsort(ratio_S > 1, kind="stable")[:size]
        chosen_Sn, ratio_S = drawn_Sn[chosen], ratio_S[chosen]
        num_sweeps = ANNEALING_SWEEPS if (ratio_S > 1).any() else 0
        for left in (1 - sweep / ANNEALING_SWEEPS for sweep in range(1, num_sweeps + 1)):
            chosen_Sn = self.sweep(chosen_Sn, logits_N, slack_S=np.maximum(1.0, 1 + (ratio_S - 1) * left))
        within_S = (self.costs(chosen_Sn) <= self.limits[:, None]).all(axis=0)
        sources_Sn = chosen_Sn[within_S] if within_S.any() else known_Sn
        refill = self.generator.integers(len(sources_Sn), size=int((~within_S).sum()))
        chosen_Sn[~within_S] = sources_Sn[refill]
        return chosen_Sn

    def sweep(self, indices_Sn: Indices, logits_N: Floats, *, slack_S: Floats | None = None) -> Indices:
        """Each network, which obeys the rules, after one draw of each decision, the decisions in random order.

        `slack_S` (at least 1) widens the limits of each network; one outside even those takes its cheapest choice.
        """
        limits_MS = self.limits[:, None] * (1 - ROUNDING) * (1.0 if slack_S is None else slack_S)
        # Factors first: sums and maxima over them then run along whole rows.
        positions_FS = np.ascontiguousarray(self.table.positions(indices_Sn).T)
        totals_MS = self.summed[:, positions_FS].sum(axis=1) + self.table.constant[self.device, self.metrics][:, None]
        state = _State(indices_Sn.copy(), positions_FS, totals_MS)
        moves = [*self.singles, *self._group_moves()]
        for place in self.generator.permutation(len(moves)):
            move = moves[place]
            first, last = self.blocks[move.decisions[0]]
            if len(move.decisions) > 1 or self.mask_N[first:last].sum() > 1:
                self._move(move, logits_N, state, limits_MS)
        return state.indices_Sn

    def _group_moves(self) -> Iterator[Move]:
        """Moves that draw each group of decisions once, whole or in random parts of few combinations."""
        for group in self.rules.groups:
            alive = {k: np.flatnonzero(self.mask_N[slice(*self.blocks[k])]) for k in group.decisions}
            parts: list[list[int]] = [[]]
            for decision in self.generator.permutation(group.decisions).tolist():
                if parts[-1] and prod(len(alive[k]) for k in [*parts[-1], decision]) > MOST_COMBINATIONS:
                    parts.append([])
                parts[-1].append(decision)
            for part in parts:
                grids = np.meshgrid(*(alive[k] for k in part), indexing="ij")
                yield Move(tuple(part), np.stack([grid.ravel() for grid in grids], axis=1))

    def _logits(self, logits_N: Floats, move: Move) -> Floats:
        """Sum of the logits (J,) of each combination."""
        logits_J: Floats = logits_N[move.combinations_Jk + self.table.first_choice[list(move.decisions)]].sum(axis=1)
        return logits_J

    def _move(self, move: Move, logits_N: Floats, state: _State, limits_MS: Floats) -> None:
        """Draws the decisions of a move for each network given the others; updates `state` in place."""
        decisions, combinations_Jk = list(move.decisions), move.combinations_Jk
        strides_kF = self.table.strides[decisions]
        factors = np.flatnonzero(strides_kF.any(axis=0))
        strides_kF = strides_kF[:, factors]
        old_Sk = state.indices_Sn[:, decisions]
        without_FS = state.positions_FS[factors] - (old_Sk @ strides_kF).T
        offsets_FJ = (combinations_Jk @ strides_kF).T
        positions_FSJ = without_FS[:, :, None] + offsets_FJ[:, None, :]
        costs_MSJ = np.take(self.summed, positions_FSJ, axis=1).sum(axis=1)
        before_MS = np.take(self.summed, state.positions_FS[factors], axis=1).sum(axis=1)
        costs_MSJ += (state.totals_MS - before_MS)[:, :, None]
        checked_MSJ = costs_MSJ
        if PEAK_M[self.metrics].any():
            checked_MSJ = costs_MSJ + self._peaks(state.positions_FS, factors, positions_FSJ)
        columns_Jk = combinations_Jk + self.table.first_choice[decisions]
        excess_SJ = (checked_MSJ / limits_MS[:, :, None]).max(axis=0, initial=0.0)
        excess_SJ[:, ~self.mask_N[columns_Jk].all(axis=1)] = np.inf
        if decisions[0] in self.ruled:
            own_JR = self.rules.matrix_RN[:, columns_Jk].sum(axis=2).T
            old_SR = self.rules.matrix_RN[:, old_Sk + self.table.first_choice[decisions]].sum(axis=2).T
            rest_SR = self.rules.sums(state.indices_Sn) - old_SR
            excess_SJ[~self.rules.hold(rest_SR[:, None, :] + own_JR)] = np.inf
        allowed_SJ = excess_SJ <= 1
        noise_SJ = self.generator.gumbel(size=excess_SJ.shape)
        keys_SJ = np.where(allowed_SJ, self._logits(logits_N, move) + noise_SJ, -np.inf)
        new_S = np.where(allowed_SJ.any(axis=1), keys_SJ.argmax(axis=1), excess_SJ.argmin(axis=1))
        rows = np.arange(len(new_S))
        state.indices_Sn[:, decisions] = combinations_Jk[new_S]
        state.positions_FS[factors] = without_FS + offsets_FJ[:, new_S]
        state.totals_MS[:] = costs_MSJ[:, rows, new_S]

    def _peaks(self, positions_FS: Indices, factors: Indices, positions_FSJ: Indices) -> Floats:
        """Activation peak (M', S, J) of each network under each combination, in the units of each metric."""
        others = np.setdiff1d(np.arange(len(positions_FS)), factors)
        rest_S = self.peak[positions_FS[others]].max(axis=0, initial=0.0)
        peak_SJ = np.maximum(self.peak[positions_FSJ].max(axis=0), rest_S[:, None])
        return np.multiply.outer(PEAK_M[self.metrics], peak_SJ)


def effective_size(log_weights_S: Floats) -> float:
    """Number of equally weighted networks that would be as good: (sum w)^2 / sum w^2."""
    weights = np.exp(log_weights_S - log_weights_S.max())
    return float(weights.sum() ** 2 / (weights**2).sum())
