"""A calibration as the YAML file of a device, commented as the shipped ones are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from hashlib import sha256
from typing import Any

import yaml

from hardware_models.calibration.calibration import Calibration
from hardware_models.domain import domain_of
from hardware_models.measuring.measurements import Measurements
from hardware_models.profile import METRICS, Precision, profile_from_dict
from hardware_models.schema import DIGITS
from search_spaces.errors import InvalidInputError


@dataclass(frozen=True)
class Description:
    """What a profile says of its device beside its prices. `assumed` are sentences on what nobody stated."""

    name: str
    title: str
    runtime: str
    threads: int | None
    precision: Precision
    assumed: tuple[str, ...]
    runtime_version: str | None = None


def profile_text(calibration: Calibration, measurements: Measurements, description: Description) -> str:
    """The profile as YAML, read back once before it is returned. Its budgets are left to the user."""
    sections = [_section(comment, content) for comment, content in _sections(calibration, measurements, description)]
    text = f"# @package hardware.{description.name}\n" + "\n".join(sections)
    if "${" in text:
        raise InvalidInputError("a configuration file reads '${' as a reference: leave it out of title and columns")
    profile_from_dict(description.name, yaml.safe_load(text))
    return text


def _sections(
    calibration: Calibration, measurements: Measurements, description: Description
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A comment and keys with their values, section by section."""
    fitted = calibration.fitted
    yield (
        "Null: not stated.",
        {key: getattr(description, key) for key in ("title", "runtime", "runtime_version", "threads", "precision")},
    )
    yield (
        "Limits per network at batch size 1, null: no limit. gflops in 10^9 multiply-adds, each counted once;\n"
        "params_m in 10^6 parameters, peak_memory_mb in 10^6 bytes, flash_kb and sram_kb in 10^3 bytes.",
        {"budgets": dict.fromkeys(METRICS)},
    )
    latency = fitted.latency.model_dump(mode="json", exclude_defaults=True)
    yield fitted.latency.formula, {"latency": {"model": fitted.latency.model, **latency}}
    if fitted.calibrator is not None:
        yield (
            "Latency of a network from the sum of its operations, both in ms.",
            {"calibrator": fitted.calibrator.model_dump(mode="json")},
        )
    yield "Of latency, as fractions.", {"error": calibration.error.model_dump(mode="json")}
    bound = calibration.bound.model_dump(mode="json")
    yield (
        f"factor * estimate covers a share `level` of new {calibration.held_out.subject}s like those measured "
        "(conformal, from the errors above).\nCoverage: share within the bound, each row left out of the fit and of "
        "the factor; null: too few rows.",
        {"bound": bound | {"factor": _rounded_up(bound["factor"])}},
    )
    if not fitted.latency.refuses_others:
        subject = calibration.held_out.subject
        domain = domain_of(row.operations for row in measurements.rows).model_dump(mode="json")
        yield (
            f"Least and most pixels (height times width) of the inputs of these {subject}s; beyond them the factor "
            "grows by\n(ratio of pixels) ** growth.",
            {"domain": domain},
        )
    yield "", _origin(calibration, measurements, description)


def _section(comment: str, content: Mapping[str, Any]) -> str:
    flow = None if {"latency", "calibrator"} & set(content) else False  # None: the innermost parts on one line each
    comments = "".join(f"# {line}\n" for line in comment.splitlines())
    return comments + str(
        yaml.safe_dump(_rounded(content), sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=flow)
    )


def _origin(calibration: Calibration, measurements: Measurements, description: Description) -> dict[str, Any]:
    fields = [row.fields for row in measurements.rows]
    machine = ", ".join(_values(fields, "machine")) or measurements.constants.get("machine", "")
    dates = sorted({when[:10] for when in _values(fields, "date")})  # without the clock
    when = f" from {dates[0]} to {dates[-1]}" if len(dates) > 1 else "".join(f" on {date}" for date in dates)
    digest = sha256(measurements.path.read_bytes()).hexdigest()
    where = f"measured{when} on {machine}" if machine else f"measured{when}; the file does not say on what"
    statistic = measurements.constants.get("statistic", "median").capitalize()
    return {
        "source": "; ".join([where, f"{measurements.path.name} (sha256 {digest})"]),
        "measured": [f"{statistic} time in ms of {len(fields)} {measurements.subject}s at batch size 1."],
        "inferred": [*calibration.inferred, *description.assumed],
    }


def _values(fields: Sequence[Mapping[str, str]], column: str) -> list[str]:
    return sorted({values[column] for values in fields if values.get(column)})


def _rounded(value: Any) -> Any:
    """The same with numbers of four digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def _rounded_up(value: float) -> float:
    """Four digits and never less, for what must not become smaller."""
    return float(Context(prec=DIGITS, rounding=ROUND_CEILING).create_decimal_from_float(value))
