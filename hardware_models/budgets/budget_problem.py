"""Budgets of one device over one space: what can be met, by which network, and which choices may go.

Everything here decides and nothing acts: masks and networks go in and come out, no network is touched.
"""

# Shapes: S networks, n decisions, M metrics, N choices of all decisions.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardware_models.budgets.cost_table import METRICS, Array, CostTable, Indices, Mask
from hardware_models.budgets.exact import Solution, best_network, tightest_network
from hardware_models.budgets.pool import GibbsChains
from hardware_models.infeasible import BudgetInfeasibleError
from hardware_models.metrics import UNITS, Margin, Metric
from search_spaces.errors import InvalidInputError

LATENCY = METRICS.index("latency_ms")


@dataclass(frozen=True)
class Survivors:
    """Choices still alive (N,), and the incumbent: a network of them that meets every budget and is never pruned."""

    mask_N: Mask
    incumbent: tuple[int, ...]


@dataclass(frozen=True)
class Removal:
    """A choice taken away: its decision, its value, its utility when it went, and how far the worst case fell."""

    decision: str
    choice: int | float | str
    utility: float
    saved: Mapping[str, float]
    reason: str


class BudgetProblem:
    """Budgets `limits` (metric to limit, in the metric's unit) of one device of a cost table.

    They bind the figure that `margin` names: "upper", the bound of the device's profile, or "point", its estimate. A
    network is feasible if that figure is within every limit.
    """

    def __init__(self, table: CostTable, device: str, limits: Mapping[str, float], *, margin: Margin = "upper") -> None:
        if not limits:
            raise InvalidInputError(
                f"hardware.{device}.budgets: got none; allowed: one or more of {', '.join(METRICS)}"
            )
        self.table, self.name, self.limits, self.margin = table, device, dict(limits), margin
        self.device = table.device(device)
        self.profile = table.devices[self.device]
        self.limits_M = np.array([self._largest_total(m) for m in METRICS])

    def held(self, metric: str, total: float) -> float:
        """The figure that the budget of `metric` is checked against, of networks whose prices sum to `total`."""
        return self.profile.upper(metric, total) if self.margin == "upper" else self.profile.estimate(metric, total)

    def held_all(self, totals_M: Array) -> Array:
        """`held` of each metric, (M,)."""
        return np.array([self.held(metric, float(total)) for metric, total in zip(METRICS, totals_M, strict=True)])

    def tightened(self, metric: str, *, largest_total: float) -> "BudgetProblem":
        """The same problem with sums of `metric` at most `largest_total` too: what a refuting measurement teaches."""
        problem = BudgetProblem(self.table, self.name, self.limits, margin=self.margin)
        problem.limits_M = self.limits_M.copy()
        column = METRICS.index(metric)
        problem.limits_M[column] = min(self.limits_M[column], largest_total)
        return problem

    def is_feasible(self, indices_Sn: Indices) -> NDArray[np.bool_]:
        """Which networks (S, n) meet every budget and obey the space's rules, shape (S,)."""
        meets_SM = self.table.of(indices_Sn, self.device) <= self.limits_M
        feasible: NDArray[np.bool_] = np.logical_and.reduce(meets_SM, axis=1)
        feasible &= self.table.rules.obeyed(np.atleast_2d(indices_Sn))
        return feasible

    def utilisation(self, indices: Sequence[int]) -> dict[str, float]:
        """Share of each budget that a network uses, by the figure that the budget is checked against."""
        return self.utilisation_of(self.table.named(indices, self.device))

    def utilisation_of(self, totals: Mapping[str, float]) -> dict[str, float]:
        """`utilisation` of a network whose operations' prices sum to `totals`."""
        shares_M = self.shares(np.array([totals[metric] for metric in METRICS]))
        return {m: float(shares_M[k]) for k, m in enumerate(METRICS) if np.isfinite(self.limits_M[k])}

    def shares(self, totals: Array) -> Array:
        """Share of each budget (..., M) that sums (..., M) use, by the checked figures; 0 without a budget."""
        shares: Array = self._estimates(totals) / self._estimates(self.limits_M)
        return shares

    def is_bound(self, metric: str) -> bool:
        """Whether the figure that this budget is checked against is the upper bound of an estimate."""
        return metric == "latency_ms" and self.margin == "upper" and self.profile.network_bound is not None

    def with_best_placement(self, indices: Sequence[int]) -> tuple[int, ...]:
        """The same network placed to use the least share of its tightest budget; itself on a device of one unit."""
        if not self.table.placements[self.device]:
            return tuple(indices)
        mask_N = self._all_choices()
        fixed = [k for k in range(len(indices)) if k not in self.table.placements[self.device]]
        for decision in fixed:
            block = self.table.rules.block(decision)
            mask_N[block] = np.arange(block.stop - block.start) == indices[decision]
        return tightest_network(self.table, self.device, mask_N=mask_N, limits_M=self.limits_M).indices

    def reachable(self) -> dict[str, float]:
        """Smallest held figure of any network in each budgeted metric by itself."""
        mask_N = self._all_choices()
        smallest: dict[str, float] = {}
        for k, metric in enumerate(METRICS):
            if np.isfinite(self.limits_M[k]):
                alone_M = np.where(np.arange(len(METRICS)) == k, self.limits_M, np.inf)
                network = tightest_network(self.table, self.device, mask_N=mask_N, limits_M=alone_M)
                cost = self.table.of(np.array([network.indices]), self.device)[0, k]
                smallest[metric] = self.held(metric, float(cost))
        return smallest

    def start(self) -> tuple[Survivors, list[Removal]]:
        """Every choice that some feasible network can take, a first incumbent, and the choices presolve removed.

        Raises: BudgetInfeasibleError, with the smallest reachable values, if no network meets every budget.
        """
        mask_N = self._all_choices()
        tightest = self.tightest()
        if tightest.value > 1:
            raise self._infeasible(max(self.utilisation(tightest.indices).values()))
        kept_N = mask_N.copy()
        for choice in range(len(mask_N)):
            alone_N = mask_N.copy()
            block = self.table.rules.block(self._decision_of(choice))
            alone_N[block] = np.arange(block.start, block.stop) == choice
            kept_N[choice] = bool((self.table.cheapest(alone_N, self.device) <= self.limits_M).all())
        kept_N = self.table.rules.reduced(kept_N)
        removed = np.flatnonzero(mask_N & ~kept_N)
        nothing_M = np.zeros(len(METRICS))
        removals = [self._removal(int(c), 0.0, nothing_M, "presolve") for c in removed]
        return Survivors(kept_N, tightest.indices), removals

    def tightest(self) -> Solution:
        """The network that uses the least share of its tightest budget, and that share."""
        return tightest_network(self.table, self.device, mask_N=self._all_choices(), limits_M=self.limits_M)

    def select(
        self, scores_N: Array, *, mask_N: Mask | None = None, forbidden: Sequence[Sequence[int]] = ()
    ) -> Solution | None:
        """Feasible network with the largest sum of scores, exactly; none if every feasible one is forbidden.

        A forbidden one given by its leading decisions alone is forbidden whatever the others are.
        """
        return best_network(
            self.table,
            self.device,
            mask_N=self._all_choices() if mask_N is None else mask_N,
            limits_M=self.limits_M,
            scores_N=scores_N,
            forbidden=forbidden,
        )

    def chains(self, mask_N: Mask, generator: np.random.Generator) -> GibbsChains:
        """Sampler of feasible networks of the choices in `mask_N`."""
        return GibbsChains(self.table, self.device, mask_N=mask_N, limits_M=self.limits_M, generator=generator)

    def overshoot(self, mask_N: Mask) -> Array:
        """Worst case of the choices in `mask_N` as a share of each limit (M,), 0 where a metric has none."""
        return self.shares(self.table.worst(mask_N, self.device))

    def prune(self, survivors: Survivors, utilities_N: Array, caps_M: Array) -> tuple[Survivors, list[Removal]]:
        """Survivors whose worst network is within `caps_M` (each at least 1) times the limits, and what went.

        First the incumbent becomes the best surviving feasible network by `utilities_N` (log-probabilities). Then,
        while the worst case exceeds a cap, the choice goes that loses the least probability per relief of the exceeded
        limits; the incumbent's own choices never do. So a feasible network always survives; and since the incumbent
        alone is within every limit, pruning ends within the caps.
        """
        best = self.select(utilities_N, mask_N=survivors.mask_N)
        incumbent = survivors.incumbent if best is None else best.indices
        mask_N, removals = survivors.mask_N.copy(), []
        protected, limits_M = self.table.first_choice[:-1] + np.array(incumbent), self._estimates(self.limits_M)
        while (exceeded_M := self.overshoot(mask_N) > caps_M).any():
            before_M = self._estimates(self.table.worst(mask_N, self.device))
            saved_NM = before_M - self._estimates(self.table.worst_without(mask_N, self.device))
            # Relief beyond what is asked for is worth nothing: it would only give away networks that fit.
            asked_M = (self.overshoot(mask_N) - caps_M)[exceeded_M]
            relief_N = np.minimum(saved_NM[:, exceeded_M] / limits_M[exceeded_M], asked_M).sum(axis=1)
            candidates = mask_N.copy()
            candidates[protected] = False
            score_N = np.full(len(mask_N), np.inf)
            useful = candidates & (relief_N > 0)
            # Where no single removal helps (two choices tie for the worst case), utility alone decides.
            pickable = useful if useful.any() else candidates
            score_N[pickable] = utilities_N[pickable] - (np.log(relief_N[pickable]) if useful.any() else 0.0)
            choice = int(score_N.argmin())
            mask_N[choice] = False
            removals.append(self._removal(choice, float(utilities_N[choice]), saved_NM[choice], "budget"))
        return Survivors(mask_N, incumbent), removals

    def _estimates(self, totals: Array) -> Array:
        """Estimates (..., M) of what sums to `totals`. Their shares are those of the bounds, whose factor cancels."""
        calibrator = self.profile.calibrator
        if calibrator is None:
            return totals
        estimates = totals.copy()
        estimates[..., LATENCY] = calibrator.latencies_ms(totals[..., LATENCY])
        return estimates

    def _largest_total(self, metric: Metric) -> float:
        if metric not in self.limits:
            return float("inf")
        return self.profile.largest_total(metric, self.limits[metric], margin=self.margin)

    def _infeasible(self, ratio: float) -> BudgetInfeasibleError:
        smallest = {metric: figure for metric, figure in self.reachable().items() if figure > self.limits[metric]}
        lines = [
            f"{metric}: the smallest network needs {figure:.4g} {UNITS[metric]}"
            f"{self._beside_estimate(metric, figure)}, "
            f"budget {self.limits[metric]:.4g} ({figure / self.limits[metric]:.2f}x)"
            for metric, figure in smallest.items()
        ]
        budgets = ", ".join(f"{metric} <= {limit:g}" for metric, limit in self.limits.items())
        together = f" together ({budgets}): each is reachable alone, all of them only if every one grows {ratio:.2f}x"
        why = f": {'; '.join(lines)}" if lines else together
        subject = f"no network of space {self.table.space.name} meets the budgets of {self.name}"
        message = f"{subject}{why}; raise them or widen the space"
        return BudgetInfeasibleError(message, smallest=smallest, ratio=ratio)

    def _beside_estimate(self, metric: str, held: float) -> str:
        """What else is to be known of a figure that a budget is checked against: that it is a bound, and of what."""
        bound = self.profile.network_bound
        if bound is None or not self.is_bound(metric):
            return ""
        estimate = held / (bound.factor * self.profile.widening)
        advice = "; margin=point holds the estimate" if estimate <= self.limits[metric] else ""
        widened = f"; {self.profile.outside}" if self.profile.outside else ""
        return f" (at the {bound.level:.0%} bound of its estimate, {estimate:.4g}{advice}{widened})"

    def _all_choices(self) -> Mask:
        return np.ones(int(self.table.first_choice[-1]), dtype=bool)

    def _decision_of(self, choice: int) -> int:
        return int(np.searchsorted(self.table.first_choice, choice, side="right")) - 1

    def _removal(self, choice: int, utility: float, saved_M: Array, reason: str) -> Removal:
        position = self._decision_of(choice)
        decision, first = self.table.space.decisions[position], self.table.first_choice[position]
        saved: dict[str, float] = {metric: float(value) for metric, value in zip(METRICS, saved_M, strict=True)}
        return Removal(decision.name, decision.choices[choice - first], utility, saved, reason)
