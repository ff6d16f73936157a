"""From measured times to a latency model with its held-out error and its bound: networks or single operations."""

# Shapes: N rows, F amounts of work, bytes and operations.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import nan
from typing import Literal, get_args

import numpy as np

from hardware_models.calibration.additive_fit import (
    additive_amounts,
    additive_coefficients,
    additive_model,
    form_problems,
)
from hardware_models.calibration.calibrator_fit import fit_calibrator
from hardware_models.calibration.checks import (
    LEAST_ROWS,
    held_out_problems,
    rank_problems,
    row_problems,
    time_problems,
    unit_problems,
)
from hardware_models.calibration.dead_code import drops_dead_code, executed
from hardware_models.calibration.fitting import Array
from hardware_models.calibration.held_out import (
    HeldOut,
    Mask,
    Predict,
    bound_coverage,
    groups_of,
    hold_out,
    latency_bound,
    latency_error,
    rows_needed,
)
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_fit import (
    BESIDE,
    RooflineFit,
    measured_kinds,
    network_fit,
    operation_fit,
    roofline_amounts,
)
from hardware_models.latency_models.additive import Additive
from hardware_models.latency_models.calibrator import Calibrator
from hardware_models.latency_models.interpolation import LookUpTable
from hardware_models.latency_models.operation_entries import operation_entries, position
from hardware_models.latency_models.roofline import PRICE_KINDS, PriceKind, Roofline
from hardware_models.latency_models.table import Table
from hardware_models.measuring.measurements import MeasuredRow, Measurements, Subject, refusal
from hardware_models.profile import BYTES_PER_ELEMENT, LatencyBound, LatencyError, Precision

CalibratedModel = Literal["roofline", "table", "additive"]
CALIBRATED_MODELS: tuple[CalibratedModel, ...] = get_args(CalibratedModel)


@dataclass(frozen=True)
class Calibration:
    """A latency model, what it is worth on rows that it had not seen, and what the rows leave open.

    `calibrator` maps the sum of a network's operations to its latency, None where the sum foretells it as well.
    `undecided` are fitted numbers that the typical device decides more than the rows, `unmeasured` kinds that no row
    has and that are priced all the same. `drops_dead_code` is None where the rows do not tell.
    """

    latency: Roofline | Table | Additive
    calibrator: Calibrator | None
    held_out: HeldOut
    error: LatencyError
    bound: LatencyBound
    undecided: tuple[str, ...] = ()
    unmeasured: tuple[PriceKind, ...] = ()
    drops_dead_code: bool | None = None


def calibrate(
    measurements: Measurements,
    *,
    model: CalibratedModel,
    level: float,
    precision: Precision,
    unusual_speed: bool = False,
) -> Calibration:
    """The latency model of what was measured, with its held-out error and its bound at `level`.

    Raises: InvalidInputError that lists the rows that cannot be used, by line.
    """
    _refuse(
        measurements,
        problems_of(measurements, model=model, level=level, precision=precision, unusual_speed=unusual_speed),
    )
    if model == "additive":
        return _additive(measurements, level)
    rows, element_bytes = measurements.rows, BYTES_PER_ELEMENT[precision]
    drops = drops_dead_code(rows, bytes_per_element=element_bytes)
    networks = [executed(row, drops_dead_code=bool(drops)) for row in rows]
    amounts_NF = roofline_amounts(networks, bytes_per_element=element_bytes)
    fit, measured_N = roofline_fit(measurements.subject, amounts_NF), times(rows)

    def predict(kept_N: Mask) -> Array:
        sums_N = fit.features(amounts_NF) @ fit.fit(amounts_NF[kept_N], measured_N[kept_N])
        calibrator = _calibrator(measurements.subject, sums_N[kept_N], measured_N[kept_N])
        return sums_N if calibrator is None else np.array([calibrator.latency_ms(float(ms)) for ms in sums_N])

    held_out = hold_out(predict, measured_N, groups_of(len(rows)), subject=measurements.subject)
    _refuse(measurements, chain(held_out_problems(rows, held_out), rank_problems(held_out)))
    if model == "table":
        return _table(measurements, level)
    coefficients_P, measured = fit.fit(amounts_NF, measured_N), measured_kinds(amounts_NF)
    kinds = PRICE_KINDS if measurements.subject == "network" else measured
    return replace(
        _judged(fit.model(coefficients_P, kinds), held_out, predict, rows, level),
        calibrator=_calibrator(measurements.subject, fit.features(amounts_NF) @ coefficients_P, measured_N),
        undecided=fit.undecided(amounts_NF, coefficients_P),
        unmeasured=tuple(kind for kind in kinds if kind not in (*measured, *BESIDE)),
        drops_dead_code=drops,
    )


