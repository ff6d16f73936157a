"""A sweep at work: its list of jobs, the processes of its jobs, and its end.

Jobs may run in processes of their own; what they share with the sweep is its folder, which the environment names.
"""

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from search_spaces.errors import InvalidInputError
from trainers.runs.exit_status import ExitStatus
from trainers.runs.files import write_text
from trainers.runs.state import FINISHED, this_process
from trainers.sweeps.records import FILE, Job, Sweep, begun, known_state, read_sweep

VARIABLE = "ESPALIER_SWEEP"  # of the environment: the folder of the sweep that a process belongs to
ALL_AT_ONCE = ("processes", "submitit_local")  # launchers whose jobs are processes that begin together
PATIENCE_SECONDS = 60.0  # for jobs to write a checkpoint and their status when the sweep is interrupted
SIGNAL_SECONDS = 0.5  # between signals to jobs: one that begins meanwhile has to be ended too


def begin_sweep(folder: Path, *, command: str, launcher: str, jobs: Sequence[Job]) -> None:
    """Writes the list of jobs, none of a study; this process and its children belong to the sweep from now on.

    Raises: RunFolderError if it cannot be written.
    """
    started = datetime.now(UTC).replace(microsecond=0)
    sweep = Sweep(command=command, launcher=launcher, started=started, jobs=list(jobs), **this_process())
    write_text(folder / FILE, sweep.model_dump_json(indent=2) + "\n")
    os.environ[VARIABLE] = str(folder.resolve())


def in_sweep() -> bool:
    """Whether this process runs a sweep or a job of one."""
    return VARIABLE in os.environ


def sweep_folder() -> Path:
    return Path(os.environ[VARIABLE])


def name_in_sweep(folder: Path, common: Path | None = None) -> str:
    """The name of a run's folder in the folder of its sweep. Raises: InvalidInputError if it lies elsewhere."""
    own, common = folder.resolve(), (common or sweep_folder()).resolve()
    if own.parent != common:
        raise InvalidInputError(
            f"sweep: got {own.parent}, but this sweep is in {common}; give all jobs one paths.runs and one sweep"
        )
    return own.name


def record_end(folder: Path, status: ExitStatus, *, command: str, began: datetime) -> None:
    """Writes how a job ended into its run folder, unless its run has done so itself.

    Raises: RunFolderError or InvalidInputError if it cannot be written; RunInUseError if another process is at the run.
    """
    known = known_state(folder)
    if known is not None and (known.started >= began or known.state in (*FINISHED, status.state)):
        return
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


def end_sweep() -> None:
    """This process belongs to no sweep any more; a study of which no run has begun leaves no list."""
    folder = Path(os.environ.pop(VARIABLE))
    sweep = read_sweep(folder)
    if sweep is not None and not sweep.jobs and not begun(sweep, folder):
        (folder / FILE).unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


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
