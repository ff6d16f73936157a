"""How a configuration is refused: all that is wrong with it at once, each with its key."""

import re
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, signature
from reprlib import Repr
from typing import Any

from pydantic import TypeAdapter, ValidationError

from search_spaces.errors import InvalidInputError

Place = tuple[int | str, ...]  # keys and indices that lead to a value
LONGEST = 120  # characters of a value that a message shows
# Of values that a message cuts anyway, so that the whole of a large one is never written.
BEGINNING = Repr()
BEGINNING.maxlevel = 4
BEGINNING.maxlist = BEGINNING.maxtuple = BEGINNING.maxdict = BEGINNING.maxset = LONGEST
BEGINNING.maxstring = BEGINNING.maxother = BEGINNING.maxlong = 4 * LONGEST
CANNOT_BE_USED = "the configuration cannot be used:"
TITLE = re.compile(r"^.* cannot be used:\n\s*")


def refusal(problems: Iterable[str]) -> InvalidInputError:
    """One error that says all that is wrong with a configuration, a line each."""
    return InvalidInputError("\n  ".join([CANNOT_BE_USED, *problems]))


def untitled(refused: InvalidInputError) -> str:
    """What an error says is wrong, to stand among other problems."""
    return TITLE.sub("", str(refused))


def dotted(place: Place) -> str:
    """A key as it is written on a command line: space.widths[4]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def shown(value: object) -> str:
    """A value as Python writes it, or its beginning."""
    written = BEGINNING.repr(value)
    return written if len(written) <= LONGEST else f"{written[:LONGEST]}..."


def problems_of(error: ValidationError, key: Callable[[Place], str] = dotted) -> list[str]:
    """A line per wrong value: its key, what was got, and what is allowed."""
    problems = []
    for details in error.errors(include_url=False):
        kind, value, place = details["type"], details["input"], key(details["loc"])
        got = "nothing" if kind == "missing" else shown(value)
        message = details["msg"].removeprefix("Value error, ")
        if kind == "missing":
            message = "give it a value"
        if kind == "extra_forbidden":
            message = "no such key"
        if kind == "string_type" and isinstance(value, int | float):
            message += f"; a number that is a text is written '{place}=\"...\"'"
        # What is wrong between several values says of itself what they are.
        between = kind == "value_error" and isinstance(value, dict)
        problems.append(f"{place}: {message}" if between else f"{place}: got {got}; {message}")
    return problems


def check_arguments(key: str, classes: Mapping[str, Any], content: Mapping[str, Any], *, given: frozenset[str]) -> None:
    """Raises: InvalidInputError unless `content` names one of `classes` and only arguments of it, of their types.

    `given` arguments come from elsewhere and may not be set.
    """
    name = content["name"]
    if name not in classes:
        raise InvalidInputError(f"{key}.name: got {name!r}, allowed: {', '.join(sorted(classes))}")
    parameters = signature(classes[name]).parameters.values()
    allowed = {p.name: p.annotation for p in parameters if p.kind is Parameter.KEYWORD_ONLY and p.name not in given}
    unknown = sorted(set(content) - {"name"} - set(allowed))
    if unknown:
        raise InvalidInputError(f"{key}: {name} does not take {unknown}; allowed: {sorted(allowed)}")
    problems = [
        problem
        for argument in sorted(set(content) - {"name"})
        for problem in _wrong_value(allowed[argument], content[argument], (key, argument))
    ]
    if problems:
        raise refusal(problems)


def _wrong_value(kind: Any, value: Any, key: Place) -> list[str]:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        return problems_of(error, lambda place: dotted((*key, *place)))
    return []
