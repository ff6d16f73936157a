"""A device: how it prices an operation, how far the price may be off, and where its numbers come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from hardware_models.domain import Domain
from hardware_models.field_errors import Place, dotted, problems_of
from hardware_models.latency_models.calibrator import Calibrator
from hardware_models.latency_models.latency_model import LATENCY_MODELS, AnyLatencyModel
from hardware_models.latency_models.roofline import describe
from hardware_models.metrics import METRICS, Margin, Metric
from hardware_models.placement.units import Link, Unit, UnitName, link_between, unit_problems
from hardware_models.schema import InRange, NonNegative, Positive, Section, Share, Size, Text
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

Precision = Literal["fp32", "fp16", "int8"]
BYTES_PER_ELEMENT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


BIAS_BYTES = 4  # of int8 networks. Source: TensorFlow Lite's 8-bit quantization specification, biases are int32


def flash_kb(params: int, biases: int, element_bytes: int) -> float:
    """What stores so many weights, `biases` of them biases, in 10^3 bytes."""
    bias_bytes = BIAS_BYTES if element_bytes == 1 else element_bytes
    return ((params - biases) * element_bytes + biases * bias_bytes) / 1e3


class LatencyError(Section):
    """Relative error of latency on networks that the fit had not seen, as fractions, and their rank correlation.

    `median_ape_interval` contains, at 90 % confidence, the median of further networks drawn in the same way; of few
    networks it is wide.
    """

    method: Text
    n: Size
    mape: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    median_ape: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    median_ape_interval: tuple[NonNegative, NonNegative] | None = None  # null: not known, or of too few
    within_10_share: Share | None = None  # null: not known
    within_20_share: Share
    spearman: Annotated[float, Field(strict=True, ge=-1, le=1, allow_inf_nan=False)]


class LatencyBound(Section):
    """`factor` times the estimate is at least the latency of a share `level` of `n` held-out networks.

    `subject` says what they were. One of blocks or operations measured alone is no bound of a network, of which it says
    nothing: its operations run one into another.

    `coverage` is the share of them that it was seen to hold for, each with a fit and a factor that had not seen it.
    """

    level: Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
    n: Size
    factor: Annotated[float, Field(strict=True, ge=1, allow_inf_nan=False), InRange]
    coverage: Share | None = None  # null: not known
    subject: Literal["network", "block", "operation"] = "network"


class HardwareProfile(Section):
    """A device with its runtime, its budgets, its latency model and their origin. Batch size is 1.

    It has one latency model, or several `units` with one each, joined by `links`: then a network's input lies at
    `entry`, its output is needed there, and its cost is that of where its operations are placed.
    `calibrator` maps the sum of the operations' latencies to that of the network; null: the sum is the latency.
    `error` is null where nothing was measured, as for prices from a specification; `error_reason` then says why.
    `domain` is that of error and bound; `widening` what the bound's factor is multiplied by beyond it, see `over`.
    """

    name: Text
    title: Text
    runtime: Text
    runtime_version: Text | None = None  # and of what else ran there; null: the source does not say
    threads: Size | None  # null: the source does not say
    precision: Precision
    budgets: Mapping[Metric, Positive]
    latency: AnyLatencyModel | None = None
    units: Mapping[UnitName, Unit] = Field(default_factory=dict)
    links: Mapping[UnitName, Link] = Field(default_factory=dict)
    entry: UnitName | None = None
    calibrator: Calibrator | None = None
    error: LatencyError | None
    error_reason: Text | None = None
    bound: LatencyBound | None = None
    domain: Domain | None = None  # null: not stated, or its prices refuse what they were not fitted to
    widening: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    source: Text
    measured: tuple[Text, ...]
    inferred: tuple[Text, ...]

    @field_validator("budgets", mode="before")
    @classmethod
    def _drop_unbudgeted(cls, budgets: Any) -> Any:
        if not isinstance(budgets, Mapping):
            return budgets
        return {metric: limit for metric, limit in budgets.items() if limit is not None or metric not in METRICS}

    @model_validator(mode="after")
    def _fits_together(self) -> "HardwareProfile":
        problems = [f"hardware.{self.name}.{problem}" for problem in self._contradictions()]
        if problems:
            raise ValueError("\n  ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        """What is wrong between fields that are right by themselves, each with its key below the profile."""
        if not self.units and self.latency is None:
            yield "latency: missing; give it a model, or give `units` with one each"
        if self.units and self.latency is not None:
            yield "latency: got a model beside `units`, which have their own; keep one of the two"
        if self.units:
            yield from unit_problems(self.units, self.links, self.entry)
            for metric in {"flash_kb", "sram_kb"} & set(self.budgets):
                yield f"budgets.{metric}: got one beside `units`, which share peak_memory_mb; give that instead"
            if self.calibrator is not None:
                yield "calibrator: got one beside `units`: placements are found for sums; leave it out"
        elif self.links or self.entry is not None:
            yield "units: got none, but `links` or `entry`, which join units; give the units or leave these out"
        if (self.error is None) != (self.error_reason is not None):
            yield f"error_reason: got {self.error_reason!r}; allowed: a reason where `error` is null, and only there"
        if self.error is None and self.bound is not None:
            yield "bound: got one, but `error` is null: a bound comes from measurements; leave it out"
        if self.domain is not None and self.bound is None:
            yield "domain: got one, but no `bound`, which it is that of; give both or leave it out"
        if self.widening != 1:
            yield f"widening: got {self.widening:g}, but it follows from `domain` and the networks; leave it out"

    def over(self, pixels: Sequence[int]) -> "HardwareProfile":
        """The profile for networks whose inputs have so many pixels: its bound is widened if they leave its domain."""
        return self if self.domain is None else self.model_copy(update={"widening": self.domain.widening(pixels)})

    @property
    def outside(self) -> str:
        """How far the bound of networks is widened and why, in words; empty for networks inside the domain."""
        if self.domain is None or self.widening == 1 or self.network_bound is None:
            return ""
        least, most = self.domain.pixels
        return f"bound widened {self.widening:.2f}x: fitted to inputs of {least:,} to {most:,} pixels, not to these"

    @property
    def constant_ms(self) -> float:
        """Milliseconds of a network that none of its operations carries."""
        return 0.0 if self.latency is None else self.latency.constant_ms

    @property
    def provenance(self) -> dict[str, Any]:
        """What the latency figures are worth: device, runtime, origin, held-out error and bound, as plain values.

        Of units and links, where there are any, it has what decides on a placement beside the prices. Of tables it has
        how many operations they hold, and the hash of the file that they were read from.
        """
        priced = {name: {"latency"} for name in self.units}
        content = self.model_dump(mode="json", exclude={"budgets": True, "latency": True, "units": priced})
        absent = {"units": not self.units, "links": not self.units, "entry": not self.units}
        absent["error_reason"] = self.error is not None
        absent |= {key: content[key] is None for key in ("calibrator", "runtime_version")}
        absent["domain"] = absent["widening"] = self.domain is None
        models = {"latency": self.latency} | {
            f"units.{name}.latency": unit.latency for name, unit in self.units.items()
        }
        for key in ("error", "bound"):
            content[key] = content[key] and {name: value for name, value in content[key].items() if value is not None}
        content["tables"] = {key: dict(model.origin) for key, model in models.items() if model and model.origin}
        absent["tables"] = not content["tables"]
        return {key: value for key, value in content.items() if not absent.get(key)}

    def price(self, operation: Operation, *, unit: str | None = None) -> dict[str, float]:
        """Costs of one operation: latency_ms, gflops, params_m, weight_mb, flash_kb, activation_mb.

        gflops counts a multiply-add as one, as fvcore does. An MB is 10^6 bytes at the precision of the
        operation, or of the profile where it has none; in flash_kb, 10^3 bytes, biases are as wide as runtimes store
        them;
        activation_mb is all that lies in memory while the operation runs. A device of several units prices it on the
        `unit` named, at its load and weight; of what runs on a remote unit nothing lies in the device's memory.
        Raises: InvalidInputError if the latency model has no price for the operation.
        """
        element_bytes = self._element_bytes(operation)
        latency_ms = self._latency_ms(operation, unit)
        is_local = unit is None or not self.units[unit].remote
        local_bytes = element_bytes if is_local else 0
        return {
            "latency_ms": latency_ms,
            "gflops": operation.macs / 1e9,
            "params_m": operation.params / 1e6,
            "weight_mb": operation.params * local_bytes / 1e6,
            "flash_kb": flash_kb(operation.params, operation.biases, element_bytes) * is_local,
            "activation_mb": operation.live_elements * local_bytes / 1e6,
        }

    def transfer(self, elements: int, source: str, target: str) -> dict[str, float]:
        """Costs of moving that many elements from one unit to another: latency_ms, activation_mb; 0 to itself.

        activation_mb is what of them lies in the device's own memory meanwhile.
        """
        element_bytes = BYTES_PER_ELEMENT[self.precision]
        if source == target:
            return {"latency_ms": 0.0, "activation_mb": 0.0}
        link = link_between(self.links, source, target)
        assert link is not None  # checked when the profile was made
        is_outside = self.units[source].remote and self.units[target].remote
        return {
            "latency_ms": link.transfer_ms(elements, bytes_per_element=element_bytes),
            "activation_mb": 0.0 if is_outside else elements * element_bytes / 1e6,
        }

    def _element_bytes(self, operation: Operation) -> int:
        precisions = {str(name): size for name, size in BYTES_PER_ELEMENT.items()}
        precision = operation.precision or self.precision
        if precision not in precisions:
            raise InvalidInputError(
                f"{operation.notation}: got precision {precision!r}, allowed: {', '.join(precisions)}"
            )
        return precisions[precision]

    def _latency_ms(self, operation: Operation, unit: str | None) -> float:
        if (unit is None) == bool(self.units) or (unit is not None and unit not in self.units):
            units = ", ".join(self.units) or "none: its one latency model prices everything"
            raise InvalidInputError(f"profile {self.name} prices on one of its units; got {unit!r}, it has {units}")
        model = self.latency if unit is None else self.units[unit].latency
        assert model is not None  # checked when the profile was made
        if operation.precision == self.precision:
            operation = replace(operation, precision=None)
        latency_ms = model.price_ms(operation, bytes_per_element=self._element_bytes(operation))
        if latency_ms is None:
            key = "latency" if unit is None else f"units.{unit}.latency"
            missing = model.missing(operation)
            reason = f"{missing}; " if missing else ""
            raise InvalidInputError(
                f"profile {self.name} has no latency for {describe(operation)}: {operation.notation}; "
                f"{reason}it prices: {model.priced}; "
                f"add that entry to hardware.{self.name}.{key}, or choose another profile"
            )
        return latency_ms if unit is None else latency_ms * self.units[unit].slowdown

    def estimate(self, metric: str, total: float) -> float:
        """The estimate of `metric` of a network whose operations' prices sum to `total`."""
        if self.calibrator is None or metric != "latency_ms":
            return total
        return self.calibrator.latency_ms(total)

    def upper(self, metric: str, total: float) -> float:
        """The bound above the estimate: latency times the bound's factor, widened; anything else as it is."""
        return self.estimate(metric, total) * self._factor(metric)

    def largest_total(self, metric: str, limit: float, *, margin: Margin = "upper") -> float:
        """The largest sum of `metric` whose bound, or estimate, is within `limit`."""
        limit = limit / self._factor(metric) if margin == "upper" else limit
        return limit if self.calibrator is None or metric != "latency_ms" else self.calibrator.sum_ms(limit)

    @property
    def network_bound(self) -> LatencyBound | None:
        """The bound, if it is one of whole networks."""
        return self.bound if self.bound is not None and self.bound.subject == "network" else None

    def _factor(self, metric: str) -> float:
        bound = self.network_bound
        return bound.factor * self.widening if bound is not None and metric == "latency_ms" else 1.0


