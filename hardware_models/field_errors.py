"""What is wrong with values from outside, a line each by its key: the one translator of pydantic's errors."""

from collections.abc import Callable
from reprlib import Repr

from pydantic import ValidationError

Place = tuple[int | str, ...]  # keys and indices that lead to a value
BEGINNING = Repr()  # of a value: the whole of a large one is never written
BEGINNING.maxstring = BEGINNING.maxother = 120
BEGINNING.maxlevel = 3
WORDS = {"missing": "give it a value", "extra_forbidden": "no such key"}  # by pydantic's type of error
OF_KEY = "[key]"  # pydantic's place of a key that is wrong itself


def dotted(place: Place) -> str:
    """A key as it is written on a command line: space.widths[4]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def shown(value: object) -> str:
    """A value as Python writes it, or its beginning."""
    return BEGINNING.repr(value)


def problems_of(error: ValidationError, key: Callable[[Place], str] = dotted) -> list[str]:
    """A line per wrong value: its key, what was got, and what is allowed."""
    problems = []
    for details in error.errors(include_url=False):
        kind, value = details["type"], details["input"]
        place = key(tuple(part for part in details["loc"] if part != OF_KEY))
        message = WORDS.get(kind, details["msg"].removeprefix("Value error, "))
        if kind == "string_type" and isinstance(value, int | float):
            message += f"; a number that is a text is written '{place}=\"...\"'"
        if kind.startswith("union_tag"):  # of a section that says itself what it is
            place += "." + details["ctx"]["discriminator"].strip("'")
        # What is wrong between several values, or with a name, says of itself what they are.
        between = (kind == "value_error" and isinstance(value, dict)) or kind.startswith("unknown_")
        got = "" if between else f"got {'nothing' if kind == 'missing' else shown(value)}; "
        problems.append(f"{place}: {got}{message}".removeprefix(": "))  # of the whole, which has no key
    return problems
