"""From measured times to a latency model with its held-out error and its bound: networks, blocks or operations."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from hardware_models.calibration.fitting import Array
from hardware_models.calibration.held_out import (
    HeldOut,
    bound_coverage,
    hold_out,
    judged_rows,
    latency_bound,
    latency_error,
)
from hardware_models.calibration.model_fit import MODEL_FITS, Fitted, times
from hardware_models.calibration.population import load_population
from hardware_models.calibration.roofline_design import roofline_amounts
from hardware_models.calibration.roofline_fit import design_of
from hardware_models.calibration.row_checks import row_problems, unit_problems
from hardware_models.calibration.suspicions import Suspicion, is_useless, suspicions
from hardware_models.measuring.csv_file import refusal
from hardware_models.measuring.measurements import Measurements
from hardware_models.profile import BYTES_PER_ELEMENT, LatencyBound, LatencyError, Precision

DEFAULT_MODEL = "roofline"  # the one that prices any network
MOST_LINES = 8  # that are named one by one
NOT_RANDOM = (
    "Error and bound are those of networks chosen as the measured ones were; the file marks too few as drawn at random "
    "(column part), so they may not hold for others."
)


@dataclass(frozen=True)
class Calibration:
    """A fitted latency model, what it is worth on rows that it had not seen, and sentences on what is not measured.

    `is_random` says whether error and bound are of networks drawn at random, and so hold for others that are. Places of
    `suspicions` are those of rows of the file.
    """

    fitted: Fitted
    held_out: HeldOut
    error: LatencyError
    bound: LatencyBound
    inferred: tuple[str, ...]
    is_random: bool
    suspicions: tuple[Suspicion, ...]


def calibrate(
    measurements: Measurements,
    *,
    model: str,
    level: float,
    precision: Precision,
    unusual_speed: bool = False,
) -> Calibration:
    """The latency model of what was measured, with its held-out error and its bound at `level`.

    Raises: InvalidInputError that lists the rows that cannot be used, by line, or the models that can be fitted.
    """
    rows, subject, element_bytes = measurements.rows, measurements.subject, BYTES_PER_ELEMENT[precision]
    fit_class = MODEL_FITS[model]
    problems: list[str] = []
    if subject not in fit_class.subjects:
        wanted = " or ".join(f"{known}s" for known in fit_class.subjects)
        problems.append(f"line 1: {model} is fitted to {wanted}, and these are {subject}s; set model=roofline")
    problems += row_problems(measurements, level=level)
    check_rows(measurements, precision=precision, unusual_speed=unusual_speed, problems=problems)
    fit, measured_N = fit_class(measurements, bytes_per_element=element_bytes), times(rows)
    _refuse(measurements, fit.problems())
    judged = judged_rows(measurements, level=level)
    held_out = hold_out(fit.predict, measured_N, subject=subject, judged=judged)
    _refuse(measurements, fit.held_out_problems(held_out, level=level))
    every = held_out if judged is None else hold_out(fit.predict, measured_N, subject=subject)
    signs = _signs(measurements, every, precision)
    fitted = fit.fit(np.ones(len(rows), dtype=bool))
    coverage = bound_coverage(fit.predict, measured_N, level=level, judged=judged)
    bound = latency_bound(held_out, level=level, coverage=coverage)
    inferred = [*fit.inferred(fitted, num_held_out=len(held_out.rows))]
    if judged is None and subject == "network":
        inferred.append(NOT_RANDOM)
    inferred += [f"Sign of mistaken measurements, {where(measurements, sign)}: {sign.words}" for sign in signs]
    return Calibration(fitted, held_out, latency_error(held_out), bound, tuple(inferred), judged is not None, signs)


def calibrate_best(
    measurements: Measurements, *, level: float, precision: Precision, unusual_speed: bool = False
) -> tuple[Calibration, dict[str, float]]:
    """The calibration of the model with the least mean held-out error, and that error of each model that was fitted.

    Single operations and blocks are left to a roofline; networks to whatever else can price all of them, too.
    Raises: InvalidInputError as `calibrate` of a roofline.
    """

    def by(model: str) -> Calibration:
        return calibrate(measurements, model=model, level=level, precision=precision, unusual_speed=unusual_speed)

    found = {DEFAULT_MODEL: by(DEFAULT_MODEL)}
    for name, fit_class in MODEL_FITS.items():
        if name in found or measurements.subject != "network" or "network" not in fit_class.subjects:
            continue
        with suppress(ValueError):  # it cannot price these networks, or predicts them poorly
            found[name] = by(name)
    judged = len(found[DEFAULT_MODEL].held_out.rows)
    errors = {name: own.error.mape for name, own in found.items() if len(own.held_out.rows) == judged}
    best = min(errors, key=errors.__getitem__)
    if len(errors) == 1:
        return found[best], errors
    listed = ", ".join(f"{name} ({error:.1%})" for name, error in errors.items())
    kept = (
        f"Of {listed} the model of the least mean error on networks held out was kept, which flatters error and bound "
        "slightly."
    )
    return replace(found[best], inferred=(*found[best].inferred, kept)), errors


def where(measurements: Measurements, sign: Suspicion) -> str:
    """The lines that show a sign: each of a few, or from where to where."""
    lines = [measurements.rows[place].line for place in sign.places]
    if len(lines) == 1:
        return f"line {lines[0]}"
    if len(lines) > MOST_LINES:
        return f"{len(lines)} lines from {lines[0]} to {lines[-1]}"
    return f"lines {', '.join(map(str, lines))}"


def _signs(measurements: Measurements, held_out: HeldOut, precision: Precision) -> tuple[Suspicion, ...]:
    """Signs of mistaken measurements of networks, all of them held out in turn.

    Raises: InvalidInputError if a model of them would be of no use.
    """
    if measurements.subject != "network":
        return ()
    rows = list(held_out.rows)
    signs = suspicions(held_out.predicted_N, held_out.measured_N, _typical(measurements, precision)[rows])
    signs = [replace(sign, places=tuple(rows[place] for place in sign.places)) for sign in signs]
    if is_useless(held_out.predicted_N, held_out.measured_N):
        listed = [f"{where(measurements, sign)}: {sign.words}" for sign in signs]
        useless = "predictions of networks held out are far off, and hardly rank them: a profile would be of no use"
        _refuse(measurements, iter([useless, *listed]))
    return tuple(signs)


def check_rows(
    measurements: Measurements, *, precision: Precision, unusual_speed: bool, problems: Sequence[str] = ()
) -> None:
    """Looks for rows that are wrong whatever is fitted to them; `problems` are known already.

    Raises: InvalidInputError that lists them by line.
    """
    _refuse(measurements, iter(problems))
    typical_N = _typical(measurements, precision)
    _refuse(measurements, unit_problems(measurements, typical_N, load_population(), unusual_speed=unusual_speed))


def _typical(measurements: Measurements, precision: Precision) -> Array:
    """Times (N,) of the rows on the typical device, in ms."""
    networks = [row.operations for row in measurements.rows]
    amounts_NF = roofline_amounts(networks, bytes_per_element=BYTES_PER_ELEMENT[precision])
    design = design_of(measurements.subject, amounts_NF)
    typical_N: Array = design.features(amounts_NF) @ design.prior_P
    return typical_N


def _refuse(measurements: Measurements, problems: Iterator[str]) -> None:
    found = list(problems)
    if found:
        raise refusal(measurements.path, found)
