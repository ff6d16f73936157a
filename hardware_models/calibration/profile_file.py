"""A calibration as the YAML file of a device, commented as the shipped ones are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from hashlib import sha256

import yaml

from hardware_models.calibration.additive_fit import load_cell_population
from hardware_models.calibration.calibration import Calibration
from hardware_models.calibration.population import load_population
from hardware_models.latency_models.additive import Additive, Match
from hardware_models.latency_models.calibrator import Calibrator
from hardware_models.latency_models.roofline import PRICE_KINDS, Roofline
from hardware_models.latency_models.table import Table
from hardware_models.measuring.measurements import Measurements, Subject
from hardware_models.profile import Precision, profile_from_dict
from search_spaces.errors import InvalidInputError

DIGITS = 4  # of a number in the file


@dataclass(frozen=True)
class Description:
    """What a profile says of its device beside its prices. `assumed` are sentences on what nobody stated."""

    name: str
    title: str
    runtime: str
    threads: int | None
    precision: Precision
    assumed: tuple[str, ...]


def profile_text(calibration: Calibration, measurements: Measurements, description: Description) -> str:
    """The profile as YAML, read back once before it is returned. Its budgets are left to the user."""
    sections = [
        _head(description),
        _dead_code(calibration.drops_dead_code),
        _latency(calibration.latency),
        *([] if calibration.calibrator is None else [_calibrator(calibration.calibrator)]),
        _error(calibration),
        _bound(calibration),
        "\n".join(_origin(calibration, measurements, description)),
    ]
    text = "\n\n".join(sections) + "\n"
    profile_from_dict(description.name, yaml.safe_load(text))
    return text


def _head(description: Description) -> str:
    return f"""\
# @package hardware.{description.name}
title: {_text(description.title)}
runtime: {_text(description.runtime)}
threads: {"null  # not stated" if description.threads is None else description.threads}
precision: {description.precision}

budgets:  # limits per network at batch size 1; null: no limit
  latency_ms: null
  gflops: null  # 10^9 multiply-adds, each counted once
  params_m: null  # 10^6 parameters
  peak_memory_mb: null  # 10^6 bytes"""


def _dead_code(drops: bool | None) -> str:
    told = {None: "null  # not known", True: "true", False: "false"}[drops]
    return f"# Whether the runtime leaves out operations whose output nothing reads.\ndrops_dead_code: {told}"


def _latency(model: Roofline | Table | Additive) -> str:
    if isinstance(model, Roofline):
        return _roofline(model)
    return _table(model) if isinstance(model, Table) else _additive(model)


def _additive(model: Additive) -> str:
    def flow(match: Match) -> str:
        return str(
            yaml.safe_dump(match.model_dump(exclude_none=True), default_flow_style=True, sort_keys=False)
        ).strip()

    return "\n".join(
        [
            "# Time of a network = the constant + the price of each operation that a term matches.",
            "latency:",
            "  model: additive",
            f"  constant_ms: {_number(model.constant_ms)}",
            "  in_constant:  # the same in every network of the benchmark",
            *(f"    - {flow(match)}" for match in model.in_constant),
            "  terms:  # ms for each operation",
            *(f"    - {{match: {flow(term.match)}, ms: {_number(term.ms)}}}" for term in model.terms),
        ]
    )


def _roofline(model: Roofline) -> str:
    width = max(map(len, PRICE_KINDS)) + 1
    kinds = [
        f"    {kind + ':':{width}} {{throughput_gops: {_number(rate.throughput_gops)}, "
        f"overhead_ms: {_number(rate.overhead_ms)}}}"
        for kind, rate in model.kinds.items()
    ]
    return "\n".join(
        [
            "# Time of an operation = work / throughput + weight bytes / bandwidth + activation bytes / bandwidth + "
            "overhead.",
            "latency:",
            "  model: roofline",
            f"  weight_gb_per_s: {_number(model.weight_gb_per_s)}  # 10^9 bytes per second",
            f"  activation_gb_per_s: {_number(model.activation_gb_per_s)}  # bytes read and written",
            "  kinds:  # throughput in 10^9 multiply-adds per second, null: bytes alone; overhead in ms per operation",
            *kinds,
        ]
    )


def _table(model: Table) -> str:
    entries = [f"    {notation}: {_number(ms)}" for notation, ms in model.entries.items()]
    return "\n".join(
        [
            "# Time of an operation: its entry, else between the nearest entries of its form, else an error.",
            "latency:",
            "  model: table",
            "  entries:  # ms",
            *entries,
        ]
    )


def _calibrator(calibrator: Calibrator) -> str:
    points = ", ".join(f"[{_number(sum_ms)}, {_number(ms)}]" for sum_ms, ms in calibrator.points)
    return f"# Latency of a network from the sum of its operations, both in ms.\ncalibrator: {{points: [{points}]}}"


def _error(calibration: Calibration) -> str:
    error = calibration.error
    assert error.within_10_share is not None
    return f"""\
error:  # of latency, as fractions
  method: {_text(error.method)}
  n: {error.n}
  mape: {_number(error.mape)}
  median_ape: {_number(error.median_ape)}
  within_10_share: {_number(error.within_10_share)}
  within_20_share: {_number(error.within_20_share)}
  spearman: {_number(error.spearman)}"""


