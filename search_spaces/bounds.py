"""What the numbers of a space may be: bounds that no real space comes near, so that a file from elsewhere cannot ask

for more than a machine can build.
"""

from collections.abc import Iterable, Sequence
from reprlib import repr as shown
from typing import Any

from search_spaces.errors import InvalidInputError

LARGEST = 65_536  # channels, pixels, classes
DEEPEST = 100  # blocks, cells, and what else is built one by one


def wrong_number(key: str, value: Any, *, least: int = 1, most: int = LARGEST) -> list[str]:
    """What is wrong with a number of a space, if anything is."""
    if type(value) is int and least <= value <= most:
        return []
    return [f"space.{key}: got {shown(value)}, allowed: a whole number from {least} to {most:,}"]


def wrong_choices(key: str, values: Sequence[Any], *, most: int = LARGEST) -> list[str]:
    """What is wrong with the choices of a decision, if anything is."""
    whole = all(type(value) is int and 1 <= value <= most for value in values)
    if values and whole and list(values) == sorted(set(values)):
        return []
    return [f"space.{key}: got {shown(list(values))}, allowed: rising whole numbers from 1 to {most:,}"]


def refuse(problems: Iterable[str]) -> None:
    """Raises: InvalidInputError that lists the problems, if there are any."""
    if lines := "\n  ".join(problems):
        raise InvalidInputError(lines)
