"""Roofline pricing: an operation takes the time of its work, of its weights, of its activations, and of its start."""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from hardware_models.latency_models.latency_model import LatencyModel
from hardware_models.schema import NonNegative, Positive, Section
from search_spaces.operation import KINDS, Operation, kind_of, parse_operation

PriceKind = str  # one of these, or the name of a registered kind of operation
PRICE_KINDS = ("pointwise", "dense", "winograd", "depthwise", "grouped", "linear", "pool", "elementwise")


def price_kinds() -> tuple[PriceKind, ...]:
    """What a profile may have a rate for: the kinds that Espalier fits, and every registered kind by its name."""
    return tuple(dict.fromkeys((*PRICE_KINDS, *KINDS)))


def _known(kind: PriceKind) -> PriceKind:
    if kind not in price_kinds():
        raise ValueError(f"allowed: {', '.join(price_kinds())}")
    return kind


def _notation(text: str) -> str:
    return parse_operation(text).notation


class KindRate(Section):
    """How fast one kind runs: work in 10^9 per second (null: work costs nothing beside bytes), and ms to start one."""

    throughput_gops: Positive | None
    overhead_ms: NonNegative


class Roofline(LatencyModel):
    """Latency of one operation as a sum over its work, its weights, its activations and a constant for its kind.

    A bandwidth is in GB/s (10^9 bytes); null where the fit found that these bytes cost nothing.
    `winograd` is optional: 3x3 convolutions that a runtime may compute with fewer multiplications; without it they are
    `dense`. `factors` are of single operations by their notation, where measured networks are predicted better with
    them; an operation that is not named has 1. The sum is linear in what is fitted; the larger of work and bytes, tried
    instead, predicted no better.
    """

    formula: ClassVar[str] = (
        "Time of an operation = work / throughput + weight bytes / bandwidth + activation bytes / bandwidth + "
        "overhead.\nBandwidths in 10^9 bytes per second; throughput in 10^9 multiply-adds per second, null: bytes "
        "alone; overhead in\nms per operation. Factors of single operations, where there are any, multiply it."
    )

    model: Literal["roofline"]
    weight_gb_per_s: Positive | None
    activation_gb_per_s: Positive | None
    kinds: Mapping[Annotated[PriceKind, AfterValidator(_known)], KindRate]
    factors: Mapping[Annotated[str, AfterValidator(_notation)], Positive] = Field(default_factory=dict)

    @property
    def priced(self) -> str:
        return ", ".join(self.kinds)

    @property
    def monotone(self) -> bool:
        return not self.factors  # which are of single shapes

    def price_ms(self, operation: Operation, *, bytes_per_element: int) -> float | None:
        rate = self.kinds.get(priced_as(operation, self.kinds))
        if rate is None:
            return None
        seconds_e9 = (
            _time(work(operation), rate.throughput_gops)
            + _time(operation.params * bytes_per_element, self.weight_gb_per_s)
            + _time((operation.in_elements + operation.out_elements) * bytes_per_element, self.activation_gb_per_s)
        )
        price_ms = seconds_e9 * 1e-6 + rate.overhead_ms
        return price_ms * self.factors.get(operation.notation, 1.0) if self.factors else price_ms


def priced_as(operation: Operation, kinds: Collection[PriceKind]) -> PriceKind:
    """The kind that a roofline of these kinds prices `operation` as."""
    kind = price_kind(operation)
    return "winograd" if kind == "dense" and "winograd" in kinds and suits_winograd(operation) else kind


def suits_winograd(operation: Operation) -> bool:
    """Whether runtimes take Winograd's minimal filtering for a dense convolution: 3x3, stride 1, packed channels.

    Runtimes differ in their channel rules; this one, packs of four from eight channels on, served the fits well.
    Source of the algorithm: Lavin and Gray, arXiv:1509.09308.
    """
    channels = operation.in_shape[0], operation.out_shape[0]
    is_packed = all(c >= 8 and c % 4 == 0 for c in channels)
    return operation.window == (3, 3) and operation.stride == 1 and is_packed


def price_kind(operation: Operation) -> PriceKind:
    """The kind that the record of `operation` names, Winograd's left aside."""
    return kind_of(operation).price_kind(operation)


def describe(operation: Operation) -> str:
    """What `operation` is priced as, in words."""
    return f"{operation.kind} (priced as {price_kind(operation)})"


def work(operation: Operation) -> int:
    """Multiply-adds of a convolution or linear layer, elements in the windows of a pool, 0 for an elementwise one."""
    own = kind_of(operation).work
    return operation.macs if own is None else own(operation)


def _time(amount: int, giga_per_s: float | None) -> float:
    """Nanoseconds for `amount` at a rate in 10^9 per second."""
    return amount / giga_per_s if giga_per_s is not None else 0.0
