"""A device: how it prices an operation, how far the price may be off, and where its numbers come from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from hardware_models.additive import Additive, Match, Size, Term
from hardware_models.roofline import PRICE_KINDS, KindRate, Positive, Roofline, Section, describe
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation

Metric = Literal["latency_ms", "gflops", "params_m", "peak_memory_mb"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Precision = Literal["fp32", "fp16", "int8"]
BYTES_PER_ELEMENT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}

Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class LatencyError(Section):
    """Relative error of latency on networks that the fit had not seen, as fractions, and their rank correlation."""

    method: Text
    n: Size
    mape: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    median_ape: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    within_20_share: Share
    spearman: Annotated[float, Field(strict=True, ge=-1, le=1, allow_inf_nan=False)]


class LatencyBound(Section):
    """`factor` times the estimate is at least the latency of a share `level` of networks; from `n` held-out ones."""

    level: Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
    n: Size
    factor: Annotated[float, Field(strict=True, ge=1, allow_inf_nan=False)]


class HardwareProfile(Section):
    """A device with its runtime, its budgets, its latency model and their origin. Batch size is 1."""

    name: Text
    title: Text
    runtime: Text
    threads: Size | None  # null: the source does not say
    precision: Precision
    budgets: Mapping[Metric, Positive]
    latency: Annotated[Roofline | Additive, Field(discriminator="model")]
    error: LatencyError
    bound: LatencyBound | None = None
    source: Text
    measured: tuple[Text, ...]
    inferred: tuple[Text, ...]

    @field_validator("budgets", mode="before")
    @classmethod
    def _drop_unbudgeted(cls, budgets: Any) -> Any:
        if not isinstance(budgets, Mapping):
            return budgets
        return {metric: limit for metric, limit in budgets.items() if limit is not None or metric not in METRICS}

    @property
    def constant_ms(self) -> float:
        """Milliseconds of a network that none of its operations carries."""
        return self.latency.constant_ms

    @property
    def provenance(self) -> dict[str, Any]:
        """What the latency figures are worth: device, runtime, origin, held-out error and bound, as plain values."""
        return self.model_dump(mode="json", exclude={"budgets", "latency"})

    def price(self, operation: Operation) -> dict[str, float]:
        """Costs of one operation: latency_ms, gflops, params_m, weight_mb, activation_mb.

        gflops counts a multiply-add as one, as fvcore does. An MB is 10^6 bytes at the precision of the profile;
        activation_mb is all that lies in memory while the operation runs.
        Raises: InvalidInputError if the latency model has no price for the operation.
        """
        element_bytes = BYTES_PER_ELEMENT[self.precision]
        latency_ms = self.latency.price_ms(operation, bytes_per_element=element_bytes)
        if latency_ms is None:
            raise InvalidInputError(
                f"profile {self.name} has no latency for {describe(operation)}: {operation}; it prices: "
                f"{self.latency.priced}; add that entry to hardware.{self.name}.latency, or choose another profile"
            )
        return {
            "latency_ms": latency_ms,
            "gflops": operation.macs / 1e9,
            "params_m": operation.params / 1e6,
            "weight_mb": operation.params * element_bytes / 1e6,
            "activation_mb": operation.live_elements * element_bytes / 1e6,
        }

    def upper(self, metric: str, value: float) -> float:
        """The bound above an estimate of `metric`: latency times the bound's factor, anything else as it is."""
        return value * self._factor(metric)

    def point_limit(self, metric: str, limit: float) -> float:
        """The largest estimate of `metric` whose bound is within `limit`."""
        return limit / self._factor(metric)

    def _factor(self, metric: str) -> float:
        return self.bound.factor if self.bound and metric == "latency_ms" else 1.0


def profile_from_dict(name: str, mapping: Mapping[str, Any]) -> HardwareProfile:
    """The profile `name` of plain values, as a YAML file or the command line gives them.

    Raises: InvalidInputError that lists every wrong field by its dotted key.
    """
    if not isinstance(mapping, Mapping):
        raise InvalidInputError(f"hardware.{name}: got {mapping!r}; a profile is a mapping of fields to values")
    try:
        return HardwareProfile.model_validate({"name": name, **mapping})
    except ValidationError as error:
        lines = [_explain(name, details) for details in error.errors(include_url=False)]
    raise InvalidInputError("\n  ".join([f"hardware profile {name} cannot be used:", *lines]))


def load_profile(path: Path) -> HardwareProfile:
    """The profile of a YAML file, named after it. Raises: InvalidInputError if it is not a valid profile."""
    try:
        mapping = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InvalidInputError(f"cannot read a hardware profile from {path}: {error}") from error
    return profile_from_dict(Path(path).stem, mapping)


# The part of a profile that a key on the way to a wrong field stands for.
_SECTIONS: dict[str, type[BaseModel]] = {
    "error": LatencyError,
    "bound": LatencyBound,
    "roofline": Roofline,
    "additive": Additive,
    "kinds": KindRate,
    "terms": Term,
    "match": Match,
    "in_constant": Match,
}


def _explain(name: str, details: ErrorDetails) -> str:
    """One line for one wrong field: its dotted key, what was got, what is allowed."""
    path = [str(part) for part in details["loc"]]
    wrong_key = path[-1:] == ["[key]"]
    keys = path[:-1] if wrong_key else path
    dotted = ".".join(["hardware", name, *(key for i, key in enumerate(keys) if not _is_tag(keys, i))])
    if details["type"] == "missing":
        return f"{dotted}: missing; give it a value"
    if wrong_key:
        return f"{dotted}: unknown name; allowed: {', '.join(METRICS if keys[0] == 'budgets' else PRICE_KINDS)}"
    if details["type"] == "extra_forbidden":
        owner = next((_SECTIONS[key] for key in reversed(keys[:-1]) if key in _SECTIONS), HardwareProfile)
        return f"{dotted}: unknown field; allowed: {', '.join(owner.model_fields)}"
    if keys[0] == "budgets" and len(keys) == 2:
        return f"{dotted}: got {details['input']!r}; allowed: a finite number greater than 0, or null for no budget"
    allowed = details["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{dotted}: got {details['input']!r}; allowed: {allowed}"


def _is_tag(keys: list[str], i: int) -> bool:
    """Whether `keys[i]` is the name of a latency model, which pydantic puts in the way and no file contains."""
    return i == 1 and keys[0] == "latency" and keys[1] in ("roofline", "additive")
