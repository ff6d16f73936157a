"""One job of a command: plain values out of its configuration, and a state and an exit code out of what happens."""

import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.cli.command import App, tell
from trainers.cli.composition import CommandLine, all_problems
from trainers.runs.exit_status import SIGNALLED, ExitStatus, RunFolderError, RunInUseError, status_of, status_with
from trainers.runs.plain_text import printable_lines
from trainers.runs.state import this_process
from trainers.runs.validation import refusal
from trainers.sweeps import sweep
from trainers.sweeps.records import Job

NEVER_BEGAN = ExitStatus("interrupted", "the sweep was interrupted before it began", SIGNALLED + signal.SIGTERM)


def run_job(app: App, config: DictConfig, command: str, *, alone: bool) -> tuple[Job, dict[str, Any]]:
    """What has become of the job, and what sweepers are given. Its failure is told here, where it happened.

    Raises: KeyboardInterrupt on a signal, unless the job is `alone` in its process: that ends only itself.
    """
    settings = HydraConfig.get()
    number = settings.job.num if sweep.in_sweep() else 0
    job = Job(number=number, overrides=task_overrides(settings), **this_process())
    if sweep.in_sweep() and sweep.is_stopping():
        return job.ended(NEVER_BEGAN), {}
    returned: dict[str, Any] = {}
    try:
        job = _noted(job.model_copy(update={"state": "running"}))
        content = _plain_values(app, config)
        folder = app.folder(content)
        if folder is not None and sweep.in_sweep():
            job = _noted(job.model_copy(update={"folder": _name_in_sweep(folder)}))
        result = _result_of(app, content, command, job)
        job = job.ended(status_with(result["status"]))
        returned = {"status": job.state, "objective": dict(result.get("objective", {})), "folder": str(folder)}
    except KeyboardInterrupt as error:
        job = job.ended(status_of(error))
        if not alone:
            _note_end(app.name, job)
            raise
    except EspalierError as error:
        say(app.name, str(error))
        job = job.ended(status_of(error))
    except Exception as error:
        ending = status_of(error)
        traceback.print_exc()
        say(app.name, f"{ending.reason}; this is a fault of Espalier, please report it")
        job = job.ended(ending)
    _note_end(app.name, job)
    return job, returned


def _result_of(app: App, content: dict[str, Any], command: str, job: Job) -> Mapping[str, Any]:
    """What the work of the job comes to, after that of an equal job of its sweep that was at the same run."""
    while True:
        try:
            return app.work(content, command)
        except RunInUseError:
            if not (sweep.in_sweep() and sweep.await_duplicate(job)):
                raise
            tell(f"{job.folder}: another job of the sweep was at this run")


def say(name: str, message: str) -> None:
    """Tells the user of a command what is wrong."""
    print(printable_lines(f"{name}: {message}"), file=sys.stderr, flush=True)


def task_overrides(settings: Any) -> list[str]:
    """As they were given: read one by one, an interpolation among them would be resolved."""
    overrides = OmegaConf.to_container(settings.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return [str(override) for override in overrides]


def _noted(job: Job) -> Job:
    if sweep.in_sweep():
        sweep.note_job(job)
    return job


def _note_end(name: str, job: Job) -> None:
    """As `_noted`; what cannot be noted is told here, and the sweep counts the job as interrupted."""
    try:
        _noted(job)
    except RunFolderError as error:
        if job.reason is None:  # else its user has been told why it ended
            say(name, str(error))


def _name_in_sweep(folder: Path) -> str:
    """The name of a run's folder in the folder of its sweep. Raises: InvalidInputError if it lies elsewhere."""
    own, common = folder.resolve(), sweep.sweep_folder().resolve()
    if own.parent != common:
        raise refusal(
            [f"paths.runs, sweep: got {folder.parent}, but this sweep is in {common}; set both in the command itself"]
        )
    return own.name


def _plain_values(app: App, config: DictConfig) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:  # of an interpolation
        raise InvalidInputError(all_problems(error, _command_line(), app.check)) from error
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _command_line() -> CommandLine:
    """What Hydra composed this job of."""
    settings = HydraConfig.get()
    of_hydra = OmegaConf.to_container(settings.overrides.hydra, resolve=False)
    assert isinstance(of_hydra, list)
    where = [str(override) for override in of_hydra if "searchpath" in str(override)]
    folders = [source.path for source in settings.runtime.config_sources if source.provider == "command-line"]
    overrides = [*where, *task_overrides(settings)]
    return CommandLine(str(settings.job.config_name), overrides, folders[0] if folders else None)
