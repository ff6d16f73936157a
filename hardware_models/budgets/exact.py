"""Exact choice of one network under budgets, as a mixed integer linear program solved by HiGHS."""

# Shapes: M metrics, F factors, E entries of all factors, N choices of all decisions, n decisions.

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix, csr_matrix, vstack

from hardware_models.budgets.cost_table import PEAK_M, Array, CostTable, Indices, Mask
from search_spaces.errors import EspalierError

# HiGHS honours a row to about this share of its right-hand side; limits are widened by it, and its networks checked.
TOLERANCE = 1e-7


class SolverError(EspalierError):
    """HiGHS ended without an answer."""


@dataclass(frozen=True)
class Solution:
    """A network (n,) and its objective."""

    indices: tuple[int, ...]
    value: float


def best_network(
    table: CostTable,
    device: int,
    *,
    mask_N: Mask,
    limits_M: Array,
    scores_N: Array,
    forbidden: Sequence[Sequence[int]] = (),
) -> Solution | None:
    """Network of the choices in `mask_N` with the largest sum of scores among those within limits; none if none is.

    `limits_M` are point limits, infinite where a metric has no budget. `forbidden` networks are cut off; one given by
    its leading decisions alone is cut off whatever the others are, as a network wherever it is placed.
    """
    if _empty(table, device, mask_N, limits_M):
        return None
    if _is_one_table(table):

        def values_of(networks_Sn: Indices) -> Array:
            allowed_S = (table.of(networks_Sn, device) <= limits_M).all(axis=1)
            for indices in forbidden:
                allowed_S &= (networks_Sn[:, : len(indices)] != np.asarray(indices)).any(axis=1)
            return np.where(allowed_S, scores_N[networks_Sn + table.first_choice[:-1]].sum(axis=1), -np.inf)

        return _best_of_all(_networks(table, device, mask_N, scores_N), values_of)
    best: Solution | None = None
    for part_N in _parts(table, mask_N):
        bound = sum(scores_N[a:b][part_N[a:b]].max() for a, b in _blocks(table))
        if (best is not None and bound <= best.value) or _empty(table, device, part_N, limits_M):
            continue
        found = _best_of_part(table, device, part_N, limits_M, scores_N, list(forbidden))
        if found is not None:
            value = float(sum(scores_N[table.first_choice[k] + c] for k, c in enumerate(found)))
            if best is None or value > best.value:
                best = Solution(found, value)
    return best


def _best_of_all(parts: Iterable[Indices], values_of: Callable[[Indices], Array]) -> Solution | None:
    """The network of the largest value above -inf, by looking at each."""
    found = []
    for networks_Sn in parts:
        values_S = values_of(networks_Sn)
        if values_S.max(initial=-np.inf) > -np.inf:
            row = int(values_S.argmax())
            found.append(Solution(tuple(networks_Sn[row].tolist()), float(values_S[row])))
    return max(found, key=lambda solution: solution.value, default=None)


def _best_of_part(
    table: CostTable, device: int, part_N: Mask, limits_M: Array, scores_N: Array, refused: list[Sequence[int]]
) -> tuple[int, ...] | None:
    """The solver's best network whose cost, added up again, is within limits; those a hair above are cut off."""
    while True:
        program = _Program(table, device, part_N, refused)
        found = program.solve(program.choice_costs(-scores_N), limits_M)
        if found is None:
            return None
        row_1n = np.array([found])
        if (table.of(row_1n, device)[0] <= limits_M).all() and table.rules.obeyed(row_1n)[0]:
            return found
        refused.append(found)


def tightest_network(table: CostTable, device: int, *, mask_N: Mask, limits_M: Array) -> Solution:
    """Network with the smallest largest ratio of cost to limit, and that ratio: at most 1 where a budget can be met."""
    if _is_one_table(table):
        networks = _networks(table, device, mask_N, np.zeros(len(mask_N)))
        least = _best_of_all(networks, lambda networks_Sn: -(table.of(networks_Sn, device) / limits_M).max(axis=1))
        if least is not None:
            return Solution(least.indices, -least.value)
    best: Solution | None = None
    for part_N in _parts(table, mask_N):
        lower = np.max(table.cheapest(part_N, device) / limits_M)
        if best is not None and lower >= best.value:
            continue
        program = _Program(table, device, part_N, ())
        found = program.solve(program.ratio_costs(), limits_M, by_ratio=True)
        if found is not None:
            ratio = float(np.max(table.of(np.array([found]), device)[0] / limits_M))
            if best is None or ratio < best.value:
                best = Solution(found, ratio)
    if best is None:
        raise SolverError("no network of the space could be built from the choices that are left")
    return best


