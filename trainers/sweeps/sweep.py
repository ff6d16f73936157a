"""A sweep at work: its list of jobs, the processes of its jobs, and its end.

Jobs may run in processes of their own; what they share with the sweep is its folder, which the environment names.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from search_spaces.errors import InvalidInputError
from trainers.runs.exit_status import ExitStatus, RunFolderError
from trainers.runs.files import write_text
from trainers.runs.state import FINISHED, state_of, this_process
from trainers.runs.validation import refusal
from trainers.sweeps.records import FILE, Job, Sweep, read_sweep

VARIABLE = "ESPALIER_SWEEP"  # of the environment: the folder of the sweep that a process belongs to
ALL_AT_ONCE = ("processes", "submitit_local")  # launchers whose jobs are processes that begin together
LOCK = ".lock"
PATIENCE_SECONDS = 60.0  # for jobs to write a checkpoint and their status when the sweep is interrupted
SIGNAL_SECONDS = 0.5  # between signals to jobs: one that begins meanwhile has to be ended too


def begin_sweep(folder: Path, *, command: str, launcher: str, jobs: Sequence[Job], open_ended: bool = False) -> None:
    """Writes the list of jobs; this process and its children belong to the sweep from now on.

    An open-ended sweep goes on with the list of the same command. Raises: RunFolderError if it cannot be written.
    """

    def begin(before: Sweep | None) -> Sweep:
        kept = before.jobs if before is not None and open_ended and before.command == command else []
        return Sweep(
            command=command,
            launcher=launcher,
            open_ended=open_ended,
            started=_now(),
            jobs=[*kept, *jobs],
            **this_process(),
        )

    _change(folder, begin)
    os.environ[VARIABLE] = str(folder.resolve())


def in_sweep() -> bool:
    """Whether this process runs a sweep or a job of one."""
    return VARIABLE in os.environ


def sweep_folder() -> Path:
    return Path(os.environ[VARIABLE])


def add_job(job: Job) -> None:
    """Adds a job to the list of an open-ended sweep, unless it has it. Raises: RunFolderError."""
    sweep = read_sweep(sweep_folder())
    if sweep is not None and sweep.open_ended:
        _change(sweep_folder(), lambda sweep: _with_job(sweep, job))


def record_end(folder: Path, status: ExitStatus, *, command: str, began: datetime) -> None:
    """Writes how a job ended into its run folder, unless its run has done so itself.

    Raises: RunFolderError or InvalidInputError if it cannot be written; RunInUseError if another process is at the run.
    """
    try:
        known = state_of(folder)
        if known.started >= began or known.state in (*FINISHED, status.state):
            return
    except InvalidInputError:  # there is none, or it is torn
        pass
    from trainers.runs.folder import RunFolder  # imports the schema of results

    run = RunFolder(folder, command=command)
    run.take()
    try:
        run.close(status.state, status.reason)
    finally:
        run.release()


def stop_jobs() -> None:
    """Ends the jobs in other processes as SIGTERM does, and waits until these processes are gone."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while (children := _children()) and time.monotonic() < patience:
        for child in children:
            try:
                child.terminate()  # a job that is ending ignores it
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(children, timeout=SIGNAL_SECONDS)


def await_jobs() -> None:
    """Returns when the processes of jobs have ended, whose launcher has stopped waiting for them."""
    sweep = read_sweep(sweep_folder())
    if sweep is not None and sweep.launcher in ALL_AT_ONCE:
        psutil.wait_procs(_children())


def end_sweep(*, interrupted: str | None = None) -> None:
    """Writes that the sweep of this process has ended, and by which signal; a study without jobs leaves no list.

    Raises: RunFolderError.
    """
    folder = Path(os.environ.pop(VARIABLE))
    sweep = read_sweep(folder)
    if sweep is not None and not sweep.jobs and interrupted is None:
        for name in (FILE, LOCK):
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
        return
    _change(folder, lambda sweep: sweep and sweep.model_copy(update={"ended": _now(), "interrupted": interrupted}))


def _change(folder: Path, change: Callable[[Sweep | None], Sweep | None]) -> None:
    """Changes the list under a lock: processes that share a study share the list."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=PATIENCE_SECONDS):
            after = change(_readable(folder))
            if after is not None:
                write_text(folder / FILE, after.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise RunFolderError(
            f"cannot write {folder}: {error.strerror or error}; free space or allow writing there and repeat"
        ) from error


def _readable(folder: Path) -> Sweep | None:
    try:
        return read_sweep(folder)
    except InvalidInputError:  # torn, and about to be replaced
        return None


def _with_job(sweep: Sweep | None, job: Job) -> Sweep | None:
    if sweep is None or any(job.overrides == other.overrides for other in sweep.jobs):
        return None
    return sweep.model_copy(update={"jobs": [*sweep.jobs, job]})


def _children() -> list[Any]:
    """The processes that this one has started for jobs; joblib's tracker of resources ends with its parent."""
    found = []
    for child in psutil.Process().children():
        try:
            if not any("resource_tracker" in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def name_in_sweep(folder: Path, common: Path | None = None) -> str:
    """The name of a run's folder in the folder of its sweep. Raises: InvalidInputError if it lies elsewhere."""
    own, common = folder.resolve(), (common or sweep_folder()).resolve()
    if own.parent != common:
        problem = (
            f"paths.runs: got {folder.parent}, but this sweep is in {common}; set paths.runs and sweep in the command"
        )
        raise refusal([problem])
    return own.name
