"""One job of a command: its typed configuration, its work, and the exit status that comes of it."""

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from search_spaces.errors import EspalierError, InvalidInputError
from trainers.cli.command import App, say
from trainers.cli.composition import explained, plain_values, task_overrides
from trainers.runs.exit_status import SIGNALLED, ExitStatus, RunFolderError, RunInUseError, status_of, status_with
from trainers.runs.validation import refusal, untitled
from trainers.sweeps import sweep
from trainers.sweeps.records import Job

_signalled: list[int] = []  # signals that ended a job of this process: its launcher may have others for it


def run_job(app: App, config: DictConfig, command: str, *, alone: bool) -> tuple[ExitStatus, dict[str, Any]]:
    """How the job ended, and what sweepers are given. Its failure is reported here, where it happened.

    Raises: KeyboardInterrupt on a signal, unless the job is `alone` in its process: that ends only itself.
    """
    if _signalled and alone:
        return ExitStatus("interrupted", "the sweep was interrupted before it began", SIGNALLED + _signalled[0]), {}
    began = datetime.now(UTC).replace(microsecond=0)
    folder: Path | None = None
    returned: dict[str, Any] = {}
    try:
        typed = _typed(app, config)
        folder = app.folder(typed)
        if folder is not None and sweep.in_sweep():
            sweep.add_job(Job(overrides=task_overrides(HydraConfig.get()), folder=name_in_sweep(folder)))
        result = app.work(typed, command)
        status = status_with(result["status"])
        returned = {"status": status.state, "objective": dict(result.get("objective", {})), "folder": str(folder)}
    except KeyboardInterrupt as error:
        status = status_of(error)
        if not alone:
            raise
    except EspalierError as error:
        say(app.name, str(error))
        status = status_of(error)
    except Exception as error:
        status = status_of(error)
        traceback.print_exc()
        say(app.name, f"{status.reason}; internal error, please report it")
    if sweep.in_sweep() and status.state != "busy":
        _record(app.name, folder, status, command=command, began=began)
    return status, returned


def name_in_sweep(folder: Path, sweep_folder: Path | None = None) -> str:
    """The name of a run's folder in the folder of its sweep. Raises: InvalidInputError if it lies elsewhere."""
    own, common = folder.resolve(), (sweep_folder or sweep.sweep_folder()).resolve()
    if own.parent != common:
        problem = (
            f"paths.runs: got {folder.parent}, but this sweep is in {common}; set paths.runs and sweep in the command"
        )
        raise refusal([problem])
    return own.name


@contextmanager
def signals_end_the_job() -> Iterator[None]:
    """SIGTERM and Ctrl-C end a job in a process of its own, whatever its launcher makes of them."""
    before = {number: signal.signal(number, _end_job) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_job(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):  # the sweep may pass on a signal that the whole terminal has had
        signal.signal(each, signal.SIG_IGN)
    _signalled.append(number)
    raise KeyboardInterrupt(number)


def _typed(app: App, config: DictConfig) -> Any:
    try:
        return app.check(plain_values(config))
    except OmegaConfBaseException as error:  # of an interpolation
        raise InvalidInputError(explained(error)) from error


def _record(name: str, folder: Path | None, status: ExitStatus, *, command: str, began: datetime) -> None:
    """Writes how a job of a sweep ended: into its run folder, or beside its overrides if it got to none."""
    try:
        if folder is not None and folder.resolve().parent == sweep.sweep_folder():
            sweep.record_end(folder, status, command=command, began=began)
        elif status.state == "refused":
            overrides = task_overrides(HydraConfig.get())
            sweep.add_job(Job(overrides=overrides, refused=untitled(InvalidInputError(str(status.reason)))))
    except RunInUseError:  # which says itself how it ends
        return
    except (RunFolderError, InvalidInputError) as error:
        if status.reason is None:  # else its user has been told why it ended
            say(name, str(error))
