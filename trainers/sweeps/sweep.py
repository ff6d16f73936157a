"""What a sweep and its jobs write down of themselves, in `.jobs` of its folder and, when it has ended, `sweep.json`.

Jobs run in processes of their own, so all they share with the sweep is its folder and the environment. Several commands
may run in one folder at once: each has a folder of notes to itself.
"""

import fcntl
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model

from search_spaces.errors import InvalidInputError
from trainers.runs.exit_status import ExitStatus, status_with
from trainers.runs.files import write_text
from trainers.runs.folder import HEARTBEAT_SECONDS
from trainers.runs.state import FINISHED, this_process
from trainers.runs.validation import problems_of, refusal
from trainers.sweeps.records import (
    FILE,
    NOTE,
    NOTES,
    Ended,
    Job,
    Sweep,
    at_its_end,
    brought_up,
    ended_sweeps,
    has_left_something,
    is_running,
    together,
    with_notes,
)

VARIABLE = "ESPALIER_SWEEP"  # of the environment: folder of the notes of the sweep that a process belongs to
STOPPING = "stopping"  # a file among the notes: jobs that have not begun begin no more
ALL_AT_ONCE = ("processes", "submitit_local")  # launchers whose jobs are processes that begin together
PATIENCE_SECONDS = 60.0  # for jobs to write a checkpoint and their status when the sweep is interrupted
POLL_SECONDS = 0.5
DONE = status_with("done")


def begin_sweep(folder: Path, *, command: str, launcher: str, jobs: Sequence[Sequence[str]]) -> None:
    """Writes down what is going to run; this process and its children take notes from now on.

    No jobs means that they are not known: its sweeper thinks of them as it goes.
    Raises: RunFolderError if it cannot be written.
    """
    _clear_up(folder)
    sweep = Sweep(
        id=uuid.uuid4().hex[:12],
        command=command,
        launcher=launcher,
        open_ended=not jobs,
        started=_now(),
        ended=None,
        jobs=[Job(number=number, overrides=list(overrides)) for number, overrides in enumerate(jobs)],
        **this_process(),
    )
    notes = folder.resolve() / NOTES / sweep.id
    write_text(notes / FILE, sweep.model_dump_json(indent=2) + "\n")
    os.environ[VARIABLE] = str(notes)
    threading.Thread(target=_beat, args=(notes / FILE,), name="heartbeat", daemon=True).start()


def checked_folder(runs: Any, sweep: Any) -> Path:
    """The folder of a sweep. Raises: InvalidInputError, naming the key, if it cannot be one."""
    from trainers.runs.config import Line, SweepName  # imports half of the project

    kinds: dict[str, Any] = {"paths.runs": (Line, ...), "sweep": (SweepName, ...)}
    try:
        place = create_model("Place", **kinds).model_validate({"paths.runs": runs, "sweep": sweep}).model_dump()
    except ValidationError as error:
        raise refusal(problems_of(error)) from error
    return Path(os.path.expanduser(place["paths.runs"]), place["sweep"])


def in_sweep() -> bool:
    """Whether this process runs a sweep or a job of one."""
    return VARIABLE in os.environ


def note_job(job: Job) -> None:
    """Tells the sweep that this process belongs to what has become of a job.

    Raises: RunFolderError if that cannot be written.
    """
    write_text(Path(os.environ[VARIABLE]) / f"{job.number}.json", job.model_dump_json(indent=2) + "\n")


def sweep_folder() -> Path:
    return Path(os.environ[VARIABLE]).parents[1]


def has_begun() -> bool:
    """Whether a job of the sweep that this process belongs to has begun."""
    return any(Path(os.environ[VARIABLE]).glob(NOTE))


def is_stopping() -> bool:
    """Whether the sweep that this process belongs to is being interrupted."""
    return (Path(os.environ[VARIABLE]) / STOPPING).exists()


def stop_jobs() -> None:
    """Ends, as SIGTERM does, the sweep's jobs in other processes of this machine, and waits until they have ended."""
    notes = Path(os.environ[VARIABLE])
    with suppress(OSError):  # of a full disk: jobs that have not begun then do
        (notes / STOPPING).touch()
    for pid in _at_work_elsewhere(notes):
        with suppress(OSError):  # it has ended meanwhile
            os.kill(pid, signal.SIGTERM)
    patience = time.monotonic() + PATIENCE_SECONDS
    while _at_work_elsewhere(notes) and time.monotonic() < patience:
        time.sleep(0.05)


