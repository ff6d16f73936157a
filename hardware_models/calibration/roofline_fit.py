"""The roofline of a device from its measured networks, blocks or operations, drawn to the typical device."""

# Shapes: N rows, F amounts of work, bytes and operations.

from collections.abc import Iterator, Sequence

import numpy as np

from hardware_models.calibration.calibrator_fit import fit_calibrator
from hardware_models.calibration.device_prior import log_evidence
from hardware_models.calibration.fitting import Array
from hardware_models.calibration.held_out import Mask
from hardware_models.calibration.model_fit import Fitted, ModelFit, times
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import (
    BESIDE,
    RooflineDesign,
    measured_kinds,
    network_design,
    operation_design,
    population_design,
    roofline_amounts,
)
from hardware_models.latency_models.calibrator import Calibrator
from hardware_models.latency_models.roofline import PRICE_KINDS, Roofline
from hardware_models.measuring.measurements import MeasuredRow, Measurements, Subject
from search_spaces.operation import Operation

# Logarithm of how many times better one way of counting must predict the rows: about 20 times, what Kass and Raftery
# 1995, "Bayes factors", JASA 90, call strong evidence.
STRONG_EVIDENCE = 3.0


class RooflineFit(ModelFit):
    """Throughputs, bandwidths and overheads; of networks also the map from their sum, and whether dead code runs."""

    def __init__(self, measurements: Measurements, *, bytes_per_element: int) -> None:
        super().__init__(measurements, bytes_per_element=bytes_per_element)
        self.subject = measurements.subject
        self.drops = drops_dead_code(self.rows, bytes_per_element=bytes_per_element)
        networks = [executed(row, drops_dead_code=bool(self.drops)) for row in self.rows]
        self.amounts_NF = roofline_amounts(networks, bytes_per_element=bytes_per_element)
        self.design = design_of(self.subject, self.amounts_NF)

    def predict(self, kept_N: Mask) -> Array:
        coefficients_P = self.design.fit(self.amounts_NF[kept_N], self.measured_N[kept_N])
        sums_N = self.design.features(self.amounts_NF) @ coefficients_P
        calibrator = self._calibrator(sums_N, kept_N)
        return sums_N if calibrator is None else np.array([calibrator.latency_ms(float(ms)) for ms in sums_N])

    def fit(self, kept_N: Mask) -> Fitted:
        amounts_NF = self.amounts_NF[kept_N]
        coefficients_P = self.design.fit(amounts_NF, self.measured_N[kept_N])
        measured = measured_kinds(amounts_NF)
        kinds = PRICE_KINDS if self.subject == "network" else measured
        return Fitted(
            self.design.model(coefficients_P, kinds),
            self._calibrator(self.design.features(self.amounts_NF) @ coefficients_P, kept_N),
            self.design.undecided(amounts_NF, coefficients_P),
            tuple(kind for kind in kinds if kind not in (*measured, *BESIDE)),
            self.drops,
        )

    def _calibrator(self, sums_N: Array, kept_N: Mask) -> Calibrator | None:
        """Operations and blocks measured alone do not say how their sum relates to a network."""
        if self.subject != "network" or not (sums_N[kept_N] > 0).all():
            return None
        return fit_calibrator(sums_N[kept_N], self.measured_N[kept_N])

    def inferred(self, fitted: Fitted, *, num_held_out: int) -> Iterator[str]:
        yield from _inferred_rates(fitted, self.subject)
        assert isinstance(fitted.latency, Roofline)
        yield from _inferred_sums(fitted.latency, self.subject)


def design_of(subject: Subject, amounts_NF: Array) -> RooflineDesign:
    """How networks, blocks or operations of these amounts are fitted."""
    return (network_design if subject == "network" else operation_design)(load_population(), amounts_NF)


def executed(row: MeasuredRow, *, drops_dead_code: bool) -> tuple[Operation, ...]:
    """The operations that a runtime executes, if it drops those whose output nothing reads and if it does not."""
    if not drops_dead_code:
        return row.operations
    left = list(row.operations)
    for operation in row.unread:
        left.remove(operation)
    return tuple(left)


def drops_dead_code(rows: Sequence[MeasuredRow], *, bytes_per_element: int) -> bool | None:
    """Whether the runtime drops operations whose output nothing reads; None where the rows do not decide it."""
    if not any(row.unread for row in rows):
        return None
    population = load_population()
    design = population_design(population)

    def evidence(drops: bool) -> float:
        networks = [executed(row, drops_dead_code=drops) for row in rows]
        features_NP = design.features(roofline_amounts(networks, bytes_per_element=bytes_per_element))
        return log_evidence(population.prior(design.columns), features_NP, times(rows))

    drops, keeps = evidence(True), evidence(False)
    return drops > keeps if abs(drops - keeps) > STRONG_EVIDENCE else None


def _inferred_rates(fitted: Fitted, subject: Subject) -> Iterator[str]:
    """How throughputs, bandwidths and overheads were found, and which of them the rows leave open."""
    population = load_population()
    yield (
        f"Throughputs, bandwidths and overheads are fitted together to the {subject}s (least relative error, robust), "
        f"drawn weakly to the proportions of a typical device made of {population.devices} others "
        f"({population.source})."
    )
    if fitted.calibrator is not None:
        yield (
            "The calibrator maps the sum of a network's operations to its latency, straight in logarithms between its "
            "points and on beyond them; it predicted networks held out better than the sum."
        )
    if fitted.undecided:
        yield (
            f"The {subject}s do not determine these, so that the typical device decides for the larger part: "
            f"{', '.join(map(_words, fitted.undecided))}."
        )
    if fitted.unmeasured:
        yield (
            f"No measured network has operations priced as {', '.join(fitted.unmeasured)}: they are priced by the "
            "typical device at this device's speed."
        )


def _inferred_sums(latency: Roofline, subject: Subject) -> Iterator[str]:
    """What a price that is a sum over operations leaves out, and what the rows leave open."""
    if subject == "operation":
        yield "A network is priced as the sum of its operations, each measured alone: fusion and caches are not in it."
        return
    if subject == "block":
        yield (
            "No whole network was measured: error and bound are those of blocks, and a network is priced as the sum of "
            "its operations."
        )
        return
    rates = latency.kinds.items()
    alone = [kind for kind, rate in rates if rate.throughput_gops is None and rate.overhead_ms == 0]
    if alone:
        yield (
            f"Operations priced as {', '.join(alone)} are priced from the bandwidths alone: the networks do not "
            "separate their overhead from that of the others."
        )


def _words(column: str) -> str:
    quantity, _, kind = column.partition(":")
    if kind:
        return f"{quantity} of {kind}"
    return {"weights": "bandwidth of weights", "activations": "bandwidth of activations"}.get(column, column)
