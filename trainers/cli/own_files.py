"""Configuration files that do not come with Espalier: bounded, and refused before Hydra acts on any of them."""

import os
import re
from collections.abc import Iterator
from typing import Any

import yaml
from hydra._internal import hydra as hydra_main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault, ResultDefault
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from search_spaces.errors import InvalidInputError
from trainers.cli.overrides import not_to_be_set
from trainers.runs.validation import refusal

SHIPPED = ("hydra", "main", "schema")  # providers of files, as Hydra names them; those of plugins are code
# Groups whose files hold values of their own section alone; those of any other may set what a command line may.
VALUES = ("space", "hardware", "data", "strategy", "optimizer", "arch_optimizer", "trainer", "logger", "paths")
CLASSES = ("optimizer._target_", "arch_optimizer._target_")  # the keys that name one
MOST_VALUES, DEEPEST = 100_000, 60  # of a file with its aliases written out: measured tables have some thousands


def check_own_files() -> None:
    """From now on Hydra refuses, as it composes, what an own file may not hold: its callbacks and logging run code."""
    hydra_main.ConfigLoaderImpl = OwnFilesChecked  # type: ignore[misc]


class OwnFilesChecked(ConfigLoaderImpl):
    """Hydra's loader. Raises: InvalidInputError that lists whatever is wrong with own files."""

    def load_configuration(self, *given: Any, **named: Any) -> DictConfig:
        try:
            return super().load_configuration(*given, **named)
        except AttributeError as error:  # of OmegaConf, as a mapping is put where its schema allows one but has none
            key = re.search(r"full_key: (\S+)", str(error))
            if key is None:
                raise
            raise ConfigCompositionException(f"{key[1]}: got a mapping where none can be put; leave it out") from error

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed, repository = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        sources = repository.get_sources()
        sources[:] = [
            BoundedFiles(source.provider, source.full_path()) if source.scheme() == "file" else source
            for source in sources
        ]
        return parsed, repository

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        if any(source.provider not in SHIPPED for source in repo.get_sources()):
            loaded = [(default, self._load_single_config(default, repo)) for default in defaults]
            wrong = [
                problem for default, result in loaded if _is_own(result) for problem in _wrong_with(default, result)
            ]
            if wrong:
                raise refusal(dict.fromkeys(wrong))
        return super()._compose_config_from_defaults_list(defaults, repo)


class BoundedFiles(FileConfigSource):
    """The files of a folder. Raises: InvalidInputError with file and line for one that is no configuration."""

    def load_config(self, config_path: str) -> ConfigResult:
        file = os.path.join(self.path, self._normalize_file_name(config_path))
        try:
            with open(file, encoding="utf-8") as opened:
                root = yaml.compose(opened, Loader=yaml.SafeLoader)
            if root is not None:
                _size(root, {}, 0)
            return super().load_config(config_path)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark is not None else ""
            raise InvalidInputError(f"{file}{line}: {error.problem or error.context}") from error
        except RecursionError as error:
            raise InvalidInputError(f"{file}: values are nested deeper than {DEEPEST} levels") from error
        except (yaml.YAMLError, ValueError, OmegaConfBaseException) as error:
            raise InvalidInputError(f"{file}: {' '.join(str(error).split())}") from error


def _is_own(result: ConfigResult) -> bool:
    """Whether a file comes from elsewhere; a search path may name conf too."""
    shipped = result.path == "pkg://conf" or result.path.startswith("structured://") or result.provider in SHIPPED
    return not shipped


def _size(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """How many values a node has with its aliases written out. Raises: MarkedYAMLError if it is without bounds."""
    if id(node) in known:
        if known[id(node)] == 0:
            raise yaml.MarkedYAMLError(problem="an alias stands inside of what it names", problem_mark=node.start_mark)
        return known[id(node)]
    if depth > DEEPEST:
        raise yaml.MarkedYAMLError(problem=f"nested deeper than {DEEPEST} levels", problem_mark=node.start_mark)
    known[id(node)] = 0  # while it is counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    size = 1 + sum(_size(child, known, depth + 1) for child in children)
    if size > MOST_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"more than {MOST_VALUES:,} values, aliases written out", problem_mark=node.start_mark
        )
    known[id(node)] = size
    return size


def _wrong_with(default: ResultDefault, result: ConfigResult) -> Iterator[str]:
    """What an own file sets or chooses that files of its group may not."""
    path, package = default.config_path or "", default.package or ""
    group, _, name = path.rpartition("/")
    section, file = group.partition("/")[0], f"{result.path.removeprefix('file://')}/{path}.yaml"
    content, choices = OmegaConf.to_container(result.config, resolve=False), result.defaults_list or []
    if section == "hardware" and "@" not in (default.override_key or "") and package != f"hardware.{name}":
        yield (
            f"{file} puts its profile at {package or 'the top'}; its first line must be `# @package hardware.{name}`"
        )
    elif section in VALUES:
        others = [str(key) for key in content if key != section] if isinstance(content, dict) else []
        yield from (f"{file}: {key}: not to be set here; allowed: keys of {section}" for key in others)
        chosen = [_chosen(choice) for choice in choices if not _is_beside(choice)]
        yield from (f"{file}: defaults: got {each}; allowed: files of {group}, as `name@_here_`" for each in chosen)
    else:
        keys = [*_keys(content), *(_chosen(choice) for choice in choices)]
        yield from (f"{file}: {problem}" for problem in not_to_be_set(keys))
        if any("plugins" in key.split(".") for key in keys):
            yield f"{file}: plugins: not to be set here; name them in the command, as plugins=my_module"
        targets = [key for key in keys if key.endswith("_target_") and key not in CLASSES]
        yield from (f"{file}: {key}: not to be set here; allowed: {', '.join(CLASSES)}" for key in targets)


def _is_beside(choice: InputDefault) -> bool:
    """Whether a defaults list names a file of its own group, to be put where its own file is."""
    return isinstance(choice, ConfigDefault) and not (choice.path or "").startswith("/") and not choice.package


def _chosen(choice: InputDefault) -> str:
    """An entry of a defaults list as a command line has it, or the place that it puts a file of Hydra's at."""
    if choice.package is not None and choice.package.removeprefix("_global_.").startswith("hydra"):
        return choice.package.removeprefix("_global_.")
    if isinstance(choice, GroupDefault):
        return f"{(choice.group or '').lstrip('/')}={choice.value}"
    return str(choice.path if isinstance(choice, ConfigDefault) else "").lstrip("/")


def _keys(content: Any, above: str = "") -> Iterator[str]:
    """The dotted key of each single value, in lists too."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    if not items:
        yield above
    for key, value in items:
        yield from _keys(value, f"{above}.{key}" if above else str(key))
