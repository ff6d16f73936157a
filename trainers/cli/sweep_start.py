"""A sweep before any of its jobs begins: one folder, jobs that can all be used, threads shared among them."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.cli.command import App, say, tell
from trainers.cli.compare import COMPARE
from trainers.cli.composition import CONFIGURATION, explained, task_overrides, values_of_job
from trainers.cli.searches import SEARCHES
from trainers.runs.exit_status import EXIT_CODES
from trainers.runs.validation import refusal, untitled
from trainers.sweeps import sweep
from trainers.sweeps.records import Job


class Start(Callback):
    """Before Hydra makes the folder of a sweep: refuses what is none, and writes the list of its jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        name = str(config.hydra.help.app_name)
        try:
            folder = Path(os.path.expanduser(str(config.paths.runs)), str(config.sweep))
            launcher, known = str(config.hydra.runtime.choices["hydra/launcher"]), knows_its_jobs(config.hydra.sweeper)
            if name == COMPARE.name:
                jobs = _jobs_of_arms(config, folder)
            else:
                jobs = _jobs(SEARCHES[name], config, folder) if known else []
            if launcher in sweep.ALL_AT_ONCE:
                threads = (os.cpu_count() or 1) // _at_once(config, len(jobs))
                os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))
            sweep.begin_sweep(folder, command=shlex.join([name, *sys.argv[1:]]), launcher=launcher, jobs=jobs)
            if launcher in sweep.ALL_AT_ONCE and jobs:  # they print nothing here until the last has ended
                tell(f"{len(jobs)} jobs begin; this follows them: {shlex.join(['espalier-status', str(folder)])}")
        except (*CONFIGURATION, EspalierError) as error:  # raised here, it would be a warning and no more
            say(name, explained(error))
            sys.exit(EXIT_CODES["refused"])


def knows_its_jobs(sweeper: DictConfig) -> bool:
    """Whether a sweeper is Hydra's own, which runs what the command line says; others choose jobs as they go."""
    return str(sweeper["_target_"]).endswith(".BasicSweeper")


def _jobs_of_arms(config: DictConfig, folder: Path) -> list[Job]:
    """The jobs of a comparison. Raises: InvalidInputError if they cannot be run."""
    target = str(config.hydra.sweeper["_target_"])
    if not target.endswith(".EspalierCompareSweeper"):
        raise InvalidInputError(f"hydra/sweeper: got {target}; allowed: the one of {COMPARE.name}, so leave it out")
    from trainers.cli.arms import comparison_jobs

    return comparison_jobs(GlobalHydra.instance().config_loader(), config, folder)


def _jobs(app: App, config: DictConfig, folder: Path) -> list[Job]:
    """The jobs that the command asks for. Raises: InvalidInputError if there are none, or none can be used."""
    loader, params = GlobalHydra.instance().config_loader(), _sweeper(config)["params"] or {}
    given = [*(f"{key}={value}" for key, value in params.items()), *task_overrides(config.hydra)]
    overrides = OverridesParser.create(loader).parse_overrides(given)
    for each in overrides:
        if each.is_sweep_override() and not each.is_discrete_sweep():
            allowed = "allowed: values, as 1,2 or range(1,9); espalier-tune takes intervals"
            raise InvalidInputError(f"{each.get_key_element()}: got {each.get_value_string()}; {allowed}")
    [combinations] = BasicSweeper.split_arguments(overrides, None)
    if not combinations:
        raise InvalidInputError(f"the sweep has no jobs: got {' '.join(given)}; give each key a value")
    known: dict[Any, str] = {}
    jobs = [_job(app, values_of_job(loader, config, job), job, folder, known) for job in combinations]
    refused = [job.refused for job in jobs if job.refused is not None]
    if len(refused) == len(jobs):
        raise refusal(dict.fromkeys(line for problems in refused for line in problems.split("\n  ")))
    return jobs


def _job(app: App, content: dict[str, Any], overrides: list[str], folder: Path, known: dict[Any, str]) -> Job:
    try:
        own = app.folder(app.identify(app.check(content), known))
        return Job(overrides=overrides, folder=None if own is None else sweep.name_in_sweep(own, folder))
    except InvalidInputError as error:
        return Job(overrides=overrides, refused=untitled(error))


def _at_once(config: DictConfig, num_jobs: int) -> int:
    """How many jobs the launcher is given at a time."""
    limits = (_sweeper(config).get("n_jobs"), _sweeper(config).get("max_batch_size"), num_jobs)
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=1)  # unchecked as yet


def _sweeper(config: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    return dict(settings)
