"""Parts of a profile that refuse unknown fields, and the numbers that they hold."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# What a profile divides and multiplies by lies between, so that no price leaves the range of floats.
LEAST, MOST = 1e-12, 1e12


def _in_range(value: float) -> float:
    if not LEAST <= value <= MOST:
        raise ValueError(f"a number between {LEAST:g} and {MOST:g}")
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
