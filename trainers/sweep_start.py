"""A sweep before any of its jobs begins: one folder, jobs that can all be used, threads shared among them."""

import os
import shlex
import sys
from collections.abc import Sized
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import EspalierError
from trainers import sweep
from trainers.composition import CONFIGURATION, explained
from trainers.endings import EXIT_CODES
from trainers.errors import refusal
from trainers.job import say, task_overrides
from trainers.overrides import named


class Start(Callback):
    """Before Hydra makes the folder of a sweep: refuses what is none, and writes down the jobs that there will be."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        name = str(config.hydra.help.app_name)
        try:
            folder = sweep.checked_folder(config.paths.runs, config.sweep)
            _keep_together(config, name=folder.name)
            launcher, jobs = str(config.hydra.runtime.choices["hydra/launcher"]), _jobs(config)
            if launcher in sweep.ALL_AT_ONCE:
                threads = (os.cpu_count() or 1) // _at_once(config, jobs)
                os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))
            sweep.begin_sweep(folder, command=shlex.join([name, *sys.argv[1:]]), launcher=launcher, jobs=jobs)
        except (*CONFIGURATION, EspalierError) as error:  # raised here, it would be a warning and no more
            say(name, named(explained(error), task_overrides(config.hydra)))
            sys.exit(EXIT_CODES["refused"])


def _keep_together(config: DictConfig, *, name: str) -> None:
    """Gives all jobs the one folder of the sweep, which a group that differs between them may set as well."""
    given = {override.key_or_group: override for override in _given(config)}
    one = "allowed: one, for all runs of a sweep lie in one folder; name one or repeat the command for each"
    several = [key for key in ("sweep", "paths", "paths.runs") if key in given and given[key].is_sweep_override()]
    if several:
        raise refusal(f"{key}: got {given[key].get_value_string()}, {one}" for key in several)
    if "sweep" not in given:
        plain = f"sweep={name}"
        means_itself = _parser().parse_override(plain).value() == name  # and not a number, say
        config.hydra.overrides.task.append(plain if means_itself else f"sweep='{name}'")  # Hydra reads them after this


def _given(config: DictConfig) -> list[Override]:
    """What the command and its sweeper say of the jobs."""
    params = _sweeper(config).get("params")
    added = [f"{key}={value}" for key, value in params.items()] if isinstance(params, dict) else []
    return _parser().parse_overrides([*added, *task_overrides(config.hydra)])


def _parser() -> OverridesParser:
    return OverridesParser.create(GlobalHydra.instance().config_loader())


def _jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, if they are known: other sweepers than Hydra's own think of jobs as they go."""
    if not str(_sweeper(config)["_target_"]).endswith(".BasicSweeper"):
        return []
    return BasicSweeper.split_arguments(_given(config), None)[0]


def _at_once(config: DictConfig, jobs: Sized) -> int:
    """How many jobs the launcher is given at a time."""
    limits = (*(_sweeper(config).get(key) for key in ("n_jobs", "max_batch_size")), len(jobs))
    return min((limit for limit in limits if type(limit) is int and limit > 0), default=1)  # unchecked as yet


def _sweeper(config: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    return dict(settings)
