"""A sweep before any of its jobs begins: one folder, jobs that can all be used, threads shared among them."""

import copy
import os
import shlex
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.cli.command import App, lines_of, say, tell
from trainers.cli.compare import COMPARE
from trainers.cli.composition import CONFIGURATION, explained, task_overrides, values_of_job
from trainers.cli.searches import SEARCHES
from trainers.runs.exit_status import EXIT_CODES
from trainers.runs.validation import refusal, untitled
from trainers.search.verdict import REPORT
from trainers.sweeps import sweep
from trainers.sweeps.records import Job, cut, own_overrides, read_sweep
from trainers.sweeps.survey import job_rows, summary, sweep_exit_codes, worst_code

BASIC = "basic"  # the launcher of jobs in this process; others hand the loader to their processes
KEPT_JOBS = 16  # of which each is about a megabyte
Asked = tuple[Job, Any]  # a job with its typed configuration; none if that is refused


class Start(Callback):
    """Before Hydra makes the folder of a sweep: refuses what is none, and writes the list of its jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        name = str(config.hydra.help.app_name)
        try:
            folder = Path(os.path.expanduser(str(config.paths.runs)), str(config.sweep))
            launcher, known = str(config.hydra.runtime.choices["hydra/launcher"]), knows_its_jobs(config.hydra.sweeper)
            app = SEARCHES[name]
            if launcher == BASIC:
                _compose_once(GlobalHydra.instance().config_loader(), config)
            if name == COMPARE.name:
                asked, jobs = [], _jobs_of_arms(config, folder)
            else:
                asked = _jobs(app, config, folder) if known else []
                jobs = [job for job, _ in asked]
            if asked and _is_shown(app, asked, folder):
                sys.exit(_tell_end(folder))
            if launcher in sweep.ALL_AT_ONCE:
                threads = (os.cpu_count() or 1) // _at_once(config, len(jobs))
                os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads)))
            sweep.begin_sweep(folder, command=shlex.join([name, *sys.argv[1:]]), launcher=launcher, jobs=jobs)
            if launcher in sweep.ALL_AT_ONCE and jobs:  # they print nothing here until the last has ended
                tell(f"{len(jobs)} jobs begin; this follows them: {shlex.join(['espalier-status', str(folder)])}")
        except (*CONFIGURATION, EspalierError) as error:  # raised here, it would be a warning and no more
            say(name, explained(error))
            sys.exit(EXIT_CODES["refused"])


def _is_shown(app: App, asked: Sequence[Asked], folder: Path) -> bool:
    """Whether all jobs are runs of the last sweep, and finished, and its report knows so; then they have been shown.

    No process begins for them, and nothing is written.
    """
    jobs, recorded = [job for job, _ in asked], read_sweep(folder)
    if recorded is None or [job.folder for job in recorded.jobs] != [job.folder for job in jobs]:
        return False
    if not _is_reported(folder, jobs):
        return False
    shows = [None if config is None else app.finished(config) for _, config in asked]
    if None in shows:
        return False
    for show, owner in zip(shows, own_overrides([job.overrides for job in jobs]), strict=True):
        assert show is not None
        with lines_of(None if owner is None else cut(owner), shared=False):
            show(tell)
    return True


def _is_reported(folder: Path, jobs: Sequence[Job]) -> bool:
    """Whether the report was written after all jobs had ended."""
    try:
        ended = [(folder / job.folder / "status.json").stat().st_mtime_ns for job in jobs if job.folder is not None]
        return (folder / REPORT).stat().st_mtime_ns > max(ended, default=0)
    except OSError:
        return False


def _tell_end(folder: Path) -> int:
    """The exit code of a sweep that has ended before, after a summary of it."""
    recorded = read_sweep(folder)
    assert recorded is not None
    rows = job_rows(recorded, folder, running=False)
    for line in [*summary(rows), f"report  {os.path.relpath(folder / REPORT)}"]:
        tell(line)
    return worst_code(sweep_exit_codes(rows))


def _compose_once(loader: ConfigLoader, config: DictConfig) -> None:
    """From now on a job of the sweep `config` is composed once, and copied where Hydra checks and where it runs it."""
    load = loader.load_sweep_config

    @lru_cache(maxsize=KEPT_JOBS)
    def composed(overrides: tuple[str, ...]) -> DictConfig:
        return load(config, list(overrides))

    def load_sweep_config(master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        if master_config is not config:
            return load(master_config, sweep_overrides)
        return copy.deepcopy(composed(tuple(sweep_overrides)))

    loader.load_sweep_config = load_sweep_config  # type: ignore[method-assign]


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


def _jobs(app: App, config: DictConfig, folder: Path) -> list[Asked]:
    """The jobs that the command asks for, each with its configuration unless it is refused.

    Raises: InvalidInputError if there are none, or none can be used.
    """
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
    tell(f"sweep {folder} · {len(combinations)} job{'s' * (len(combinations) != 1)}")
    known: dict[Any, str] = {}
    asked = [_job(app, values_of_job(loader, config, job), job, folder, known) for job in combinations]
    refused = [job.refused for job, _ in asked if job.refused is not None]
    if len(refused) == len(asked):
        raise refusal(dict.fromkeys(line for problems in refused for line in problems.split("\n  ")))
    return asked


def _job(app: App, content: dict[str, Any], overrides: list[str], folder: Path, known: dict[Any, str]) -> Asked:
    try:
        config = app.identify(app.check(content), known)
        own = app.folder(config)
        return Job(overrides=overrides, folder=None if own is None else sweep.name_in_sweep(own, folder)), config
    except InvalidInputError as error:
        return Job(overrides=overrides, refused=untitled(error)), None


def _at_once(config: DictConfig, num_jobs: int) -> int:
    """How many jobs the launcher is given at a time."""
    limits = (_sweeper(config).get("n_jobs"), _sweeper(config).get("max_batch_size"), num_jobs)
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=1)  # unchecked as yet


def _sweeper(config: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    return dict(settings)
