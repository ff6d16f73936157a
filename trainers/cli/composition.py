"""What Hydra composes: the configuration of each job, and the errors of command lines that make none."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from search_spaces.errors import EspalierError, InvalidInputError, did_you_mean, keys_of
from trainers.cli.command import choices
from trainers.cli.overrides import key_of
from trainers.runs.validation import untitled

# Where no configuration can be composed; Hydra has assertions about what it was given.
CONFIGURATION = (HydraException, OmegaConfBaseException, ValueError, OSError, AssertionError, AttributeError)


def explained(error: BaseException) -> str:
    """What is wrong with a command line that makes no configuration, in one line that names the key."""
    cause = error.__cause__
    if isinstance(error, EspalierError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        allowed = set(error.options or choices().get(group, []))
        return f"{group}: got {name}, no such choice; {did_you_mean(name, allowed)}"
    if isinstance(error, OverrideParseException):
        key = key_of(error.override)
        return f"{key}: got {error.override!r}, which cannot be read; quote it, as '{key}=\"...\"'"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        beside = cause.parent_node if isinstance(cause.parent_node, DictConfig) else {}
        allowed = {str(key) for key in beside if key != "hydra"}
        return f"{cause.full_key}: no such key; {did_you_mean(str(cause.full_key).rpartition('.')[2], allowed)}"
    about = cause if isinstance(error, ConfigCompositionException) else error
    if isinstance(about, OmegaConfBaseException) and about.full_key:
        return f"{about.full_key}: {str(about.msg or about).splitlines()[0]}"
    return str(error) or str(cause or "") or type(error).__name__


def plain_values(config: DictConfig) -> dict[str, Any]:
    """A configuration without Hydra's own. Raises: InvalidInputError for an interpolation that leads nowhere."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        content = OmegaConf.to_container(own, resolve=True)
    except OmegaConfBaseException as error:
        raise InvalidInputError(explained(error)) from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def values_of_job(loader: ConfigLoader, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration of a job of a sweep, without Hydra's own. Raises: errors of `CONFIGURATION`."""
    return plain_values(loader.load_sweep_config(config, list(overrides)))


def task_overrides(settings: Any) -> list[str]:
    """As they were given: read one by one, an interpolation among them would be resolved."""
    overrides = OmegaConf.to_container(settings.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def wrong_in_all(jobs: Iterable[dict[str, Any]], check: Callable[[dict[str, Any]], Any]) -> list[str]:
    """What is wrong with every one of these jobs, by its key; none is looked at after one that is right."""
    found: list[InvalidInputError] = []
    for job in jobs:
        try:
            check(job)
        except InvalidInputError as error:
            found.append(error)
        else:
            return []
    shared = set.intersection(*(set(error.fields) for error in found))
    lines = (line for error in found for line in untitled(error).split("\n  "))
    return list(dict.fromkeys(line for line in lines if shared.intersection(keys_of(line))))
