"""Whether a runtime executes operations whose output nothing reads, as far as measured networks tell."""

from collections.abc import Sequence

import numpy as np

from hardware_models.calibration.device_prior import log_evidence
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_fit import population_fit, roofline_amounts
from hardware_models.measuring.measurements import MeasuredRow
from search_spaces.operation import Operation

# Logarithm of how many times better one way of counting must foretell the rows: about 20 times, what Kass and Raftery
# 1995, "Bayes factors", JASA 90, call strong evidence.
STRONG_EVIDENCE = 3.0


def executed(row: MeasuredRow, *, drops_dead_code: bool) -> tuple[Operation, ...]:
    """The operations that a runtime executes, if it drops those whose output nothing reads and if it does not."""
    if not drops_dead_code:
        return row.operations
    left = list(row.operations)
    for operation in row.unread:
        left.remove(operation)
    return tuple(left)


def drops_dead_code(rows: Sequence[MeasuredRow], *, bytes_per_element: int) -> bool | None:
    """Whether the runtime drops operations whose output nothing reads; None where the rows do not tell."""
    if not any(row.unread for row in rows):
        return None
    drops, keeps = (_evidence(rows, drops, bytes_per_element) for drops in (True, False))
    return drops > keeps if abs(drops - keeps) > STRONG_EVIDENCE else None


def _evidence(rows: Sequence[MeasuredRow], drops: bool, bytes_per_element: int) -> float:
    population = load_population()
    fit, networks = population_fit(population), [executed(row, drops_dead_code=drops) for row in rows]
    features_NP = fit.features(roofline_amounts(networks, bytes_per_element=bytes_per_element))
    return log_evidence(population.prior(fit.columns), features_NP, np.array([row.latency_ms for row in rows]))
