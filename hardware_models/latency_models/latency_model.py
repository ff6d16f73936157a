"""What every latency model is, and the models by the name that `latency.model` of a profile gives."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from hardware_models.schema import NonNegative, Section
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from search_spaces.registry import Registry


class LatencyModel(Section, ABC):
    """How a device, or one of its units, prices an operation; its fields are those of `latency` in a profile.

    A subclass narrows `model` to its own name and is registered under it. `constant_ms` are milliseconds of a network
    that none of its operations carries. `monotone` claims that of two operations of one kind and form the larger never
    takes less; `hardware_models.testing` checks it. `formula` is the comment above it in a calibrated profile.
    """

    formula: ClassVar[str] = ""

    model: str
    constant_ms: NonNegative = 0.0

    @property
    @abstractmethod
    def priced(self) -> str:
        """What it can price, in words."""

    @abstractmethod
    def price_ms(self, operation: Operation, *, bytes_per_element: int) -> float | None:
        """Milliseconds that `operation` adds to a network, or None if it has no price here."""

    def missing(self, operation: Operation) -> str:
        """Why there is no price for `operation`, beyond what `priced` says; empty for nothing more."""
        return ""

    @property
    def monotone(self) -> bool:
        return False

    @property
    def refuses_others(self) -> bool:
        """Whether operations unlike those that it was fitted to have no price, so that it needs no domain beside it."""
        return False

    @property
    def origin(self) -> Mapping[str, Any]:
        """What the prices were read from, for the provenance of a profile; empty where they stand in the profile."""
        return {}

    @classmethod
    def resolve(cls, name: str, profile: Mapping[str, Any], cache_dir: Path) -> Mapping[str, Any]:
        """The plain values of the profile `name` with what this model measures itself, kept in `cache_dir`."""
        return profile


LATENCY_MODELS: Registry[type[LatencyModel]] = Registry("latency_models")


def _by_model(content: Any) -> Any:
    """The model of a mapping, by the name it gives. What is no mapping is left to pydantic."""
    if not isinstance(content, Mapping):
        return content
    name = content.get("model")
    try:
        return LATENCY_MODELS[str(name)].model_validate(content)
    except InvalidInputError as error:
        got = "missing" if name is None else f"got {name!r}"
        unknown = PydanticCustomError("unknown_model", "{message}", {"message": f"{got}; {_allowed(error)}"})
        details = InitErrorDetails(type=unknown, loc=("model",), input=name)
        raise ValidationError.from_exception_data("latency", [details]) from error


def _allowed(error: InvalidInputError) -> str:
    return str(error).partition("; ")[2]


# A field that holds any registered model, given as a mapping with its `model`.
AnyLatencyModel = Annotated[SerializeAsAny[LatencyModel], BeforeValidator(_by_model)]