def _is_one_table(table: CostTable) -> bool:
    """Whether a factor spans a whole network, as in a cell space: looking at all of them is far faster than a program.

    Where it is placed comes on top, in few ways.
    """
    return any(set(range(table.num_own)) <= set(factor.scope) for factor in table.factors)


def _networks(table: CostTable, device: int, mask_N: Mask, scores_N: Array) -> Iterator[Indices]:
    """All networks (S, n) of the choices in `mask_N` that obey the rules, of a table that `_is_one_table`.

    Where other devices would run them matters to none of this device's costs: there the best-scored choices stand.
    """
    active = [np.flatnonzero(mask_N[a:b]) for a, b in _blocks(table)]
    indifferent = set(range(table.num_own, len(active))) - set(table.placements[device])
    for decision in indifferent:
        scores_C = scores_N[table.first_choice[decision] + active[decision]]
        active[decision] = active[decision][[int(scores_C.argmax())]] if len(scores_C) else active[decision]
    grids = np.meshgrid(*active[: table.num_own], indexing="ij")
    own_Sn = np.stack([grid.ravel() for grid in grids], axis=1)
    for placement in product(*active[table.num_own :]):
        where_Sn = np.broadcast_to(np.array(placement, dtype=np.int64), (len(own_Sn), len(placement)))
        networks_Sn = np.concatenate([own_Sn, where_Sn], axis=1)
        yield networks_Sn[table.rules.obeyed(networks_Sn)]


def _empty(table: CostTable, device: int, mask_N: Mask, limits_M: Array) -> bool:
    return bool((table.cheapest(mask_N, device) > limits_M).any())


def _blocks(table: CostTable) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in pairwise(table.first_choice)]


def _parts(table: CostTable, mask_N: Mask) -> list[Mask]:
    """The choices split by a decision that most factors share, as an image size: each part is a far smaller program."""
    shared = (table.strides != 0).sum(axis=1)
    widest = int(shared.argmax())
    first, last = _blocks(table)[widest]
    active = np.flatnonzero(mask_N[first:last])
    if shared[widest] * 2 < len(table.factors) or len(table.factors) < 3 or len(active) < 2:
        return [mask_N]
    parts = []
    for k in active:
        part = mask_N.copy()
        part[first:last] = False
        part[first + k] = True
        parts.append(part)
    return parts