def profile_from_dict(name: str, mapping: Mapping[str, Any]) -> HardwareProfile:
    """The profile `name` of plain values, as a YAML file or the command line gives them.

    Raises: InvalidInputError that lists every wrong field by its dotted key.
    """
    if not isinstance(mapping, Mapping):
        raise InvalidInputError(f"hardware.{name}: got {mapping!r}; a profile is a mapping of fields to values")

    def key(place: Place) -> str:
        if place[:1] == ("links",):
            place = (*place[:2], *place[3:])  # pydantic puts the kind of a link after its name
        return dotted(("hardware", name, *place)) if place else ""

    try:
        return HardwareProfile.model_validate({"name": name, **mapping})
    except ValidationError as error:
        lines = problems_of(error, key)
        raise InvalidInputError("\n  ".join([f"hardware profile {name} cannot be used:", *lines])) from error


def resolve_profile(name: str, mapping: Mapping[str, Any], cache_dir: Path) -> Mapping[str, Any]:
    """The plain values of a profile, its latency measured here if its model is one that is (`host`); others as given.

    Raises: InvalidInputError if it asks for what cannot be measured here, or if nothing can be kept in `cache_dir`.
    """
    latency = mapping.get("latency") if isinstance(mapping, Mapping) else None
    model = str(latency.get("model")) if isinstance(latency, Mapping) else ""
    return LATENCY_MODELS[model].resolve(name, mapping, cache_dir) if model in LATENCY_MODELS else mapping


def load_profile(path: Path) -> HardwareProfile:
    """The profile of a YAML file, named after it. Raises: InvalidInputError if it is not a valid profile."""
    try:
        mapping = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidInputError(f"cannot read a hardware profile from {path}: {error}") from error
    return profile_from_dict(Path(path).stem, mapping)
