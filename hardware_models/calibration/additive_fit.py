"""Prices of a benchmark's operations from a few of its networks, with what other devices took on them as the prior."""

# Shapes: N networks, P the constant and the terms of the form.

from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import yaml
from pydantic import Field

from hardware_models.calibration.device_prior import DeviceBelief, fit_device
from hardware_models.calibration.fitting import Array, fit_nonnegative
from hardware_models.calibration.held_out import Mask
from hardware_models.calibration.model_fit import Fitted, ModelFit
from hardware_models.latency_models.additive import Additive
from hardware_models.measuring.measurements import Subject
from hardware_models.schema import Positive, Section
from search_spaces.operation import Operation

FILE = Path(__file__).with_name("cell_population.yaml")

Finite = Annotated[float, Field(allow_inf_nan=False)]


class CellPopulation(Section):
    """Additive prices of NAS-Bench-201's operations on many devices, each divided by its speed.

    `typical` has their mean, in ms on a device of middling speed; `covariance` is over its constant and its terms, in
    their order. `noise` is the relative spread of measured networks about an additive fit.
    """

    typical: Additive
    covariance: tuple[tuple[Finite, ...], ...]
    noise: Positive
    settings: Annotated[int, Field(ge=1)]
    source: str

    @property
    def prior(self) -> DeviceBelief:
        mean_P = np.array([self.typical.constant_ms, *(term.ms for term in self.typical.terms)])
        return DeviceBelief(mean_P, np.array(self.covariance), self.noise)


@cache
def load_cell_population() -> CellPopulation:
    """The population that is shipped."""
    content: Any = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return CellPopulation.model_validate(content)


class AdditiveFit(ModelFit):
    """Prices of a benchmark's operations from whole networks: halfway between two fits, one drawn to other devices.

    Either alone is worse on some devices: with ten random cells the one that is drawn, with ten telling ones the other
    (`tests/benchmarks/few_measurements.py`).
    """

    subjects: ClassVar[tuple[Subject, ...]] = ("network",)

    def problems(self) -> Iterator[str]:
        """Rows with operations that no network of the benchmark has."""
        form = load_cell_population().typical
        for row in self.rows:
            foreign = [op for op in row.operations if form.price_ms(op, bytes_per_element=4) is None]
            if foreign:
                yield (
                    f"line {row.line}: {row.name[:100]!r} has {foreign[0].notation!r}, which NAS-Bench-201 "
                    "has nowhere; set model=roofline"
                )

    @cached_property
    def amounts_NP(self) -> Array:
        return additive_amounts([row.operations for row in self.rows])

    def coefficients(self, kept_N: Mask) -> Array:
        """Constant and prices of the terms (P,), in ms, none negative."""
        x_NP, y_N = self.amounts_NP[kept_N], self.measured_N[kept_N]
        return halfway(load_cell_population().prior, x_NP, y_N)

    def predict(self, kept_N: Mask) -> Array:
        return self.amounts_NP @ self.coefficients(kept_N)

    def fit(self, kept_N: Mask) -> Fitted:
        return Fitted(additive_model(self.coefficients(kept_N)))

    def inferred(self, fitted: Fitted, *, num_held_out: int) -> Iterator[str]:
        cells = load_cell_population()
        yield (
            "Prices are fitted together to the networks (robust), halfway between a fit to them alone and one drawn to "
            f"the mean over {cells.settings} settings of other devices as far as these differ ({cells.source})."
        )
        yield "They price networks of NAS-Bench-201 for 32x32 images alone."


def halfway(prior: DeviceBelief, x_NP: Array, y_N: Array) -> Array:
    """Coefficients (P,), none negative: the mean of a fit drawn to a prior and of one without it."""
    drawn_P = fit_device(prior, x_NP, y_N, nonnegative=True).mean_P
    mean_P: Array = (drawn_P + fit_nonnegative(x_NP, y_N)) / 2
    return mean_P


def additive_amounts(networks: Sequence[Sequence[Operation]]) -> Array:
    """One for the constant, and how many operations of each network each term prices, (N, P)."""
    form = load_cell_population().typical
    return np.stack([additive_features(operations, form) for operations in networks])


def additive_features(operations: Sequence[Operation], model: Additive) -> Array:
    """One for the constant, then how many operations of a network each term of `model` prices, (1 + terms,)."""
    counts = [1.0, *(0.0 for _ in model.terms)]
    for operation in operations:
        if not any(match.covers(operation) for match in model.in_constant):
            counts[1 + next(i for i, term in enumerate(model.terms) if term.match.covers(operation))] += 1
    return np.array(counts)


def additive_model(coefficients_P: Array) -> Additive:
    """The latency model of these prices."""
    form, (constant_ms, *terms_ms) = load_cell_population().typical, map(float, coefficients_P)
    terms = tuple(term.model_copy(update={"ms": ms}) for term, ms in zip(form.terms, terms_ms, strict=True))
    return form.model_copy(update={"constant_ms": constant_ms, "terms": terms})