class _Program:
    """Variables: one per choice (integer), one per active entry, the activation peak, and the ratio to the budgets.

    For each decision of a factor, the entries that take a choice sum to that choice (the local polytope): entries are
    integral once choices are.
    """

    def __init__(self, table: CostTable, device: int, mask_N: Mask, forbidden: Sequence[Sequence[int]]) -> None:
        self.table, self.device, self.mask_N = table, device, mask_N
        self.num_choices = int(table.first_choice[-1])
        self.entries = np.flatnonzero(table.entries_alive(mask_N))
        self.peak_var = self.num_choices + len(self.entries)
        self.num_vars = self.peak_var + 2
        self.rows = [self._one_each(), self._local_polytope()]
        rules = table.rules
        if len(rules.matrix_RN):
            beside = np.zeros((len(rules.matrix_RN), self.num_vars - self.num_choices))
            rows = csr_matrix(np.concatenate([rules.matrix_RN, beside], axis=1))
            self.rows.append(LinearConstraint(rows, rules.low_R, rules.high_R))
        if len(forbidden):
            self.rows.append(self._forbid(forbidden))

    def choice_costs(self, costs_N: Array) -> Array:
        return np.concatenate([costs_N, np.zeros(self.num_vars - self.num_choices)])

    def ratio_costs(self) -> Array:
        costs = np.zeros(self.num_vars)
        costs[-1] = 1.0
        return costs

    def solve(self, objective: Array, limits_M: Array, *, by_ratio: bool = False) -> tuple[int, ...] | None:
        """Indices (n,) of the best network, or none if the limits admit none."""
        upper = np.ones(self.num_vars)
        upper[: self.num_choices] = self.mask_N
        upper[self.peak_var] = self.table.peak[self.device].max()
        upper[-1] = np.inf if by_ratio else 1.0
        lower = np.zeros(self.num_vars)
        lower[-1] = 0.0 if by_ratio else 1.0
        integrality = np.zeros(self.num_vars)
        integrality[: self.num_choices] = 1
        result = milp(
            objective,
            constraints=[*self.rows, *self._budgets(limits_M)],
            bounds=Bounds(lower, upper),
            integrality=integrality,
            options={"mip_rel_gap": 0.0},
        )
        if result.status == 2:  # infeasible
            return None
        if result.x is None or result.status != 0:
            raise SolverError(f"HiGHS could not choose a network: {result.message}")
        taken = result.x[: self.num_choices] > 0.5
        starts = self.table.first_choice
        return tuple(int(taken[a:b].argmax()) for a, b in pairwise(starts))

    def _one_each(self) -> LinearConstraint:
        num_decisions = len(self.table.first_choice) - 1
        rows = np.repeat(np.arange(num_decisions), np.diff(self.table.first_choice))
        matrix = coo_matrix(
            (np.ones(self.num_choices), (rows, np.arange(self.num_choices))), (num_decisions, self.num_vars)
        )
        return LinearConstraint(matrix.tocsr(), 1.0, 1.0)

    def _local_polytope(self) -> LinearConstraint:
        choices_EK = self.table.entry_choices[self.entries]
        factor_E = np.searchsorted(self.table.offsets, self.entries, side="right") - 1
        entry, column = np.nonzero(choices_EK < self.num_choices)
        choice = choices_EK[entry, column]
        # One row per pair of a factor and a choice in its scope.
        pair, row = np.unique(factor_E[entry] * self.num_choices + choice, return_inverse=True)
        entries = coo_matrix((np.ones(len(row)), (row, self.num_choices + entry)), (len(pair), self.num_vars))
        totals = coo_matrix(
            (-np.ones(len(pair)), (np.arange(len(pair)), pair % self.num_choices)), (len(pair), self.num_vars)
        )
        return LinearConstraint((entries + totals).tocsr(), 0.0, 0.0)

    def _budgets(self, limits_M: Array) -> list[LinearConstraint]:
        """Cost - limit * ratio <= 0 for each budget, and the peak above each active entry if memory has one."""
        rows: list[csr_matrix] = []
        constants: list[float] = []
        scale = 1 + TOLERANCE
        for metric in np.flatnonzero(np.isfinite(limits_M)):
            row = np.zeros(self.num_vars)
            row[self.num_choices : self.peak_var] = self.table.summed[self.device, metric, self.entries]
            row[self.peak_var] = PEAK_M[metric]
            row[-1] = -limits_M[metric] * scale
            # In units of the limit: HiGHS compares rows by absolute tolerance.
            rows.append(csr_matrix(row / limits_M[metric]))
            constants.append(-float(self.table.constant[self.device, metric]) / float(limits_M[metric]))
        if not rows:
            return []
        constraints = [LinearConstraint(vstack(rows), -np.inf, np.array(constants))]
        if np.isfinite(limits_M[PEAK_M > 0]).any():
            constraints.append(self._peak_above_entries())
        return constraints

    def _peak_above_entries(self) -> LinearConstraint:
        """Per factor: the activations of its entry are at most the peak."""
        factor_E = np.searchsorted(self.table.offsets, self.entries, side="right") - 1
        num_factors = len(self.table.factors)
        costs = coo_matrix(
            (self.table.peak[self.device, self.entries], (factor_E, self.num_choices + np.arange(len(self.entries)))),
            (num_factors, self.num_vars),
        )
        peak = coo_matrix(
            (-np.ones(num_factors), (np.arange(num_factors), np.full(num_factors, self.peak_var))),
            (num_factors, self.num_vars),
        )
        return LinearConstraint((costs + peak).tocsr(), -np.inf, 0.0)

    def _forbid(self, forbidden: Sequence[Sequence[int]]) -> LinearConstraint:
        """No-good cuts: at least one decision differs from each forbidden network."""
        starts = self.table.first_choice
        columns = [starts[: len(indices)] + np.asarray(indices) for indices in forbidden]
        rows = np.repeat(np.arange(len(columns)), [len(column) for column in columns])
        entries = (np.ones(len(rows)), (rows, np.concatenate(columns)))
        matrix = coo_matrix(entries, (len(columns), self.num_vars))
        return LinearConstraint(matrix.tocsr(), -np.inf, [len(column) - 1.0 for column in columns])
