"""The roofline that measurements are fitted with: its columns, its pull to the population, what the fit leaves open."""

# Shapes: N measurements, P fitted numbers, F amounts that a roofline may price (a kind's overheads apart).

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from hardware_models.calibration.fitting import PRIOR_STRENGTH, Array, fit_with_prior
from hardware_models.calibration.population import Population
from hardware_models.latency_models.roofline import (
    PRICE_KINDS,
    KindRate,
    PriceKind,
    Roofline,
    describe,
    priced_as,
    work,
)
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation


def roofline_columns(kinds: Sequence[PriceKind], *, overhead_per_kind: bool) -> tuple[str, ...]:
    """Names of what is fitted: a throughput for each kind, the two bandwidths, and the overhead, common or per kind."""
    overheads = tuple(f"overhead:{kind}" for kind in kinds) if overhead_per_kind else ("overhead",)
    return (*(f"throughput:{kind}" for kind in kinds), "weights", "activations", *overheads)


AMOUNTS = roofline_columns(PRICE_KINDS, overhead_per_kind=True)
BESIDE: tuple[PriceKind, ...] = ("pool", "elementwise")  # kinds of which the population has squeeze-excite alone
# Overhead of a kind of `BESIDE` over that of a convolution, before it is measured: most of them are fused. Held-out
# errors of networks measured with onnxruntime hardly change between 0.01 and 1.
BESIDE_OVERHEAD = 0.1
NOTHING = 1e-9  # ms for 10^9 of work or bytes, or for one operation: no device is a tenth as fast
DECIDED = 0.5  # share of a number that measurements must decide for it to count as theirs


@dataclass(frozen=True)
class RooflineDesign:
    """The columns of a fit: which amounts each adds up, and the typical device's number for it, in ms per unit."""

    columns: tuple[str, ...]
    sums_FP: Array
    prior_P: Array

    def features(self, amounts_NF: Array) -> Array:
        """What each measurement has of every column, (N, P)."""
        features_NP: Array = amounts_NF @ self.sums_FP
        return features_NP

    def fit(self, amounts_NF: Array, measured_N: Array, *, strength: float = PRIOR_STRENGTH) -> Array:
        """Coefficients (P,), drawn to the proportions of the prior."""
        return fit_with_prior(self.features(amounts_NF), measured_N, self.prior_P, strength=strength)

    def model(self, coefficients_P: Array, kinds: Sequence[PriceKind]) -> Roofline:
        """The roofline of these coefficients, for these kinds.

        Raises: InvalidInputError if they are beyond what a profile may say.
        """
        known_P = np.where(coefficients_P < NOTHING, 0.0, coefficients_P)
        ms = dict(zip(AMOUNTS, map(float, self.sums_FP @ known_P), strict=True))
        try:
            return Roofline(
                model="roofline",
                weight_gb_per_s=_rate(ms["weights"]),
                activation_gb_per_s=_rate(ms["activations"]),
                kinds={
                    kind: KindRate(throughput_gops=_rate(ms[f"throughput:{kind}"]), overhead_ms=ms[f"overhead:{kind}"])
                    for kind in kinds
                },
            )
        except ValidationError as error:
            raise InvalidInputError(
                f"the measurements give rates that no device has: {ms}; are their times milliseconds?"
            ) from error

    def undecided(self, amounts_NF: Array, coefficients_P: Array) -> tuple[str, ...]:
        """Columns that the measurements leave to the typical device for the larger part.

        The diagonal of the resolution matrix of the fit in logarithms, (J'J + L)^-1 J'J, where J holds the share of
        each column in each time and L is the pull to a common multiple of the typical device.
        """
        times_NP = self.features(amounts_NF) * coefficients_P
        shares_NP = times_NP / times_NP.sum(axis=1, keepdims=True)
        num_columns = len(self.columns)
        pull_PP = PRIOR_STRENGTH * (np.eye(num_columns) - 1 / num_columns)
        information_PP = shares_NP.T @ shares_NP
        resolved_P = np.diag(np.linalg.solve(information_PP + pull_PP, information_PP))
        return tuple(self.columns[i] for i in np.flatnonzero(resolved_P < DECIDED))