def await_jobs() -> None:
    """Returns when no child of this process is left: jobs whose launcher has stopped waiting for them."""
    sweep = with_notes(Path(os.environ[VARIABLE]))
    while sweep is not None and sweep.launcher in ALL_AT_ONCE:
        try:
            os.wait()
        except ChildProcessError:
            break


def await_duplicate(job: Job) -> bool:
    """Whether another job of the sweep was at the run of this one; it has ended then.

    Raises: RunFolderError if it cannot be noted that this one waits.
    """
    note_job(job.model_copy(update={"state": "busy"}))  # two that have met a third would wait for each other
    waited = False
    while True:
        sweep = with_notes(Path(os.environ[VARIABLE]))
        jobs = [] if sweep is None else sweep.jobs
        duplicates = {other.state for other in jobs if other.number != job.number and other.folder == job.folder}
        if "running" not in duplicates:
            break
        waited = True
        time.sleep(POLL_SECONDS)
    was_there = waited or not duplicates.isdisjoint(FINISHED)
    if was_there:
        note_job(job)
    return was_there


def ended_sweep() -> Sweep | None:
    """The sweep that this process belongs to, now that it has ended, with what became of each job; none if none began.

    Raises: InvalidInputError if a file of it cannot be read.
    """
    sweep = with_notes(Path(os.environ[VARIABLE]))
    return None if sweep is None else at_its_end(sweep, DONE, moment=_now())


def end_sweep(ending: ExitStatus = DONE) -> Sweep | None:
    """The same, written down for the folder with how its command has ended; its notes are removed.

    Raises: InvalidInputError as above; RunFolderError if it cannot be written. The notes then stay.
    """
    notes = Path(os.environ.pop(VARIABLE))
    _clear_up(notes.parents[1])  # of a process that was killed at the study which this one has ended
    return _settle(notes, ending)


def _settle(notes: Path, ending: ExitStatus) -> Sweep | None:
    """Writes down a sweep that has ended, and removes its notes."""
    sweep = with_notes(notes)
    if sweep is None:
        return None
    ended, folder = at_its_end(sweep, ending, moment=_now()), notes.parents[1]
    whole = ending.state == DONE.state and sweep.reason is None
    with _alone(folder):
        try:
            before = ended_sweeps(folder)
        except InvalidInputError:  # of which nothing can be kept
            before = []
        after = _after(before, sweep.command, ended, whole=whole)
        if after != before:
            write_text(folder / FILE, Ended(sweeps=after).model_dump_json(indent=2) + "\n")
    shutil.rmtree(notes, ignore_errors=True)
    with suppress(OSError):  # others are at it
        notes.parent.rmdir()
    return ended


def _after(before: Sequence[Sweep], command: str, ended: Sweep | None, *, whole: bool) -> list[Sweep]:
    """The sweeps that are written down when a command has ended, with its own, if a job began; `whole` if all of it."""
    if ended is None:  # of a study that was cut short, nothing was left
        return [s.model_copy(update={"reason": None}) if whole and s.command == command else s for s in before]
    for sweep in before:
        if sweep.command == command:
            ended = together(*sorted((sweep, ended), key=lambda each: each.started))
    if whole:
        ended = ended.model_copy(update={"reason": None})
    others = [brought_up(sweep, ended.jobs) for sweep in before if sweep.command != command]
    return [*filter(has_left_something, others), ended]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a folder, where its file system has locks: sweeps that end at once would forget each other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _at_work_elsewhere(notes: Path) -> list[int]:
    """The numbers of other processes of this machine that jobs are at work in."""
    sweep, here = with_notes(notes), os.uname().nodename
    jobs = [] if sweep is None else [job for job in sweep.jobs if job.is_at_work and job.host == here]
    return [job.pid for job in jobs if job.pid not in (None, os.getpid())]


def _clear_up(folder: Path) -> None:
    """Writes down the sweeps that were killed in `folder`. Raises: RunFolderError if they cannot be."""
    for path in folder.resolve().glob(f"{NOTES}/*/{FILE}"):
        with suppress(InvalidInputError):  # of which `read_sweeps` tells
            sweep = with_notes(path.parent)
            if sweep is not None and not is_running(sweep):
                _settle(path.parent, DONE)


def _beat(record: Path) -> None:
    """Touches the record of a sweep for as long as there is one."""
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        try:
            os.utime(record)
        except FileNotFoundError:
            return
        except OSError:
            continue  # whatever has to be written next says so


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
