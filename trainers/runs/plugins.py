"""Code of others that a command names with `plugins=`, or that an installed package brings: imported, and hashed."""

import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError
from search_spaces.registry import foreign_modules
from trainers.runs.code import Code, files_hash, running_code

MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
# The sections that name a class, and the module that it is of unless it is a plug-in's.
CLASSES = {"optimizer": "torch.optim", "arch_optimizer": "torch.optim", "schedule": "torch.optim.lr_scheduler"}
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


def _import(name: str, folders: list[str]) -> None:
    if not MODULE.fullmatch(name) or name.endswith(".py"):
        raise InvalidInputError(f"plugins: got {name!r}; allowed: the name of a module, as my_space for my_space.py")
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module raises
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name is not None
            and f"{name}.".startswith(f"{error.name}.")
        ):
            where = " or ".join(folders)
            raise InvalidInputError(f"plugins: no module {name!r} in {where}, and no installed one") from error
        frame = traceback.extract_tb(error.__traceback__)[-1]
        at = "" if isinstance(error, SyntaxError) else f" ({frame.filename}, line {frame.lineno})"
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise InvalidInputError(f"plugins: {name} cannot be imported: {what}{at}") from error


def wrong_plugins(names: Any) -> list[str]:
    """What is wrong with the key `plugins` of a configuration: only a command may name what is imported."""
    missing = [str(name) for name in names if name not in _IMPORTED] if isinstance(names, list) else []
    return [
        f"plugins: {name} is not imported; name it in the command itself, as plugins={name}; "
        "in Python call trainers.runs.plugins.import_plugins"
        for name in missing
    ]


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
    packages = {name.partition(".")[0] for name in named}
    absent = {name: known["version"] for name, known in recorded.items() if name not in packages and not _is_here(name)}
    missing = [name for name in named if name not in _IMPORTED]
    missing += [name for name, installed in absent.items() if installed is None]
    problems = [f"plugins={name}" for name in missing]
    if problems:
        raise InvalidInputError(f"the run uses plug-ins; add to the command: {' '.join(problems)}")
    if absent:
        packages_named = ", ".join(f"{name} {installed}" for name, installed in absent.items())
        raise InvalidInputError(f"the run uses packages that are not installed: {packages_named}; install them")


def _is_here(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # of __main__
        return True


def code_of(content: Mapping[str, Any]) -> Code:
    """The code that runs, with the packages of others that a configuration uses: those it names, those of its parts."""
    named = [str(name) for name in content.get("plugins") or []]
    modules = {*named, *(module for text in _texts(content) for module in foreign_modules(text))}
    packages = sorted({module.partition(".")[0] for module in modules})
    return replace(running_code(), plugins={package: _content(package) for package in packages})


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
    found = packages_distributions().get(package)
    installed = version(found[0]) if found else None
    try:
        spec = find_spec(package)
    except ValueError:  # of __main__
        spec = None
    digest = None
    if spec is not None and spec.submodule_search_locations:
        digest = files_hash(Path(spec.submodule_search_locations[0]))
    elif spec is not None and spec.origin is not None and os.path.isfile(spec.origin):
        digest = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return {"version": installed, "sha256": digest}
