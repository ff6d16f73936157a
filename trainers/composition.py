"""Command lines that make no configuration: all that is wrong with one, each with the key that it is said of."""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from search_spaces.errors import InvalidInputError
from trainers.errors import refusal, untitled
from trainers.overrides import key_of, named, quoted, unknown_choice, unknown_key

# Where no configuration can be composed; Hydra has assertions about what it was given.
CONFIGURATION = (HydraException, OmegaConfBaseException, ValueError, OSError, AssertionError, RecursionError)


@dataclass(frozen=True)
class CommandLine:
    """What Hydra composes: a file in conf, overrides, and the folder of --config-dir, if one was given."""

    config: str
    overrides: Sequence[str]
    config_dir: str | None = None


def all_problems(error: Exception, command: CommandLine, check: Callable[[dict[str, Any]], Any]) -> str:
    """What `error` says of a command line, and what is wrong with the rest of it: Hydra stops at the first.

    `check` raises InvalidInputError for values that cannot be used.
    """
    problems = [named(explained(error, command.config_dir), command.overrides)]
    rest = command
    while (others := _without_the_cause(error, rest.overrides)) is not None:
        rest = replace(rest, overrides=others)
        try:
            check(_composed(rest))
        except InvalidInputError as refused:
            problems.append(untitled(refused))
            break
        except CONFIGURATION as another:
            error = another
            problems.append(named(explained(another, command.config_dir), others))
        else:
            break
    return problems[0] if len(problems) == 1 else str(refusal(problems))


def explained(error: Exception, config_dir: str | None = None) -> str:
    """What is wrong with a command line that makes no configuration, in one line that names the key."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        options = error.options or _choices(error.missing_cfg_file.rpartition("/")[0], config_dir)
        return unknown_choice(error.missing_cfg_file, options)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        parent = cause.parent_node
        return unknown_key(cause.full_key, set(map(str, parent)) - {"hydra"} if isinstance(parent, DictConfig) else ())
    if isinstance(error, OverrideParseException):
        return f"{error.override}: {error.message}"
    if isinstance(error, OSError) and error.filename is None and error.strerror is not None:
        return f"{error.strerror}; free space, or set paths.runs to another folder"
    if isinstance(error, RecursionError):
        return "a defaults list leads back to itself, or values are nested too deep"
    return str(error) or str(cause or "") or type(error).__name__


def _choices(group: str, config_dir: str | None) -> list[str]:
    """The choices of a group: Hydra tells them not where a group takes a list."""
    own = [path.stem for path in (Path(config_dir) / group).glob("*.yaml")] if config_dir is not None else []
    with (
        nullcontext()
        if GlobalHydra.instance().is_initialized()
        else initialize_config_module("conf", version_base="1.3")
    ):
        return [*own, *GlobalHydra.instance().config_loader().get_group_options(group)]


def _without_the_cause(error: Exception, overrides: Sequence[str]) -> list[str] | None:
    """The overrides without what an error is about; none if that is not known."""
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        kept = [override for override in overrides if override != error.override]
    elif isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        left = [_without_choice(override, group, name) for override in overrides]
        kept = [override for override in left if override is not None]
    elif isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        kept = [override for override in overrides if not f"{key_of(override)}.".startswith(f"{cause.full_key}.")]
    else:
        return None
    return kept if kept != list(overrides) else None


def _without_choice(override: str, group: str, name: str) -> str | None:
    """What is left of an override without a choice that its group does not have."""
    key = key_of(override)
    if key.startswith(f"{group.replace('/', '.')}."):  # as right inside that choice as it may be wrong
        return None
    if key.partition("@")[0] != group:
        return override
    value = OverridesParser.create().parse_override(override).value()
    names = [str(each) for each in value if each != name] if isinstance(value, list) else []
    return f"{override.partition('=')[0]}=[{','.join(names)}]" if names else None


def _composed(command: CommandLine) -> dict[str, Any]:
    """The configuration of a command line, of the first job if it is a sweep."""
    with initialize_config_module("conf", version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        overrides = [_first(override) for override in parser.parse_overrides(list(command.overrides))]
        if command.config_dir is not None:
            folder = quoted(f"file://{os.path.abspath(command.config_dir)}")
            overrides.append(f"hydra.searchpath=[{folder}]")
        composed = compose(command.config, overrides=[override for override in overrides if override is not None])
        content = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _first(override: Override) -> str | None:
    """What the first job of a sweep is given; none if its sweeper thinks of that."""
    if not override.is_sweep_override():
        return override.input_line
    if override.is_interval_sweep():
        return None
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