def _bound(calibration: Calibration) -> str:
    bound = calibration.bound
    held_out = f"new {calibration.held_out.subject}s like those measured"
    coverage = "null  # too few rows to tell" if bound.coverage is None else _number(bound.coverage)
    return f"""\
bound:  # factor * estimate covers a share `level` of {held_out} (conformal, from the errors above)
  level: {bound.level}
  n: {bound.n}
  subject: {bound.subject}
  factor: {_number(bound.factor, up=True)}
  # Share within the bound, each row left out of the fit and of the factor.
  coverage: {coverage}"""


def _origin(calibration: Calibration, measurements: Measurements, description: Description) -> Iterator[str]:
    fields = [row.fields for row in measurements.rows]
    machine, versions = (", ".join(_values(fields, column)) for column in ("machine", "versions"))
    dates = _values(fields, "date")
    when = f" from {dates[0]} to {dates[-1]}" if len(dates) > 1 else "".join(f" on {date}" for date in dates)
    digest = sha256(measurements.path.read_bytes()).hexdigest()
    where = f"measured{when} on {machine}" if machine else f"measured{when}; the file does not say on what"
    source = "; ".join(filter(None, [where, versions, f"{measurements.path.name} (sha256 {digest})"]))
    yield f"source: {_text(source)}"
    yield "measured:"
    statistic = measurements.constants.get("statistic", "median").capitalize()
    yield f"  - {_text(f'{statistic} time in ms of {len(fields)} {measurements.subject}s at batch size 1.')}"
    inferred = [*_inferred(calibration, measurements), *description.assumed]
    yield "inferred:"
    yield from (f"  - {_text(sentence)}" for sentence in inferred)


def _inferred(calibration: Calibration, measurements: Measurements) -> Iterator[str]:
    match calibration.latency:
        case Table():
            without = len(measurements.rows) - calibration.error.n
            yield (
                f"Error and bound are those of operations priced between the others; {without} of "
                f"{len(measurements.rows)} lie beside them and are left out of both."
            )
            yield (
                "A network is priced as the sum of its operations, each measured alone: fusion and caches are in "
                "neither."
            )
        case Additive():
            cells = load_cell_population()
            yield (
                f"Prices are fitted together to the networks (robust), drawn to their mean over {cells.settings} "
                f"settings of other devices as far as these differ ({cells.source})."
            )
            yield "They price networks of NAS-Bench-201 for 32x32 images alone."
        case Roofline() as latency:
            yield from _inferred_rates(calibration, measurements.subject)
            yield from _inferred_sums(latency, measurements.subject)


def _inferred_rates(calibration: Calibration, subject: Subject) -> Iterator[str]:
    """How throughputs, bandwidths and overheads were found, and which of them the rows leave open."""
    population = load_population()
    yield (
        f"Throughputs, bandwidths and overheads are fitted together to the {subject}s (least relative error, robust), "
        f"drawn weakly to the proportions of a typical device made of {population.devices} others "
        f"({population.source})."
    )
    if calibration.calibrator is not None:
        yield (
            "The calibrator maps the sum of a network's operations to its latency, straight in logarithms between its "
            "points and on beyond them; it foretold networks held out better than the sum."
        )
    if calibration.undecided:
        yield (
            f"The {subject}s do not tell these apart, so that the typical device decides for the larger part: "
            f"{', '.join(map(_words, calibration.undecided))}."
        )
    if calibration.unmeasured:
        yield (
            f"No measured network has operations priced as {', '.join(calibration.unmeasured)}: they are priced by the "
            "typical device at this device's speed."
        )


def _inferred_sums(latency: Roofline, subject: Subject) -> Iterator[str]:
    """What a price that is a sum over operations leaves out, and what the rows do not tell of it."""
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
            f"Operations priced as {', '.join(alone)} are priced from the bandwidths alone: the networks do not tell "
            "their overhead from that of the others."
        )


def _words(column: str) -> str:
    quantity, _, kind = column.partition(":")
    if kind:
        return f"{quantity} of {kind}"
    return {"weights": "bandwidth of weights", "activations": "bandwidth of activations"}.get(column, column)


def _values(fields: Sequence[Mapping[str, str]], column: str) -> list[str]:
    return sorted({values[column] for values in fields if values.get(column)})


def _text(text: str) -> str:
    if "${" in text:
        raise InvalidInputError(f"got {text[:200]!r}; a configuration file reads '${{' as a reference: leave it out")
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9).strip()


def _number(value: float | None, *, up: bool = False) -> str:
    """Four digits as YAML reads a number back; `up` never rounds down, for what must not become less."""
    if value is None:
        return "null"
    shown = float(f"{value:.{DIGITS}g}")
    if up and shown < value:
        shown = float(Context(prec=DIGITS, rounding=ROUND_CEILING).create_decimal_from_float(value))
    return str(yaml.safe_dump(shown).splitlines()[0])