def problems_of(
    measurements: Measurements,
    *,
    model: CalibratedModel,
    level: float | None,
    precision: Precision,
    unusual_speed: bool,
) -> Iterator[str]:
    """What can be told to be wrong with the rows before anything is fitted; without a level no bound is asked for."""
    if model == "table" and measurements.subject != "operation":
        whole = "whole networks" if measurements.subject == "network" else "blocks of several"
        yield f"line 1: a table has the prices of single operations, and these are {whole}; set model=roofline"
    if model == "additive" and measurements.subject != "network":
        yield f"line 1: additive prices are fitted to whole networks, and these are {measurements.subject}s"
    elif model == "additive":
        yield from form_problems(measurements.rows)
    if level is not None:
        yield from row_problems(measurements, level=level)
    impossible = list(time_problems(measurements))
    yield from impossible
    unread = [row for row in measurements.rows if len(row.unread) == len(row.operations)]
    yield from (f"line {row.line}: {row.name!r}: nothing reads any of its operations" for row in unread)
    if unread or impossible:
        return
    networks = [row.operations for row in measurements.rows]
    amounts_NF = roofline_amounts(networks, bytes_per_element=BYTES_PER_ELEMENT[precision])
    fit = roofline_fit(measurements.subject, amounts_NF)
    typical_N = fit.features(amounts_NF) @ fit.prior_P
    yield from unit_problems(measurements, typical_N, load_population(), unusual_speed=unusual_speed)


def roofline_fit(subject: Subject, amounts_NF: Array) -> RooflineFit:
    """How networks or operations of these amounts are fitted."""
    return (network_fit if subject == "network" else operation_fit)(load_population(), amounts_NF)


def times(rows: Sequence[MeasuredRow]) -> Array:
    """Measured times (N,), in ms."""
    return np.array([row.latency_ms for row in rows])


def _calibrator(subject: Subject, sums_N: Array, measured_N: Array) -> Calibrator | None:
    """Operations and blocks measured alone do not tell how their sum relates to a network."""
    return fit_calibrator(sums_N, measured_N) if subject == "network" and (sums_N > 0).all() else None


def _judged(
    latency: Roofline | Table | Additive, held_out: HeldOut, predict: Predict, rows: Sequence[MeasuredRow], level: float
) -> Calibration:
    """A latency model with what its held-out predictions say of it."""
    coverage = bound_coverage(predict, times(rows), groups_of(len(rows)), level=level)
    bound = latency_bound(held_out, level=level, coverage=coverage)
    return Calibration(latency, None, held_out, latency_error(held_out), bound)


def _table(measurements: Measurements, level: float) -> Calibration:
    """The measured operations as exact entries; its error is that of interpolating each of them between the others."""
    rows = measurements.rows

    def predict(kept_N: Mask) -> Array:
        kept = [row for row, is_kept in zip(rows, kept_N, strict=True) if is_kept]
        table = LookUpTable(operation_entries((row.operations[0], row.latency_ms) for row in kept))
        prices = [table.price_ms(*position(row.operations[0])) for row in rows]
        return np.array([nan if ms is None else ms for ms in prices])

    held_out = hold_out(predict, times(rows), groups_of(len(rows)), subject="operation")
    _refuse(measurements, chain(_too_few_between(held_out, len(rows), level), rank_problems(held_out)))
    entries = {row.operations[0].notation: row.latency_ms for row in rows}
    return _judged(Table(model="table", entries=entries), held_out, predict, rows, level)


def _additive(measurements: Measurements, level: float) -> Calibration:
    """Prices of a benchmark's operations, drawn to those on other devices."""
    rows, measured_N = measurements.rows, times(measurements.rows)
    x_NP = additive_amounts([row.operations for row in rows])

    def predict(kept_N: Mask) -> Array:
        return x_NP @ additive_coefficients(x_NP[kept_N], measured_N[kept_N])

    held_out = hold_out(predict, measured_N, groups_of(len(rows)), subject="network")
    _refuse(measurements, chain(held_out_problems(rows, held_out), rank_problems(held_out)))
    model = additive_model(additive_coefficients(x_NP, measured_N))
    return _judged(model, held_out, predict, rows, level)


def _too_few_between(held_out: HeldOut, num_rows: int, level: float) -> Iterator[str]:
    needed = max(LEAST_ROWS, rows_needed(level))
    if len(held_out.rows) < needed:
        yield (
            f"{len(held_out.rows)} of {num_rows} operations lie between others, so that a price for them without their "
            f"own time can be compared with it; a bound at level {level:g} needs {needed}: measure more operations of "
            "each form, or set model=roofline"
        )


def _refuse(measurements: Measurements, problems: Iterator[str]) -> None:
    found = list(problems)
    if found:
        raise refusal(measurements.path, found)
