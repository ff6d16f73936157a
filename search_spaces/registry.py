"""Parts found by name: entry points of installed packages, the built-in ones among them, and modules of a command."""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from search_spaces.errors import InvalidInputError

Part = TypeVar("Part")


class Registry(Mapping[str, Part]):
    """Parts of one kind by name. An installed package adds its own by an entry point in the group `espalier.<kind>`,

    a module that a command names with `plugins=` by `register`. A part is imported when it is first asked for.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._registered: dict[str, Part] = {}

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=f"espalier.{self.kind}")}

    def register(self, name: str) -> Callable[[Part], Part]:
        """A decorator that adds a part. Raises: InvalidInputError if another one has the name."""

        def add(part: Part) -> Part:
            known = self._registered.get(name)
            if name in self._installed or (known is not None and _place(known) != _place(part)):
                raise InvalidInputError(f"{self.kind}: {name!r} is the name of another one; choose a name of your own")
            self._registered[name] = part
            return part

        return add

    def __getitem__(self, name: str) -> Part:
        """Raises: InvalidInputError, with the names that there are, for an unknown one."""
        if name in self._registered:
            return self._registered[name]
        if name in self._installed:
            part: Part = self._installed[name].load()
            return part
        close = get_close_matches(name, list(self), n=2)
        meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise InvalidInputError(f"{self.kind}: no {name!r}; {meant}allowed: {', '.join(self)}")

    def __contains__(self, name: object) -> bool:
        return name in self._registered or name in self._installed

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._registered, *self._installed}))

    def __len__(self) -> int:
        return len({*self._registered, *self._installed})


def _place(part: Any) -> tuple[str, str]:
    """Where a part is defined: a module may be imported twice, in a notebook say."""
    return getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))
