"""Parts found by name: entry points of installed packages, the built-in ones among them, and modules of a command."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from search_spaces.errors import InvalidInputError, did_you_mean

Part = TypeVar("Part")
OWN_PACKAGES = ("search_spaces", "hardware_models", "trainers")  # whose parts come with Espalier
_REGISTRIES: "dict[str, Registry[Any]]" = {}


@cache  # to look through all packages takes a tenth of a second
def _installed_parts() -> Any:  # of another class in Python 3.12
    return entry_points()


class Registry(Mapping[str, Part]):
    """Parts of one kind by name, each imported when it is first asked for.

    An installed package adds its own by an entry point in the group `espalier.<kind>`, a module that a command names
    with `plugins=` by `register`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._registered: dict[str, Part] = {}
        self._modules: dict[str, str] = {}
        self._loaded: dict[str, Part] = {}  # of installed packages; an entry point takes long to load again and again
        _REGISTRIES[kind] = self

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in _installed_parts().select(group=f"espalier.{self.kind}"):
            other = found.setdefault(point.name, point)
            if other.value != point.value:
                raise InvalidInputError(
                    f"{self.kind}: {point.name!r} is the name of {other.value} and of {point.value}; "
                    "uninstall the package of one of them"
                )
        return found

    def register(self, name: str) -> Callable[[Part], Part]:
        """A decorator that adds a part of the calling module. Raises: InvalidInputError if another one has the name."""
        module = str(sys._getframe(1).f_globals.get("__name__"))
        known = self._modules.get(name) if name in self._registered else None
        installed = self._installed[name].module if name in self._installed else module  # it may be its entry point too
        if known not in (None, module) or installed != module:
            raise InvalidInputError(f"{self.kind}: {name!r} is the name of another one; choose a name of your own")

        def add(part: Part) -> Part:
            self._registered[name], self._modules[name] = part, module
            return part

        return add

    def module_of(self, name: str) -> str:
        """The module that a part is defined in; it is not imported for this."""
        if name in self._registered:
            return self._modules[name]
        return self._installed[name].module

    def is_built_in(self, name: str) -> bool:
        """Whether a part comes with Espalier."""
        return self.module_of(name).partition(".")[0] in OWN_PACKAGES

    def __getitem__(self, name: str) -> Part:
        """Raises: InvalidInputError for an unknown name, with those that there are; if its package fails to import."""
        if name in self._registered:
            return self._registered[name]
        if name in self._loaded:
            return self._loaded[name]
        if name in self._installed:
            point = self._installed[name]
            try:
                self._loaded[name] = point.load()
            except Exception as error:  # whatever a package of others raises
                raise InvalidInputError(
                    f"{self.kind}: {name!r} of {point.value} cannot be imported: {type(error).__name__}: {error}"
                ) from error
            return self._loaded[name]
        raise InvalidInputError(
            f"{self.kind}: no {name!r}; {did_you_mean(name, self)}; "
            "a part of your own needs plugins=<its module> in the command, or its package installed"
        )

    def __contains__(self, name: object) -> bool:
        return name in self._registered or name in self._installed

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._registered, *self._installed}))

    def __len__(self) -> int:
        return len({*self._registered, *self._installed})


def registry(kind: str) -> Registry[Any]:
    """The registry of a kind; before the module that owns it is imported, one of entry points alone."""
    return _REGISTRIES.get(kind) or Registry(kind)


def foreign_modules(name: str) -> set[str]:
    """The modules, of others than Espalier, that parts of this name are defined in, in all registries."""
    having = [each for each in _REGISTRIES.values() if name in each]
    return {each.module_of(name) for each in having if not each.is_built_in(name)}
