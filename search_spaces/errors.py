"""Errors that a user can correct. Each message says what, got, allowed, and what to do."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_KEY = re.compile(r"^\s*([A-Za-z_][\w.\[\]/-]*):\s", re.MULTILINE)


class EspalierError(Exception):
    """Base of every error that Espalier raises on purpose."""


class InvalidInputError(EspalierError, ValueError):
    """A value, file or name given by the user cannot be used. A line that is about one key starts with it."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The keys that are wrong, in the order of the message: `trainer.steps` of `trainer.steps: got 0; ...`."""
        return keys_of(str(self))


def keys_of(message: str) -> tuple[str, ...]:
    """The keys that lines of a message start with."""
    return tuple(found[1] for found in _KEY.finditer(message))


class UnknownDecisionError(InvalidInputError):
    """A selection or architecture names a decision or choice that the space lacks, or lacks one that it has."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The names that are allowed in place of an unknown one, the nearest first."""
    names = sorted(allowed)
    close = get_close_matches(name, names, n=2)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{meant}allowed: {', '.join(names) or 'none'}"
