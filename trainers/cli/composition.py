"""Command lines that make no configuration: all that is wrong with one, each with the key that it is said of."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from hydra import compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from search_spaces.errors import InvalidInputError
from trainers.cli.overrides import SHORT_NAMES, key_of, listed_once, named, unknown_choice, unknown_key, unreadable
from trainers.runs.validation import refusal, untitled

# Where no configuration can be composed; Hydra has assertions about what it was given.
CONFIGURATION = (HydraException, OmegaConfBaseException, ValueError, OSError, AssertionError, RecursionError)

TITLE = re.compile(r"the (configuration|study) cannot be (used|run):")


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
    rest: CommandLine | None = command
    while rest is not None:
        try:
            content = _composed(rest)
        except CONFIGURATION as another:
            problems.append(named(explained(another, command.config_dir), rest.overrides))
            rest = _without_the_cause(another, rest)
            continue
        try:
            check(content)
        except InvalidInputError as refused:
            problems.append(untitled(refused))
        break
    first, all_of_them = _lines(problems[:1]), _lines(problems)
    return problems[0] if first == all_of_them else str(refusal(all_of_them))


def _lines(problems: Iterable[str]) -> list[str]:
    """Each line of messages once, without their titles; what is allowed in place of several names once as well."""
    lines = [line for problem in problems for line in problem.split("\n  ")]
    return list(listed_once(dict.fromkeys(line for line in lines if not TITLE.fullmatch(line))))


def explained(error: Exception, config_dir: str | None = None) -> str:
    """What is wrong with a command line that makes no configuration, in one line that names the key."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        options = error.options or _choices(error.missing_cfg_file.rpartition("/")[0], config_dir)
        return unknown_choice(error.missing_cfg_file, options)
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        parent = cause.parent_node
        return unknown_key(cause.full_key, set(map(str, parent)) - {"hydra"} if isinstance(parent, DictConfig) else ())
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {str(cause.msg or cause).splitlines()[0]}"
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, str(error.message))
    if isinstance(error, OmegaConfBaseException) and error.full_key:  # of an interpolation
        return f"{error.full_key}: {str(error.msg or error).splitlines()[0]}"
    if isinstance(error, OSError) and error.filename is None and error.strerror is not None:
        return f"{error.strerror}; free space, or set paths.runs to another folder"
    if isinstance(error, RecursionError):
        return "a defaults list leads back to itself, or values are nested too deep"
    return str(error) or str(cause or "") or type(error).__name__


def _choices(group: str, config_dir: str | None) -> list[str]:
    """The choices of a group: Hydra tells them not where a group takes a list."""
    with nullcontext() if GlobalHydra.instance().is_initialized() else _hydra(config_dir):
        return GlobalHydra.instance().config_loader().get_group_options(group)


def completions(line: str) -> list[str]:
    """What the last word of a line may become, if it is a group with a choice or a list of some that has begun."""
    words = line.split()[1:]
    found = (
        re.fullmatch(r"(['\"]?)([\w/]+)=(\[(?:[\w,-]*,)?)?([\w-]*)", words[-1]) if words and line[-1] != " " else None
    )
    if found is None:
        return []
    quote, key, others, begun = (part or "" for part in found.groups())
    folder = re.search(r"\s(?:--config-dir|-cd)[=\s]\s*(\S+)", line)
    names = _choices(SHORT_NAMES.get(key, key), folder[1] if folder else None)
    return [f"{quote}{key}={others}{name}" for name in names if name.startswith(begun)]


@contextmanager
def _hydra(config_dir: str | None) -> Iterator[None]:
    """Hydra with the files that a command has, as `hydra.main` makes it."""
    path = create_automatic_config_search_path(None, None, "pkg://conf")
    if config_dir is not None:
        folder = f"file://{os.path.abspath(config_dir)}"
        path.prepend(provider="command-line", path=folder, anchor=SearchPathQuery(provider="schema"))
    before = GlobalHydra.instance().hydra  # of the job that asks
    GlobalHydra.instance().clear()
    try:
        Hydra.create_main_hydra2("espalier", path)
        yield
    finally:
        GlobalHydra.instance().hydra = before


def _without_the_cause(error: Exception, command: CommandLine) -> CommandLine | None:
    """The command line without what an error is about; none if that is not known."""
    cause, overrides = error.__cause__, list(command.overrides)
    key = getattr(error if isinstance(error, OmegaConfBaseException) else cause, "full_key", None)
    kept: list[str] = overrides
    if isinstance(error, OverrideParseException):
        kept = [override for override in overrides if override != error.override]
    elif isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        left = [_without_choice(override, group, name) for override in overrides]
        kept = [override for override in left if override is not None]
    elif key:
        kept = [override for override in overrides if not f"{key_of(override)}.".startswith(f"{key}.")]
    if kept != overrides:
        return replace(command, overrides=kept)
    without_one = (replace(command, overrides=[*overrides[:at], *overrides[at + 1 :]]) for at in range(len(overrides)))
    return next((rest for rest in without_one if not _fails_with(error, rest)), None)


def _fails_with(error: Exception, command: CommandLine) -> bool:
    """Whether the command line makes no configuration, for the same reason."""
    try:
        _composed(command)
    except CONFIGURATION as another:
        return explained(another, command.config_dir) == explained(error, command.config_dir)
    return False


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
    with _hydra(command.config_dir):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        overrides = [_first(override) for override in parser.parse_overrides(list(command.overrides))]
        composed = compose(command.config, overrides=[override for override in overrides if override is not None])
        content = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def values_of_job(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of a job of a sweep, without Hydra's own. Raises: errors of `CONFIGURATION`."""
    composed = loader.load_sweep_config(config, list(overrides))
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    content = OmegaConf.to_container(own, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def wrong_in_all(jobs: Iterable[dict[str, Any]], check: Callable[[dict[str, Any]], Any]) -> list[str]:
    """What is wrong with every one of these jobs, by its key; none is looked at after one that is right."""
    found = []
    for job in jobs:
        try:
            check(job)
        except InvalidInputError as error:
            found.append(untitled(error).split("\n  "))
        else:
            return []
    wrong_keys = set.intersection(*({key_in(line) for line in problems} for problems in found))
    return list(dict.fromkeys(line for problems in found for line in problems if key_in(line) in wrong_keys))


def key_in(problem: str) -> str:
    """The key that a line of a refusal begins with."""
    return problem.partition(": ")[0]


def _first(override: Override) -> str | None:
    """What the first job of a sweep is given; none if its sweeper thinks of that, or there is none."""
    if not override.is_sweep_override():
        return override.input_line
    if override.is_interval_sweep():
        return None
    value = next(override.sweep_string_iterator(), None)
    return None if value is None else f"{override.get_key_element()}={value}"
