"""Code of others that a command names with `plugins=`, or that an installed package brings: imported, and hashed."""

import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError
from search_spaces.registry import foreign_modules
from trainers.runs.code import Code, files_hash, running_code

MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_IMPORTED: set[str] = set()


def named_plugins(arguments: Iterable[str]) -> list[str]:
    """The modules that `plugins=my_space` or `plugins=[my_space,my_data]` of a command line names."""
    given = [argument.partition("=")[2] for argument in arguments if re.match(r"\+{0,2}plugins=", argument)]
    return [name for value in given for each in value.strip("[]").split(",") if (name := each.strip(" '\""))]


def import_plugins(names: Iterable[str], *, folders: Iterable[str | Path] = ()) -> None:
    """Imports modules by name, from these folders first, so that they add their parts to the registries.

    Raises: InvalidInputError if there is no such module, or if it fails, with the line that does.
    """
    added = [os.path.abspath(folder) for folder in folders]
    sys.path[:0] = added
    try:
        for name in names:
            _import(name, added)
            _content(name.partition(".")[0])  # its content as it was imported
            _IMPORTED.add(name)
    finally:
        for folder in added:
            sys.path.remove(folder)


def plugin_folders(names: Iterable[str]) -> list[str]:
    """The folders that imported modules were found in, for another process to import them from."""
    found = []
    for name in names:
        module = sys.modules[name.partition(".")[0]]
        inside = list(getattr(module, "__path__", [])) or ([module.__file__] if module.__file__ else [])
        found += [os.path.dirname(os.path.abspath(path)) for path in inside]
    return list(dict.fromkeys(found))


def _import(name: str, folders: list[str]) -> None:
    if not MODULE.fullmatch(name) or name.endswith(".py"):
        raise InvalidInputError(f"plugins: got {name!r}; allowed: the name of a module, as my_space for my_space.py")
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module raises
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            where = " or ".join(folders)
            raise InvalidInputError(f"plugins: no module {name!r} in {where}, and no installed one") from error
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {' '.join(str(error).split())} ({frame.filename}, line {frame.lineno})"
        raise InvalidInputError(f"plugins: {name} cannot be imported: {what}") from error


def check_imported(names: list[str]) -> list[str]:
    """The key `plugins` of a configuration. Raises: ValueError for a module that no command has imported."""
    for name in names:
        if name not in _IMPORTED:
            raise ValueError(
                f"{name} is not imported; name it in the command itself, as plugins={name}; "
                "in Python call trainers.runs.plugins.import_plugins"
            )
    return names


def may_name_class(target: Any, shipped: str) -> bool:
    """Whether a configuration may name this class: one of the module `shipped`, or of a plug-in of the command."""
    if not (isinstance(target, str) and MODULE.fullmatch(target)):
        return False
    module = target.rpartition(".")[0]
    return module == shipped or any(f"{module}.".startswith(f"{name}.") for name in _IMPORTED)


def require_plugins(content: Mapping[str, Any], recorded: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises: InvalidInputError that names the plug-ins which a run was made with and which are not here.

    `content` is its configuration, `recorded` the `plugins` of its code.
    """
    named = [str(name) for name in content.get("plugins") or []]
    missing = [f"plugins={name}" for name in named if name not in _IMPORTED]
    for name, known in recorded.items():
        is_here = name in sys.modules or _spec(name) is not None
        if not is_here and all(name != each.partition(".")[0] for each in named):
            version_of = known["version"]
            missing.append(f"plugins={name}" if version_of is None else f"the package {name} {version_of}, installed")
    if missing:
        raise InvalidInputError(f"the run uses plug-ins; add to the command: {', '.join(missing)}")


def _spec(package: str) -> ModuleSpec | None:
    try:
        return find_spec(package)
    except ValueError:  # of __main__
        return None


def code_of(content: Mapping[str, Any]) -> Code:
    """The code that runs, with the packages of others that a configuration uses: those it names, those of its parts."""
    named = [str(name) for name in content.get("plugins") or []]
    modules = {*named, *(module for text in _texts(content) for module in foreign_modules(text))}
    packages = sorted({module.partition(".")[0] for module in modules})
    return running_code().model_copy(update={"plugins": {package: _content(package) for package in packages}})


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


@cache  # what is changed while a process runs has been imported before
def _content(package: str) -> dict[str, str | None]:
    """The version of an installed package, and the sha256 of its files; what a notebook defines has none."""
    found, spec, digest = packages_distributions().get(package), _spec(package), None
    if spec is not None and spec.submodule_search_locations:
        digest = files_hash(Path(spec.submodule_search_locations[0]))
    elif spec is not None and spec.origin is not None and os.path.isfile(spec.origin):
        digest = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return {"version": version(found[0]) if found else None, "sha256": digest}
