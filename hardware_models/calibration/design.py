"""Which networks to measure next: the most informative about a device, among networks of ordinary latency."""

# Shapes: C candidate networks, P fitted numbers.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hardware_models.calibration.device_prior import choose_measurements, fit_device
from hardware_models.calibration.model_fit import times
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import population_design, roofline_amounts
from hardware_models.measuring.measurements import MeasuredRow
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

ORDINARY = (0.1, 0.9)  # quantiles of the candidates' latency between which a network may be chosen


@dataclass(frozen=True)
class Proposal:
    """A network to measure. Where some are measured already, what they say of it: its latency and its deviation."""

    name: str
    predicted_ms: float | None
    deviation_ms: float | None


def propose(
    candidates: Mapping[str, Sequence[Operation]],
    measured: Sequence[MeasuredRow],
    *,
    num_networks: int,
    bytes_per_element: int,
) -> list[Proposal]:
    """The networks to measure, most informative first; none has the name or the operations of a measured one.

    D-optimal: each is the one whose latency the device's roofline leaves least certain, given those before it and the
    measured ones. Raises: InvalidInputError if there are fewer to choose from.
    """
    population = load_population()
    design, prior = population_design(population), population.prior(tuple(population.columns))
    names, networks = list(candidates), list(candidates.values())
    features_CP = design.features(roofline_amounts(networks, bytes_per_element=bytes_per_element))
    belief, deviation_C = prior, None
    if measured:
        amounts_NF = roofline_amounts([row.operations for row in measured], bytes_per_element=bytes_per_element)
        belief = fit_device(prior, design.features(amounts_NF), times(measured), nonnegative=True)
        deviation_C = belief.deviation_ms(features_CP)
    latency_C = belief.predict_ms(features_CP)
    low_ms, high_ms = np.quantile(latency_C, ORDINARY)
    allowed = [i for i in _distinct(candidates, measured) if low_ms <= latency_C[i] <= high_ms]
    if len(allowed) < num_networks:
        raise InvalidInputError(
            f"propose: got {num_networks}, but {len(allowed)} of {len(names)} candidate networks are of ordinary "
            "latency (its central 80 %), different from each other and not measured yet; ask for fewer, or give more"
        )
    chosen = [allowed[i] for i in choose_measurements(belief, features_CP[allowed], num_networks)]
    if deviation_C is None:
        return [Proposal(names[i], None, None) for i in chosen]
    return [Proposal(names[i], float(latency_C[i]), float(deviation_C[i])) for i in chosen]


def _distinct(candidates: Mapping[str, Sequence[Operation]], measured: Sequence[MeasuredRow]) -> list[int]:
    """Places of candidates that differ, in name and in operations, from the measured networks and from each other."""
    names = {row.name for row in measured}
    seen = {_form(row.operations) for row in measured}
    distinct = []
    for i, (name, operations) in enumerate(candidates.items()):
        form = _form(operations)
        if name not in names and form not in seen:
            distinct.append(i)
        seen.add(form)
    return distinct


def _form(operations: Sequence[Operation]) -> tuple[str, ...]:
    """The same for networks that run the same operations, in whatever order."""
    return tuple(sorted(operation.notation for operation in operations))
