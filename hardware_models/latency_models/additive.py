"""Additive pricing: a constant for the network, and one price for each operation of a form seen in a benchmark."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from hardware_models.latency_models.latency_model import LatencyModel
from hardware_models.schema import NonNegative, Section, Size
from search_spaces.operation import KINDS, Operation


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"allowed: {', '.join(KINDS)}")
    return kind


class Match(Section):
    """A form of operation. A field that is null matches anything."""

    kind: Annotated[str, AfterValidator(_known_kind)]
    kernel: Size | None = None
    stride: Size | None = None
    same_channels: Annotated[bool, Field(strict=True)] | None = None

    def covers(self, operation: Operation) -> bool:
        """Whether `operation` has this form."""
        same_channels = operation.in_shape[0] == operation.out_shape[0]
        return (
            self.kind == operation.kind
            and (self.kernel is None or (self.kernel, self.kernel) == operation.window)
            and self.stride in (None, operation.stride)
            and self.same_channels in (None, same_channels)
        )


class Term(Section):
    """The price of one form of operation, in milliseconds each."""

    match: Match
    ms: NonNegative


class Additive(LatencyModel):
    """Latency of a network of one benchmark: `constant_ms`, and for each operation the first term that matches.

    An operation that `in_constant` matches is part of the constant and adds 0 ms: it is the same in every network that
    was measured, so its share is not known. `in_constant` is looked at before `terms`. `shapes` are the outputs
    (C, H, W) of the operations that the terms were fitted to: others have no price. Null: any has one.
    """

    formula: ClassVar[str] = (
        "Time of a network = the constant + ms for each operation, by the first term that matches it.\n"
        "What in_constant matches is the same in every network of the benchmark."
    )

    model: Literal["additive"]
    constant_ms: NonNegative
    in_constant: tuple[Match, ...]
    terms: tuple[Term, ...]
    shapes: tuple[tuple[Size, Size, Size], ...] | None = None

    @property
    def priced(self) -> str:
        forms = [*(term.match for term in self.terms), *self.in_constant]
        return "; ".join(" ".join(f"{k}={v}" for k, v in form.model_dump(exclude_none=True).items()) for form in forms)

    @property
    def refuses_others(self) -> bool:
        return self.shapes is not None

    def price_ms(self, operation: Operation, *, bytes_per_element: int) -> float | None:
        if any(match.covers(operation) for match in self.in_constant):
            return 0.0
        if self.shapes is not None and operation.out_shape not in self.shapes:
            return None
        return next((term.ms for term in self.terms if term.match.covers(operation)), None)

    def missing(self, operation: Operation) -> str:
        if self.shapes is None or operation.out_shape in self.shapes:
            return ""
        fitted = ", ".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"its prices were fitted to networks whose operations have outputs {fitted} alone"
