"""Configuration files below --config-dir, which may come from elsewhere: none of them makes Hydra run code.

Hydra's own settings name classes (callbacks, handlers of logs) and folders, and `_target_` names one anywhere.
"""

import os
from collections.abc import Iterator
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import InvalidInputError
from trainers.cli.overrides import not_to_be_set, quoted
from trainers.runs.validation import refusal

CLASSES = ("optimizer._target_", "arch_optimizer._target_", "schedule._target_")  # of torch or of a plug-in, as checked


def search_path(folder: str) -> str:
    """The override that adds a folder of own files to those that Hydra finds."""
    Plugins.instance().register(OwnFiles)
    return f"hydra.searchpath=[{quoted(f'{OwnFiles.scheme()}://{os.path.abspath(folder)}')}]"


class OwnFiles(FileConfigSource):
    """The files of a folder. Raises: InvalidInputError that lists what a file may not set, before Hydra uses it."""

    @staticmethod
    def scheme() -> str:
        return "own"

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.removesuffix(".yaml")
        file = os.path.join(self.path, f"{name}.yaml")
        try:
            found = super().load_config(config_path)
        except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
            raise InvalidInputError(f"{file}: {' '.join(str(error).split())}") from error
        if not isinstance(found.config, DictConfig):
            raise InvalidInputError(f"{file}: got a list; allowed: keys with values")
        wrong = list(_wrong_with(name, found.header["package"], OmegaConf.to_container(found.config, resolve=False)))
        if wrong:
            raise refusal(f"{file}: {problem}" for problem in wrong)
        return found


def _wrong_with(path: str, package: str | None, content: Any) -> Iterator[str]:
    """What a file of this path and `# @package` sets or chooses that none may."""
    group, _, name = path.rpartition("/")
    place = group.replace("/", ".") if package is None else package
    place = place.replace("_group_", group.replace("/", ".")).replace("_name_", name).replace("_global_", "").strip(".")
    if group == "hardware" and place != f"hardware.{name}":
        yield f"it puts its profile at {place or 'the top'}; its first line must be `# @package hardware.{name}`"
        return
    chosen = list(_chosen(content.pop("defaults", None) or []))
    keys = list(_keys(content, place))
    yield from not_to_be_set([*keys, *chosen])
    if any("plugins" in key.split(".") for key in keys):
        yield "plugins: not to be set in a file; name them in the command, as plugins=my_module"
    yield from (f"{key}: not to be set in a file" for key in keys if "_target_" in key and key not in CLASSES)


def _chosen(defaults: Any) -> Iterator[str]:
    """The groups that a defaults list chooses from, and the places where it puts their files."""
    for entry in defaults if isinstance(defaults, list) else []:
        for key in entry if isinstance(entry, dict) else [entry]:
            group, _, package = str(key).split(" ")[-1].partition("@")
            yield f"{group.lstrip('/')}="
            if "hydra" in package.split("."):
                yield package[package.index("hydra") :]


def _keys(content: Any, above: str) -> Iterator[str]:
    """The dotted key of each value, in lists too."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    if not items:
        yield above
    for key, value in items:
        yield from _keys(value, f"{above}.{key}".lstrip("."))
