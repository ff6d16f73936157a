"""Which networks to measure next: the most telling about a device, and random ones for error and bound."""

# Shapes: C candidate networks, P fitted numbers.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hardware_models.calibration.device_prior import choose_measurements, fit_device
from hardware_models.calibration.model_fit import times
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import population_design, roofline_amounts
from hardware_models.measuring.measurements import RANDOM, MeasuredRow, Part
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

ORDINARY = (0.1, 0.9)  # quantiles of the candidates' latency between which a network may be chosen


@dataclass(frozen=True)
class Proposal:
    """A network to measure, and why. Where some are measured already, what they say of it: latency and deviation."""

    name: str
    part: Part
    predicted_ms: float | None
    deviation_ms: float | None


def propose(
    candidates: Mapping[str, Sequence[Operation]],
    measured: Sequence[MeasuredRow],
    *,
    num_networks: int,
    num_random: int,
    bytes_per_element: int,
) -> list[Proposal]:
    """The networks to measure, none with the name or the operations of a measured one: first the most telling.

    These are D-optimal: each is the one whose latency the device's roofline leaves least certain, given those before it
    and the measured ones. The last `num_random` are the first of the candidates, which are in random order; these
    alone are like other networks, so they are chosen first and measured whatever their latency.
    Raises: InvalidInputError if there are fewer to choose from.
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
    distinct = _distinct(candidates, measured)
    random, others = distinct[:num_random], distinct[num_random:]
    allowed, num_telling = [i for i in others if low_ms <= latency_C[i] <= high_ms], num_networks - num_random
    if len(random) < num_random or len(allowed) < num_telling:
        raise InvalidInputError(
            f"propose: got {num_networks}, of them {num_random} at random; of {len(names)} candidate networks "
            f"{len(distinct)} are different from each other and not measured yet, and {len(allowed)} of those that are "
            "left are of ordinary latency (its central 80 %); ask for fewer, or give more"
        )
    telling = [allowed[i] for i in choose_measurements(belief, features_CP[allowed], num_telling)]
    parts: list[tuple[int, Part]] = [*((i, "telling") for i in telling), *((i, RANDOM) for i in random)]
    if deviation_C is None:
        return [Proposal(names[i], part, None, None) for i, part in parts]
    return [Proposal(names[i], part, float(latency_C[i]), float(deviation_C[i])) for i, part in parts]


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
