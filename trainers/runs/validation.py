"""How a configuration is refused: what is wrong with it, each with its key."""

import re
from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from hardware_models.field_errors import dotted, problems_of
from search_spaces.errors import InvalidInputError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)
STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
CANNOT_BE_USED = "the configuration cannot be used:"
TITLE = re.compile(r"^.* cannot be used:\n\s*")


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
