"""The section `logger` of a configuration, checked before any work."""

from collections.abc import Mapping
from typing import Any

from search_spaces.errors import InvalidInputError

LOGGERS = ("local",)


def check_logger(content: Mapping[str, Any]) -> None:
    """Raises: InvalidInputError if the section `logger` names no tracker that can run here."""
    if content.get("name") not in LOGGERS:
        raise InvalidInputError(f"logger.name: got {content.get('name')!r}, allowed: {', '.join(LOGGERS)}")
    unknown = sorted(set(content) - {"name"})
    if unknown:
        raise InvalidInputError(f"logger.{unknown[0]}: no such key of the logger {content['name']}; leave it out")
