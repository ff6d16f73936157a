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
from trainers.cli.command import SEARCHES, tell
from trainers.cli.composition import CONFIGURATION, explained, key_in, values_of_job, wrong_in_all
from trainers.cli.job import say, task_overrides
from trainers.cli.overrides import named
from trainers.runs.exit_status import EXIT_CODES
from trainers.runs.validation import refusal
from trainers.sweeps import sweep


class Start(Callback):
    """Before Hydra makes the folder of a sweep: refuses what is none, and writes down the jobs that there will be."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        name = str(config.hydra.help.app_name)
        try:
            folder = sweep.checked_folder(config.paths.runs, config.sweep)
            _keep_together(config, name=folder.name)
            _check_numbers(config)
            launcher, jobs = str(config.hydra.runtime.choices["hydra/launcher"]), _jobs(config)
            if jobs:
                _check_all(name, config, jobs)
            if launcher in sweep.ALL_AT_ONCE:
                threads = (os.cpu_count() or 1) // _at_once(config, jobs)
                os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))
            sweep.begin_sweep(folder, command=shlex.join([name, *sys.argv[1:]]), launcher=launcher, jobs=jobs)
            if launcher in sweep.ALL_AT_ONCE and jobs:  # they print nothing here until the last has ended
                follow = shlex.join(["espalier-status", str(folder)])
                tell(f"{len(jobs)} job{'s' * (len(jobs) != 1)} begin; this follows them: {follow}")
        except (*CONFIGURATION, EspalierError) as error:  # raised here, it would be a warning and no more
            told = explained(error)  # a refusal names its keys
            say(name, told if isinstance(error, EspalierError) else named(told, task_overrides(config.hydra)))
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


def knows_its_jobs(sweeper: DictConfig) -> bool:
    """Whether a sweeper is Hydra's own, which runs what the command line says; others think of jobs as they go."""
    return str(sweeper["_target_"]).endswith(".BasicSweeper")


def _check_numbers(config: DictConfig) -> None:
    """Raises: InvalidInputError for numbers of jobs at once that Hydra and joblib assert or fail on."""
    batch, at_once = _sweeper(config).get("max_batch_size"), config.hydra.launcher.get("n_jobs")
    problems = []
    if batch is not None and batch < 1:
        problems.append(f"hydra.sweeper.max_batch_size: got {batch}; allowed: 1 or more, or null for all")
    if at_once == 0:
        problems.append("hydra.launcher.n_jobs: got 0; allowed: 1 or more, or -1 for as many as there are cores")
    if problems:
        raise refusal(problems)


def _jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, if the sweeper knows them. Raises: InvalidInputError if there are none."""
    if not knows_its_jobs(config.hydra.sweeper):
        return []
    given = _given(config)
    jobs: list[list[str]] = BasicSweeper.split_arguments(given, None)[0]
    if not jobs:
        empty = [o for o in given if o.is_sweep_override() and next(o.sweep_string_iterator(), None) is None]
        raise refusal(f"{o.get_key_element()}: got {o.get_value_string()}, which is no value; name some" for o in empty)
    return jobs


def _check_all(name: str, config: DictConfig, jobs: list[list[str]]) -> None:
    """Raises: InvalidInputError if every job is wrong, and not by the values alone that differ between them."""
    loader = GlobalHydra.instance().config_loader()
    try:
        problems = wrong_in_all((values_of_job(loader, config, job) for job in jobs), SEARCHES[name].check)
    except CONFIGURATION:  # one cannot be composed; of that the sweeper tells, with what else is wrong
        return
    swept = tuple(f"{override.key_or_group}." for override in _given(config) if override.is_sweep_override())
    if any(not f"{key_in(problem)}.".startswith(swept) for problem in problems):
        raise refusal(problems)


def _at_once(config: DictConfig, jobs: Sized) -> int:
    """How many jobs the launcher is given at a time."""
    limits = (*(_sweeper(config).get(key) for key in ("n_jobs", "max_batch_size")), len(jobs))
    return min((limit for limit in limits if type(limit) is int and limit > 0), default=1)  # unchecked as yet


def _sweeper(config: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    return dict(settings)
