"""What can be seen to be wrong with measurements beside each other and beside other devices: units above all."""

# Shapes: N rows.

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from hardware_models.calibration.fitting import Array, rows_needed
from hardware_models.calibration.held_out import HeldOut
from hardware_models.calibration.population import Population
from hardware_models.measuring.measurements import MeasuredRow, Measurements

# A time further off than this factor is nearer to one in a unit a thousand times larger or smaller than to a right one.
OFF = 1000**0.5
# The typical device alone predicts single operations badly: its overhead is tens of times that of a desktop processor.
OFF_ALONE = {"network": OFF, "block": 1e4, "operation": 1e4}
# Devices measured before differ by a factor of 900 in speed, so a wrong unit is seen only if little is allowed beyond.
BEYOND = 3.0
LEAST_ROWS = 5


def row_problems(measurements: Measurements, *, level: float) -> Iterator[str]:
    """Why these rows cannot give a model and a bound at `level`, whatever their times are."""
    rows, subject = measurements.rows, measurements.subject
    lines = f"lines {rows[0].line} to {rows[-1].line}"
    needed = max(LEAST_ROWS, rows_needed(level))
    if len(rows) < needed:
        yield (
            f"line {rows[-1].line}: the file ends after {len(rows)} {subject}s; a bound at level {level:g} needs at "
            f"least {needed}: measure {needed - len(rows)} more, or lower level"
        )
    if len({frozenset(Counter(row.operations).items()) for row in rows}) == 1 < len(rows):
        yield f"{lines}: all run the same operations, so nothing shows what each costs; measure different {subject}s"
    if len({row.latency_ms for row in rows}) == 1 < len(rows):
        yield f"{lines}: all times are {rows[0].latency_ms:g} ms; was one {subject} measured again and again?"


def unit_problems(
    measurements: Measurements, typical_N: Array, population: Population, *, unusual_speed: bool
) -> Iterator[str]:
    """Times that look like another unit: rows beside each other, and all of them beside devices measured before.

    `typical_N` are the times of the typical device. `unusual_speed` allows a device unlike all that were measured.
    """
    ratio_N = np.array([row.latency_ms for row in measurements.rows]) / typical_N
    speed = _middle(ratio_N, typical_N)
    off = OFF_ALONE[measurements.subject]
    for row, ratio in zip(measurements.rows, ratio_N / speed, strict=True):
        if not 1 / off < ratio < off:
            yield _row_problem(row, row.latency_ms / ratio)
    fastest, slowest = population.fastest_over_typical, population.slowest_over_typical
    if unusual_speed or fastest / BEYOND <= speed <= slowest * BEYOND:
        return
    factors = {"seconds": 1e3, "microseconds": 1e-3, "nanoseconds": 1e-6}
    ordinary = [unit for unit, factor in factors.items() if fastest <= speed * factor <= slowest]
    hint = f"; as {ordinary[0]} they would be ordinary" if ordinary else ""
    yield (
        f"lines {measurements.rows[0].line} to {measurements.rows[-1].line}: the times are {speed:.3g} times those of "
        f"the typical device; {population.devices} devices lie between {fastest:g} and {slowest:g}{hint}; give "
        "milliseconds, or set unusual_speed=true if they are"
    )


def outlier_problems(rows: Sequence[MeasuredRow], held_out: HeldOut) -> Iterator[str]:
    """Rows a thousand times off what a fit to the others predicts."""
    for i, ratio in zip(held_out.rows, held_out.ratio_N, strict=True):
        if not 1 / OFF < ratio < OFF:
            yield _row_problem(rows[i], rows[i].latency_ms / ratio)


def rank_problems(held_out: HeldOut) -> Iterator[str]:
    """Why predicted and measured times cannot be compared by rank."""
    if len(np.unique(held_out.predicted_N)) < 2 or len(np.unique(held_out.measured_N)) < 2:
        yield (
            f"all held-out times or all their predictions are equal, so nothing says how the model ranks "
            f"{held_out.subject}s; measure some of other sizes"
        )


def _row_problem(row: MeasuredRow, expected_ms: float) -> str:
    return (
        f"line {row.line}: {row.name[:100]!r}: latency_ms is {row.latency_ms:g}, {row.latency_ms / expected_ms:.3g} "
        f"times the {expected_ms:.3g} ms that the other rows predict; is it in another unit? give milliseconds"
    )


def _middle(ratio_N: Array, weight_N: Array) -> float:
    """The median, where each ratio counts as much as its weight."""
    order = np.argsort(ratio_N)
    cumulated_N = np.cumsum(weight_N[order] / weight_N.sum())
    return float(ratio_N[order][np.searchsorted(cumulated_N, 0.5)])
