"""Prices of a benchmark's operations from a few of its networks, with what other devices took on them as the prior."""

# Shapes: N networks, P the constant and the terms of the form.

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field

from hardware_models.calibration.device_prior import DevicePrior, fit_device
from hardware_models.calibration.fitting import Array, additive_features
from hardware_models.latency_models.additive import Additive
from hardware_models.latency_models.roofline import Positive, Section
from hardware_models.measuring.measurements import MeasuredRow
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
    def prior(self) -> DevicePrior:
        mean_P = np.array([self.typical.constant_ms, *(term.ms for term in self.typical.terms)])
        return DevicePrior(mean_P, np.array(self.covariance), self.noise)


@cache
def load_cell_population() -> CellPopulation:
    """The population that is shipped."""
    content: Any = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return CellPopulation.model_validate(content)


def form_problems(rows: Sequence[MeasuredRow]) -> Iterator[str]:
    """Rows with operations that no network of the benchmark has."""
    form = load_cell_population().typical
    for row in rows:
        foreign = [op for op in row.operations if form.price_ms(op, bytes_per_element=4) is None]
        if foreign:
            yield (
                f"line {row.line}: {row.name[:100]!r} has {foreign[0].notation!r}, which NAS-Bench-201 "
                "has nowhere; set model=roofline"
            )


def additive_amounts(networks: Sequence[Sequence[Operation]]) -> Array:
    """One for the constant, and how many operations of each network each term prices, (N, P)."""
    form = load_cell_population().typical
    return np.stack([additive_features(operations, form) for operations in networks])


def additive_coefficients(x_NP: Array, measured_N: Array) -> Array:
    """Constant and prices of the terms (P,), in ms, none negative."""
    return fit_device(load_cell_population().prior, x_NP, measured_N, nonnegative=True).coefficients_P


def additive_model(coefficients_P: Array) -> Additive:
    """The latency model of these prices."""
    form, (constant_ms, *terms_ms) = load_cell_population().typical, map(float, coefficients_P)
    terms = tuple(term.model_copy(update={"ms": ms}) for term, ms in zip(form.terms, terms_ms, strict=True))
    return form.model_copy(update={"constant_ms": constant_ms, "terms": terms})
