"""The cost of every network of a space on several devices, as small tables over a few decisions each."""

# Shapes: D devices, M metrics, F factors, E entries of all factors together, N choices of all decisions together,
# n decisions, S networks, K decisions in the widest scope.

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardware_models.budgets.factors import Array, compile_factors
from hardware_models.domain import input_pixels
from hardware_models.metrics import PEAK_METRICS
from hardware_models.placement.placed_space import placed_space, placement_of
from hardware_models.profile import METRICS, HardwareProfile
from search_spaces.space import Choice, SearchSpace

PEAK_M = np.array([PEAK_METRICS.get(metric, 0.0) for metric in METRICS])  # units of each metric per MB of activations
_WITH_PEAK = np.flatnonzero(PEAK_M)
HASHED = METRICS.index("flash_kb")  # metrics in a digest: what follows is made of the same weights and activations
CHUNK = 2048  # networks priced at once: their positions and sums then stay in the cache
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


def add_peaks(costs: Array, activations: Any) -> None:
    """Adds to costs (..., M), in place, the largest activations (...) in MB, which may be infinite."""
    costs[..., _WITH_PEAK] += np.multiply.outer(activations, PEAK_M[_WITH_PEAK])


class CostTable:
    """Exact costs of the networks of `space` on `devices`, in `METRICS` and their units.

    A metric is a constant plus the sum of one entry per factor; `PEAK_METRICS` add the largest activation entry, in MB.
    If a device has several units, `space` becomes the one whose networks are placed on them. The bound of a device is
    widened as far as inputs of the space leave its domain. Of the network `only`, it has the costs of no other.
    All entries of all factors lie in one array, so that a cost is a gather and an expectation a product.
    """

    def __init__(
        self, space: SearchSpace, devices: Sequence[HardwareProfile], *, only: Mapping[str, Choice] | None = None
    ) -> None:
        pixels = input_pixels(space)
        self.devices = tuple(device.over(pixels) for device in devices)
        self.space = placed_space(space if only is None else space.only(only), devices)
        self.device_names = tuple(device.name for device in devices)
        # Positions of the decisions where each device runs a network, after all those of the network itself.
        self.placements = tuple(placement_of(self.space, device) for device in devices)
        self.num_own = len(self.space.decisions) - sum(map(len, self.placements))
        sizes = [len(decision.choices) for decision in self.space.decisions]
        self.rules = self.space.rule_matrix
        self.first_choice = self.rules.first_choice
        self.factors = compile_factors(self.space, self.devices)
        self.offsets = np.cumsum([0] + [factor.peak[0].size for factor in self.factors])
        self.summed = np.concatenate([f.summed.reshape(*f.summed.shape[:2], -1) for f in self.factors], axis=2)
        self.peak = np.concatenate([f.peak.reshape(len(devices), -1) for f in self.factors], axis=1)
        self.constant = np.zeros((len(devices), len(METRICS)))
        self.constant[:, 0] = [device.constant_ms for device in devices]
        self.strides = np.zeros((len(sizes), len(self.factors)), dtype=np.int64)
        self.entry_choices = self._entry_choices()
        self._torch_choices = torch.from_numpy(self.entry_choices.T.copy())
        self._torch_summed = torch.from_numpy(self.summed.reshape(-1, self.summed.shape[2]))
        self._torch_peak = torch.from_numpy(self.peak)
        self._torch_factor = torch.from_numpy(np.repeat(np.arange(len(self.factors)), np.diff(self.offsets)))

    @property
    def digest(self) -> str:
        """sha256 of every price, and of the choices and devices that they belong to."""
        names = [self.device_names, [(d.name, d.choices) for d in self.space.decisions], METRICS[:HASHED]]
        digest = hashlib.sha256(repr(names).encode())
        for array in (self.summed[:, :HASHED], self.peak, self.constant[:, :HASHED], self.strides):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def device(self, name: str) -> int:
        return self.device_names.index(name)

    def positions(self, indices_Sn: Indices) -> Indices:
        """Entry that each network (S, n) takes in each factor, shape (S, F)."""
        # A float product is exact here and ten times faster than an integer one.
        return (indices_Sn.astype(np.float64) @ self.strides).astype(np.int64) + self.offsets[:-1]

    def of(self, indices_Sn: Indices, device: int) -> Array:
        """Costs (S, M) of networks (S, n) on one device."""
        indices_Sn = np.atleast_2d(indices_Sn)
        costs_SM = np.empty((len(indices_Sn), len(METRICS)))
        for start in range(0, len(indices_Sn), CHUNK):
            chunk = slice(start, start + CHUNK)
            # Factors first: each is then one gather along whole rows.
            positions_FS = np.ascontiguousarray(self.positions(indices_Sn[chunk]).T)
            sums_MS = self.summed[device].take(positions_FS[0], axis=1)
            peak_S = self.peak[device].take(positions_FS[0])
            for positions_S in positions_FS[1:]:
                sums_MS += self.summed[device].take(positions_S, axis=1)
                np.maximum(peak_S, self.peak[device].take(positions_S), out=peak_S)
            costs_SM[chunk] = self.constant[device] + sums_MS.T
            add_peaks(costs_SM[chunk], peak_S)
        return costs_SM

    def named(self, indices_n: Sequence[int], device: int) -> dict[str, float]:
        """Cost of one network by metric."""
        costs = self.of(np.asarray([indices_n], dtype=np.int64), device)[0]
        return {metric: float(cost) for metric, cost in zip(METRICS, costs, strict=True)}

    def worst(self, mask_N: Mask, device: int) -> Array:
        """Upper bound (M,) on the cost of all networks of the choices in `mask_N`; exact if factors do not conflict."""
        return self._extreme(mask_N, device, np.maximum, -np.inf)

    def cheapest(self, mask_N: Mask, device: int) -> Array:
        """Lower bound (M,) on the cost of every network of the choices in `mask_N`."""
        return self._extreme(mask_N, device, np.minimum, np.inf)

    def worst_without(self, mask_N: Mask, device: int) -> Array:
        """`worst` (N, M) after each choice of `mask_N` alone is removed; -inf where it is its decision's last."""
        values = np.concatenate([self.summed[device], self.peak[device][None]])
        values = np.where(self.entries_alive(mask_N), values, -np.inf)
        costs_NM = np.tile(self.worst(mask_N, device), (len(mask_N), 1))
        factor_peaks = np.maximum.reduceat(values[-1], self.offsets[:-1])
        peaks_NF = np.tile(factor_peaks, (len(mask_N), 1))
        for column, factor in enumerate(self.factors):
            own = values[:, self.offsets[column] : self.offsets[column + 1]].reshape(
                len(values), *factor.peak.shape[1:]
            )
            for axis, decision in enumerate(factor.scope, start=1):
                # Largest entry of the factor with each choice, with any, and without that choice.
                with_choice = own.max(axis=tuple(other for other in range(1, own.ndim) if other != axis))
                best, where = with_choice.max(axis=1, keepdims=True), with_choice.argmax(axis=1)[:, None]
                others = with_choice.copy()
                np.put_along_axis(others, where, -np.inf, axis=1)
                without = np.where(np.arange(own.shape[axis]) == where, others.max(axis=1, keepdims=True), best)
                block = self.rules.block(decision)
                costs_NM[block] += (without - best)[:-1].T
                peaks_NF[block, column] = without[-1]
        add_peaks(costs_NM, peaks_NF.max(axis=1) - factor_peaks.max())
        return costs_NM

    def entries_alive(self, mask_N: Mask) -> Mask:
        """Entries (E,) that a network of the choices in `mask_N` can take."""
        alive_E: Mask = np.logical_and.reduce(np.append(mask_N, True)[self.entry_choices], axis=1)
        return alive_E

    def expected(self, weights_N: Tensor) -> Tensor:
        """Costs (D, M) of the average network, decisions drawn independently with `weights_N`.

        Exact for sums, and for every metric at one-hot weights. Of activations it takes the largest
        expected factor, which is at most the expected largest. Source: multilinear extension, as ProxylessNAS
        (arXiv:1812.00332, eq. 5-6) with products over the decisions of a scope.
        """
        padded = torch.cat([weights_N.double(), weights_N.new_ones(1, dtype=torch.float64)])
        probability_E = padded[self._torch_choices[0]]
        for choices_E in self._torch_choices[1:]:
            probability_E = probability_E * padded[choices_E]
        sums_DM = (self._torch_summed @ probability_E).reshape(self.constant.shape)
        peaks_DF = torch.zeros(len(self.devices), len(self.factors), dtype=torch.float64)
        peaks_DF = peaks_DF.index_add(1, self._torch_factor, self._torch_peak * probability_E)
        extra_DM = torch.outer(peaks_DF.amax(dim=1), torch.from_numpy(PEAK_M))
        return torch.from_numpy(self.constant) + sums_DM + extra_DM

    def _extreme(self, mask_N: Mask, device: int, ufunc: np.ufunc, worst_value: float) -> Array:
        alive_E = self.entries_alive(mask_N)
        starts = self.offsets[:-1]
        sums = ufunc.reduceat(np.where(alive_E, self.summed[device], worst_value), starts, axis=1).sum(axis=1)
        peaks = ufunc.reduceat(np.where(alive_E, self.peak[device], worst_value), starts)
        costs_M: Array = self.constant[device] + sums
        add_peaks(costs_M, peaks.max())
        return costs_M

    def _entry_choices(self) -> Indices:
        """Choices (E, K) that each entry stands for, padded with N; fills `strides` on the way."""
        widest = max(len(factor.scope) for factor in self.factors)
        rows = []
        for column, factor in enumerate(self.factors):
            shape = factor.peak.shape[1:]
            grid = np.indices(shape).reshape(len(shape), -1).T if shape else np.zeros((1, 0), dtype=np.int64)
            padding = np.full((len(grid), widest - len(shape)), self.first_choice[-1])
            rows.append(
                np.concatenate([grid + self.first_choice[list(factor.scope)], padding], axis=1).astype(np.int64)
            )
            for axis, decision in enumerate(factor.scope):
                self.strides[decision, column] = int(np.prod(shape[axis + 1 :], dtype=np.int64))
        return np.concatenate(rows)
