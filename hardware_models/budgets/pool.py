"""A pool of networks within budget, drawn from a softmax distribution conditioned on being within budget."""

# Shapes: S networks, n decisions, M metrics, F factors, N choices of all decisions, C choices of one decision.

import numpy as np
from numpy.typing import NDArray

from hardware_models.budgets.cost_table import PEAK, Array, CostTable, Indices, Mask

Floats = NDArray[np.float64]
ANNEALING_SWEEPS = 6
ROUNDING = 1e-12  # costs are kept up to date move by move, which drifts by less than this share
START_DRAWS = 4  # networks drawn per place in the pool before annealing; those already within budget are exact draws


class GibbsChains:
    """S networks moved decision by decision, each draw exact given the others, within the limits of one device.

    The stationary distribution is proportional to exp(sum of logits) on the networks of the choices in `mask_N` whose
    costs are within `limits_M`, and zero elsewhere.
    """

    def __init__(
        self, table: CostTable, device: int, *, mask_N: Mask, limits_M: Array, generator: np.random.Generator
    ) -> None:
        self.table, self.device, self.mask_N, self.generator = table, device, mask_N, generator
        # Metrics that no living network can exceed need no look-up.
        binding = table.worst(mask_N, device) > limits_M
        self.metrics = np.flatnonzero(binding)
        self.limits = limits_M[self.metrics]
        self.summed, self.peak = table.summed[device][self.metrics], table.peak[device]
        self.blocks = list(zip(table.first_choice[:-1], table.first_choice[1:], strict=True))
        self.touching = [np.flatnonzero(strides) for strides in table.strides]

    def draw(self, logits_N: Floats, size: int) -> Indices:
        """Networks (size, n) with decisions drawn independently: softmax of `logits_N` within `mask_N`, no limits."""
        columns = []
        for first, last in self.blocks:
            logits_C = np.where(self.mask_N[first:last], logits_N[first:last], -np.inf)
            gumbel_SC = self.generator.gumbel(size=(size, last - first))
            columns.append((logits_C + gumbel_SC).argmax(axis=1))
        return np.stack(columns, axis=1).astype(np.int64)

    def costs(self, indices_Sn: Indices) -> Floats:
        """Costs (M', S) in the metrics that can bind."""
        return self.table.of(indices_Sn, self.device)[:, self.metrics].T

    def start(self, logits_N: Floats, size: int, known_Sn: Indices) -> Indices:
        """Networks (size, n) within limits: independent draws, the rest annealed into them; `known_Sn` if all fail."""
        drawn_Sn = self.draw(logits_N, START_DRAWS * size)
        if len(self.metrics) == 0:
            return drawn_Sn[:size]
        excess_S = (self.costs(drawn_Sn) / self.limits[:, None]).max(axis=0)
        chosen_Sn = drawn_Sn[np.argsort(excess_S > 1, kind="stable")[:size]]
        ratio_S = (self.costs(chosen_Sn) / self.limits[:, None]).max(axis=0)
        for sweep in range(1, ANNEALING_SWEEPS + 1):
            if (ratio_S <= 1).all():
                break
            slack_S = np.maximum(1.0, 1 + (ratio_S - 1) * (1 - sweep / ANNEALING_SWEEPS))
            chosen_Sn = self.sweep(chosen_Sn, logits_N, slack_S=slack_S)
        within_S = (self.costs(chosen_Sn) <= self.limits[:, None]).all(axis=0)
        sources_Sn = chosen_Sn[within_S] if within_S.any() else known_Sn
        refill = self.generator.integers(len(sources_Sn), size=int((~within_S).sum()))
        chosen_Sn[~within_S] = sources_Sn[refill]
        return chosen_Sn

    def sweep(self, indices_Sn: Indices, logits_N: Floats, *, slack_S: Floats | None = None) -> Indices:
        """Each network after one draw of each decision, the decisions in random order.

        `slack_S` (at least 1) widens the limits of each network; one outside even those takes its cheapest choice.
        """
        indices_Sn = indices_Sn.copy()
        limits_MS = self.limits[:, None] * (1 - ROUNDING) * (1.0 if slack_S is None else slack_S)
        # Factors first: sums and maxima over them then run along whole rows.
        positions_FS = np.ascontiguousarray(self.table.positions(indices_Sn).T)
        totals_MS = self.summed[:, positions_FS].sum(axis=1) + self.table.constant[self.device, self.metrics][:, None]
        for decision in self.generator.permutation(len(self.blocks)):
            first, last = self.blocks[decision]
            if self.mask_N[first:last].sum() > 1:
                self._move(int(decision), logits_N[first:last], indices_Sn, positions_FS, totals_MS, limits_MS)
        return indices_Sn

    def _move(
        self,
        decision: int,
        logits_C: Floats,
        indices_Sn: Indices,
        positions_FS: Indices,
        totals_MS: Floats,
        limits_MS: Floats,
    ) -> None:
        """Draws one decision of each network given the others; updates networks, positions and totals in place."""
        factors = self.touching[decision]
        old_S = indices_Sn[:, decision]
        strides_F = self.table.strides[decision, factors]
        without_FS = positions_FS[factors] - old_S * strides_F[:, None]
        offsets_FC = np.arange(len(logits_C)) * strides_F[:, None]
        positions_FSC = without_FS[:, :, None] + offsets_FC[:, None, :]
        costs_MSC = np.take(self.summed, positions_FSC, axis=1).sum(axis=1)
        rows = np.arange(len(old_S))
        costs_MSC += (totals_MS - costs_MSC[:, rows, old_S])[:, :, None]
        checked_MSC = costs_MSC
        if PEAK in self.metrics:
            checked_MSC = costs_MSC + self._peaks(positions_FS, factors, positions_FSC)
        first = self.blocks[decision][0]
        living_C = self.mask_N[first : first + len(logits_C)]
        excess_SC = (checked_MSC / limits_MS[:, :, None]).max(axis=0, initial=0.0)
        excess_SC[:, ~living_C] = np.inf
        allowed_SC = excess_SC <= 1
        keys_SC = np.where(allowed_SC, logits_C + self.generator.gumbel(size=excess_SC.shape), -np.inf)
        new_S = np.where(allowed_SC.any(axis=1), keys_SC.argmax(axis=1), excess_SC.argmin(axis=1))
        indices_Sn[:, decision] = new_S
        positions_FS[factors] = without_FS + new_S * strides_F[:, None]
        totals_MS[:] = costs_MSC[:, rows, new_S]

    def _peaks(self, positions_FS: Indices, factors: Indices, positions_FSC: Indices) -> Floats:
        """Activation peak (M', S, C) of each network under each choice, zero but in the row of peak memory."""
        others = np.setdiff1d(np.arange(len(positions_FS)), factors)
        rest_S = self.peak[positions_FS[others]].max(axis=0, initial=0.0)
        peak_SC = np.maximum(self.peak[positions_FSC].max(axis=0), rest_S[:, None])
        return (self.metrics == PEAK)[:, None, None] * peak_SC


def effective_size(log_weights_S: Floats) -> float:
    """Number of equally weighted networks that would be as good: (sum w)^2 / sum w^2."""
    weights = np.exp(log_weights_S - log_weights_S.max())
    return float(weights.sum() ** 2 / (weights**2).sum())
