"""Parts of a profile that refuse unknown fields, and the numbers that they hold."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

# What a profile divides and multiplies by lies between, so that no price leaves the range of floats.
LEAST, MOST = 1e-12, 1e12
DIGITS = 4  # of a number that is written


def _in_range(value: float) -> float:
    if not LEAST <= value <= MOST:
        raise ValueError(f"allowed: a number between {LEAST:g} and {MOST:g}")
    return value


InRange = AfterValidator(_in_range)
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False), InRange]
NonNegative = Annotated[float, Field(strict=True, ge=0, le=MOST, allow_inf_nan=False)]
Size = Annotated[int, Field(strict=True, ge=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class Section(BaseModel):
    """A frozen part of a profile that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, content: Any) -> Any:
        """Says which fields there are, which pydantic does not."""
        unknown = [key for key in content if key not in cls.model_fields] if isinstance(content, dict) else []
        if unknown:
            allowed = PydanticCustomError(
                "unknown_field", "unknown field; allowed: {fields}", {"fields": ", ".join(cls.model_fields)}
            )
            details = [InitErrorDetails(type=allowed, loc=(str(key),), input=content[key]) for key in unknown]
            raise ValidationError.from_exception_data(cls.__name__, details)
        return content