def roofline_design(columns: Sequence[str], prior_P: Array) -> RooflineDesign:
    """The fit in these columns: each amount counts in its own, or in the common overhead of a kind that has a rate.

    Where Winograd has no rate its convolutions are dense ones. What has no column costs nothing.
    """

    def column_of(amount: str) -> str:
        if amount.endswith(":winograd") and "throughput:winograd" not in columns:
            amount = amount.replace("winograd", "dense")
        name, _, kind = amount.partition(":")
        return name if amount not in columns and f"throughput:{kind}" in columns else amount

    sums_FP = np.array([[float(column_of(amount) == column) for column in columns] for amount in AMOUNTS])
    return RooflineDesign(tuple(columns), sums_FP, prior_P)


def roofline_amounts(networks: Sequence[Sequence[Operation]], *, bytes_per_element: int = 4) -> Array:
    """What each network has of `AMOUNTS`, (N, F): 10^9 of work or bytes, and numbers of operations."""
    amounts = [list(_amounts(operations, bytes_per_element).values()) for operations in networks]
    return np.array(amounts).reshape(-1, len(AMOUNTS))


def _amounts(operations: Sequence[Operation], bytes_per_element: int) -> dict[str, float]:
    amounts = dict.fromkeys(AMOUNTS, 0.0)
    for operation in operations:
        kind = priced_as(operation, PRICE_KINDS)
        if kind not in PRICE_KINDS:
            raise InvalidInputError(f"no rate is fitted for {describe(operation)}; fitted: {', '.join(PRICE_KINDS)}")
        amounts[f"throughput:{kind}"] += work(operation) * 1e-9
        amounts["weights"] += operation.params * bytes_per_element * 1e-9
        amounts["activations"] += (operation.in_elements + operation.out_elements) * bytes_per_element * 1e-9
        amounts[f"overhead:{kind}"] += 1.0
    return amounts


def network_design(population: Population, amounts_NF: Array) -> RooflineDesign:
    """The fit for whole networks: the population's columns, all its kinds with one overhead.

    Kinds beside them cost their bytes alone, as in the population. They get an overhead of their own if the networks
    separate it from the rest; their operations decide on this and not their times, so held-out errors stay honest.
    """
    beside = tuple(f"overhead:{kind}" for kind in BESIDE if amounts_NF[:, AMOUNTS.index(f"overhead:{kind}")].any())
    extended = population_design(population, beside=beside)
    undecided = extended.undecided(amounts_NF, extended.prior_P)
    return population_design(population, beside=tuple(column for column in beside if column not in undecided))


def operation_design(population: Population, amounts_NF: Array) -> RooflineDesign:
    """The fit for single operations: a throughput and an overhead for every kind that was measured."""
    columns = tuple(AMOUNTS[i] for i in np.flatnonzero(amounts_NF.any(axis=0)))
    return roofline_design(columns, np.array([_typical(population, column) for column in columns]))


def measured_kinds(amounts_NF: Array) -> tuple[PriceKind, ...]:
    """The kinds that some measurement has, Winograd's its own."""
    return tuple(kind for kind in PRICE_KINDS if amounts_NF[:, AMOUNTS.index(f"overhead:{kind}")].any())


def population_design(population: Population, *, beside: tuple[str, ...] = ()) -> RooflineDesign:
    """The fit in the population's own columns, with overheads of these kinds beside them."""
    overheads = [_typical(population, column) * BESIDE_OVERHEAD for column in beside]
    columns = tuple(population.columns)
    return roofline_design((*columns, *beside), np.array([*population.typical_P(columns), *overheads]))


def _typical(population: Population, column: str) -> float:
    """The typical device's number; of a kind that the population lacks, that of the nearest it has."""
    if column.startswith("overhead"):
        column = "overhead"
    if column == "throughput:pool":
        column = "throughput:depthwise"  # as many reads of its input for each output
    return population.columns[column].typical


def _rate(ms_per_giga: float) -> float | None:
    return 1e3 / ms_per_giga if ms_per_giga > 0 else None
