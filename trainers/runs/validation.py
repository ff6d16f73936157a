"""How a configuration is refused: what is wrong with it, each with its key. The one translator of pydantic's errors."""

import re
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from search_spaces.errors import InvalidInputError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[int | str, ...]  # keys and indices that lead to a value
BEGINNING = Repr()  # of a value: the whole of a large one is never written
BEGINNING.maxstring = BEGINNING.maxother = 120
BEGINNING.maxlevel = 3
STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
CANNOT_BE_USED = "the configuration cannot be used:"
TITLE = re.compile(r"^.* cannot be used:\n\s*")
WORDS = {"missing": "give it a value", "extra_forbidden": "no such key"}  # by pydantic's type of error


def refusal(problems: Iterable[str]) -> InvalidInputError:
    """One error that says all that is wrong with a configuration, a line each."""
    return InvalidInputError("\n  ".join([CANNOT_BE_USED, *problems]))


def untitled(refused: InvalidInputError) -> str:
    """What an error says is wrong, to stand among other problems."""
    return TITLE.sub("", str(refused))


def checked(schema: type[Model], content: Mapping[str, Any], *, section: str = "") -> Model:
    """The content of a configuration, or of one `section` of it, typed. Raises: InvalidInputError by its keys."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise refusal(problems_of(error, lambda place: dotted((section, *place)))) from error


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
        kind, value, place = details["type"], details["input"], key(details["loc"])
        message = WORDS.get(kind, details["msg"].removeprefix("Value error, "))
        if kind == "string_type" and isinstance(value, int | float):
            message += f"; a number that is a text is written '{place}=\"...\"'"
        # What is wrong between several values says of itself what they are.
        between = kind == "value_error" and isinstance(value, dict)
        got = "" if between else f"got {'nothing' if kind == 'missing' else shown(value)}; "
        problems.append(f"{place}: {got}{message}".removeprefix(": "))  # of the whole, which has no key
    return problems


def check_arguments(key: str, classes: Mapping[str, Any], content: Mapping[str, Any], *, given: frozenset[str]) -> None:
    """Raises: InvalidInputError unless `content` names one of `classes` and only arguments of it, of their types.

    `given` arguments come from elsewhere and may not be set.
    """
    name, arguments = content["name"], {argument: value for argument, value in content.items() if argument != "name"}
    if name not in classes:
        raise InvalidInputError(f"{key}.name: got {name!r}, allowed: {', '.join(sorted(classes))}")
    fields: dict[str, Any] = {
        p.name: (Any if p.annotation is p.empty else p.annotation, ... if p.default is p.empty else p.default)
        for p in signature(classes[name], eval_str=True).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in given
    }
    unknown = [argument for argument in arguments if argument not in fields]
    if unknown:
        raise InvalidInputError(
            f"{key}.{unknown[0]}: {name} takes no such argument; {did_you_mean(unknown[0], fields)}"
        )
    settings = ConfigDict(strict=True, arbitrary_types_allowed=True, protected_namespaces=())
    checked(create_model(name, __config__=settings, **fields), arguments, section=key)
