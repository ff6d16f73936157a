"""What is wrong with a profile, a line for each field by its dotted key."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

Keys = tuple[int | str, ...]


def problems_of(error: ValidationError, key: str, content: Any) -> Iterator[str]:
    """A line for each wrong field of `content`; `key` leads to the whole of it."""
    for details in error.errors(include_url=False):
        keys, kind, message = details["loc"], details["type"], details["msg"].removeprefix("Value error, ")
        place = ".".join([key, *_written(keys, content)])
        if not keys:  # contradictions between fields, each with its own key
            yield from (f"{key}.{line}" for line in message.splitlines())
        elif kind == "missing":
            yield f"{place}: missing; give it a value"
        elif kind in ("unknown_model", "unknown_field"):
            yield f"{place}: {message}"
        elif kind.startswith("union_tag"):
            yield f"{place}.{details['ctx']['discriminator'].strip(chr(39))}: {_sentence(message)}"
        elif keys[-1] == "[key]":
            yield f"{place}: unknown name; {_sentence(message)}"
        elif isinstance(details["input"], Mapping):  # a section as a whole, too long to show
            yield f"{place}: {message}"
        else:
            yield f"{place}: got {details['input']!r}; {_sentence(message)}"


def _written(keys: Keys, content: Any) -> Iterator[str]:
    """The keys as the file has them: pydantic puts the kind of a link in between, and `[key]` after a wrong name."""
    for i, key in enumerate(keys):
        inside = _at(content, key)
        if inside is not content or (i == len(keys) - 1 and key != "[key]"):
            yield str(key)
        content = inside


def _at(content: Any, key: int | str) -> Any:
    """What `content` has at a key; itself where it has none, as for the kind of a link."""
    try:
        return content[key]
    except (KeyError, IndexError, TypeError):
        return content


def _sentence(message: str) -> str:
    return f"allowed: {message.removeprefix('Input should be ')}"
