"""What the numbers of a space may be: bounds that no real space comes near, and words for what lies beyond them."""

from collections.abc import Iterable, Sequence
from reprlib import repr as shown
from typing import Any

from search_spaces.errors import InvalidInputError

CLASSES = (2, 1_000_000)
CHANNELS = (1, 1024)
WIDTHS = (1, 65_536)
DEPTHS = (1, 100)
KERNELS = (1, 99)
EXPANSIONS = (1, 100)
PIXELS = (1, 4096)
Bounds = tuple[int, int]


def wrong_number(key: str, value: Any, bounds: Bounds) -> list[str]:
    """What is wrong with a number of a space, if anything is."""
    low, high = bounds
    if type(value) is int and low <= value <= high:
        return []
    return [f"space.{key} must be a whole number from {low} to {high:,}, got {shown(value)}"]


def wrong_choices(key: str, values: Sequence[Any], bounds: Bounds) -> list[str]:
    """What is wrong with the choices of a decision, if anything is."""
    low, high = bounds
    whole = all(type(v) is int and low <= v <= high for v in values)
    if values and whole and list(values) == sorted(set(values)):
        return []
    return [f"space.{key} must be rising whole numbers from {low} to {high:,}, got {shown(list(values))}"]


def refuse(problems: Iterable[str]) -> None:
    """Raises: InvalidInputError that lists the problems, if there are any."""
    if told := "\n  ".join(problems):
        raise InvalidInputError(told)
