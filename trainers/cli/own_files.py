"""Configuration files below --config-dir, which may come from elsewhere: none of them makes Hydra run code.

Hydra's own settings name classes (callbacks, handlers of logs) and folders, and `_target_` names one anywhere.
"""

import os
from collections.abc import Iterator
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import InvalidInputError
from trainers.cli.overrides import not_to_be_set, quoted
from trainers.runs.plugins import CLASSES as OF_TORCH
from trainers.runs.validation import refusal

CLASSES = tuple(f"{section}._target_" for section in OF_TORCH)  # the keys that may name a class, of torch alone


def search_path(folder: str) -> str:
    """The override that adds a folder of own files to those that Hydra finds."""
    Plugins.instance().register(OwnFiles)
    return f"hydra.searchpath=[{quoted(f'{OwnFiles.scheme()}://{os.path.abspath(folder)}')}]"


class OwnFiles(ConfigSource):
    """The files of a folder. Raises: InvalidInputError that lists what a file may not set, before Hydra uses it."""

    @staticmethod
    def scheme() -> str:
        return "own"

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._file(config_path)
        if not os.path.isfile(file):
            raise ConfigLoadError(f"no such file: {file}")
        try:
            with open(file, encoding="utf-8") as opened:
                text = opened.read()
            header, config = self._get_header_dict(text), OmegaConf.create(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"{file}: {' '.join(str(error).split())}") from error
        if not isinstance(config, DictConfig):
            raise InvalidInputError(f"{file}: got {text[:40]!r}; allowed: keys with values")
        name = config_path.removesuffix(".yaml")
        wrong = list(_wrong_with(name, header["package"], OmegaConf.to_container(config, resolve=False)))
        if wrong:
            raise refusal(f"{file}: {problem}" for problem in wrong)
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header=header)

    def available(self) -> bool:
        return os.path.isdir(self.path)

    def is_group(self, config_path: str) -> bool:
        return os.path.isdir(os.path.join(self.path, config_path))

    def is_config(self, config_path: str) -> bool:
        return os.path.isfile(self._file(config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found: list[str] = []
        for name in os.listdir(os.path.join(self.path, config_path)):
            self._list_add_result(found, os.path.join(config_path, name), name, results_filter)
        return sorted(set(found))

    def _file(self, config_path: str) -> str:
        return os.path.join(self.path, self._normalize_file_name(config_path))


def _wrong_with(path: str, package: str | None, content: Any) -> Iterator[str]:
    """What a file of this path and `# @package` sets or chooses that none may."""
    group, _, name = path.rpartition("/")
    place = group.replace("/", ".") if package is None else package
    place = place.replace("_group_", group.replace("/", ".")).replace("_name_", name).replace("_global_", "").strip(".")
    if group == "hardware" and place != f"hardware.{name}":
        yield f"it puts its profile at {place or 'the top'}; its first line must be `# @package hardware.{name}`"
        return
    chosen = list(_chosen(content.pop("defaults", None) or []))
    values = dict(_values(content, place))
    keys = list(values)
    yield from not_to_be_set([*keys, *chosen])
    if any("plugins" in key.split(".") for key in keys):
        yield "plugins: not to be set in a file; name them in the command, as plugins=my_module"
    yield from (f"{key}: not to be set in a file" for key in keys if "_target_" in key and key not in CLASSES)
    for section, module in OF_TORCH.items():
        target = values.get(f"{section}._target_")
        if target is not None and not str(target).startswith(f"{module}."):
            yield f"{section}._target_: got {target!r}; a file may name a class of {module}; name others in the command"


def _chosen(defaults: Any) -> Iterator[str]:
    """The groups that a defaults list chooses from, and the places where it puts their files."""
    for entry in defaults if isinstance(defaults, list) else []:
        for key in entry if isinstance(entry, dict) else [entry]:
            group, _, package = str(key).split(" ")[-1].partition("@")
            yield f"{group.lstrip('/')}="
            if "hydra" in package.split("."):
                yield package[package.index("hydra") :]


def _values(content: Any, above: str) -> Iterator[tuple[str, Any]]:
    """Each value with its dotted key, in lists too."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    if not items:
        yield above, content
    for key, value in items:
        yield from _values(value, f"{above}.{key}".lstrip("."))
