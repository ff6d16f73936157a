"""The roofline of a device from its measured networks, blocks or operations, drawn to the typical device."""

# Shapes: N rows, F amounts of work, bytes and operations.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hardware_models.calibration.calibrator_fit import fit_calibrator
from hardware_models.calibration.corrections import LEAST_NETWORKS, Corrections
from hardware_models.calibration.fitting import Array
from hardware_models.calibration.held_out import Mask
from hardware_models.calibration.model_fit import Fitted, ModelFit
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import (
    BESIDE,
    RooflineDesign,
    measured_kinds,
    network_design,
    operation_design,
    roofline_amounts,
)
from hardware_models.latency_models.calibrator import Calibrator
from hardware_models.latency_models.roofline import PRICE_KINDS
from hardware_models.measuring.measurements import Measurements, Subject


@dataclass(frozen=True)
class _Parts:
    """Coefficients (P,), factors (O,) on operations, the sums (N,) that both give all rows, and the map from sums."""

    coefficients_P: Array
    factors_O: Array
    sums_N: Array
    calibrator: Calibrator | None


class RooflineFit(ModelFit):
    """Throughputs, bandwidths and overheads; of networks also the map from their sum to their time."""

    def __init__(self, measurements: Measurements, *, bytes_per_element: int) -> None:
        super().__init__(measurements, bytes_per_element=bytes_per_element)
        self.subject = measurements.subject
        networks = [row.operations for row in self.rows]
        self.amounts_NF = roofline_amounts(networks, bytes_per_element=bytes_per_element)
        self.design = design_of(self.subject, self.amounts_NF)
        # Decided by all rows, so that those held out are predicted as others will be.
        has_factors = self.subject == "network" and len(networks) >= LEAST_NETWORKS
        self.corrections = Corrections(networks if has_factors else [() for _ in networks])
        each = [[operation] for operation in self.corrections.operations]
        self.each_OF = roofline_amounts(each, bytes_per_element=bytes_per_element)

    def _parts(self, kept_N: Mask) -> _Parts:
        """What a fit to these rows finds."""
        coefficients_P = self.design.fit(self.amounts_NF[kept_N], self.measured_N[kept_N])
        sums_N = self.design.features(self.amounts_NF) @ coefficients_P
        # Operations and blocks measured alone do not say how their sum relates to a network.
        if self.subject != "network" or not (sums_N[kept_N] > 0).all():
            return _Parts(coefficients_P, np.ones(len(self.corrections.operations)), sums_N, None)
        prices_O = self.design.features(self.each_OF) @ coefficients_P
        factors_O = self.corrections.fit(prices_O, sums_N, self.measured_N, kept_N)
        sums_N = sums_N + self.corrections.added(prices_O, factors_O)
        return _Parts(coefficients_P, factors_O, sums_N, fit_calibrator(sums_N[kept_N], self.measured_N[kept_N]))

    def predict(self, kept_N: Mask) -> Array:
        parts = self._parts(kept_N)
        return parts.sums_N if parts.calibrator is None else parts.calibrator.latencies_ms(parts.sums_N)

    def fit(self, kept_N: Mask) -> Fitted:
        parts, amounts_NF = self._parts(kept_N), self.amounts_NF[kept_N]
        measured = measured_kinds(amounts_NF)
        kinds = PRICE_KINDS if self.subject == "network" else measured
        named = zip(self.corrections.operations, parts.factors_O.tolist(), strict=True)
        factors = {operation.notation: factor for operation, factor in named if factor != 1}
        return Fitted(
            self.design.model(parts.coefficients_P, kinds).model_copy(update={"factors": factors}),
            parts.calibrator,
            self.design.undecided(amounts_NF, parts.coefficients_P),
            tuple(kind for kind in kinds if kind not in (*measured, *BESIDE)),
        )

    def inferred(self, fitted: Fitted, *, num_held_out: int) -> Iterator[str]:
        population = load_population()
        yield (
            f"Throughputs, bandwidths and overheads are fitted together to the {self.subject}s (least relative error, "
            f"robust), drawn weakly to a typical device made of {population.devices} others ({population.source})."
        )
        if num_factors := len(getattr(fitted.latency, "factors", ())):
            yield (
                f"Factors of {num_factors} operations that several networks have, drawn to 1, are fitted to what the "
                "rates leave: most of the networks held out were predicted better with them."
            )
        if fitted.calibrator is not None:
            yield "The calibrator predicted networks held out better than the sum of their operations."
        if fitted.undecided:
            yield f"The typical device decides these more than the {self.subject}s: {', '.join(fitted.undecided)}."
        if fitted.unmeasured:
            kinds = ", ".join(fitted.unmeasured)
            yield f"No measured {self.subject} has {kinds}: their prices are the typical device's at this one's speed."
        if self.subject == "operation":
            yield "A network is the sum of its operations, each measured alone: fusion and caches are not in it."
        if self.subject == "block":
            yield "No whole network was measured: error and bound are those of blocks; a network is the sum of its own."


def design_of(subject: Subject, amounts_NF: Array) -> RooflineDesign:
    """How networks, blocks or operations of these amounts are fitted."""
    return (network_design if subject == "network" else operation_design)(load_population(), amounts_NF)
