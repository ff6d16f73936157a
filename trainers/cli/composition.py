"""What Hydra composes: the configuration of each job, and the errors of command lines that make none."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.cli.overrides import unknown_choice, unknown_key, unreadable
from trainers.runs.validation import untitled

# Where no configuration can be composed; Hydra has assertions about what it was given.
CONFIGURATION = (HydraException, OmegaConfBaseException, ValueError, OSError, AssertionError, AttributeError)


def explained(error: BaseException) -> str:
    """What is wrong with a command line that makes no configuration, in one line that names the key."""
    cause = error.__cause__
    if isinstance(error, EspalierError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return unknown_choice(error.missing_cfg_file, error.options or _choices(error.missing_cfg_file))
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, str(error.message))
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        parent = cause.parent_node
        return unknown_key(cause.full_key, set(map(str, parent)) - {"hydra"} if isinstance(parent, DictConfig) else ())
    about = cause if isinstance(error, ConfigCompositionException) else error
    if isinstance(about, OmegaConfBaseException) and about.full_key:
        return f"{about.full_key}: {str(about.msg or about).splitlines()[0]}"
    return str(error) or str(cause or "") or type(error).__name__


def _choices(file: str) -> list[str]:
    """The choices of the group of a file: Hydra does not name them where a group takes a list."""
    group = file.rpartition("/")[0]
    if GlobalHydra.instance().is_initialized():
        return GlobalHydra.instance().config_loader().get_group_options(group)
    with initialize_config_module("conf", version_base="1.3"):
        return GlobalHydra.instance().config_loader().get_group_options(group)


def plain_values(config: DictConfig) -> dict[str, Any]:
    """A configuration without Hydra's own. Raises: OmegaConfBaseException for an interpolation that leads nowhere."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content = OmegaConf.to_container(own, resolve=True)
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
    found = []
    for job in jobs:
        try:
            check(job)
        except InvalidInputError as error:
            found.append(untitled(error).split("\n  "))
        else:
            return []
    wrong_keys = set.intersection(*({_key_in(line) for line in problems} for problems in found))
    return list(dict.fromkeys(line for problems in found for line in problems if _key_in(line) in wrong_keys))


def _key_in(problem: str) -> str:
    """The key that a line of a refusal begins with."""
    return problem.partition(": ")[0]
