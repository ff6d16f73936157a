"""What a sweep tells of its jobs: while it runs its record and a note of each job, after it one `sweep.json`.

Jobs run in processes of their own, so all they share with the sweep is its folder and the environment. Several commands
may run in one folder at once: each has a folder of notes to itself.
"""

import os
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from search_spaces.errors import InvalidInputError
from trainers.endings import SIGNALLED, Ending
from trainers.errors import problems_of, refusal
from trainers.run_folder import write_text
from trainers.run_state import process_is_alive

FILE, NOTES = "sweep.json", ".jobs"
NOTE = "[0-9]*.json"  # of a job, beside the record of its sweep
VARIABLE = "ESPALIER_SWEEP"  # of the environment: folder of the notes of the sweep that a process belongs to
STOPPING = "stopping"  # a file among the notes: jobs that have not begun begin no more
ALL_AT_ONCE = ("processes", "submitit_local")  # launchers whose jobs are processes that begin together
KILLED = SIGNALLED + signal.SIGKILL
PATIENCE_SECONDS = 60.0  # for jobs to write a checkpoint and their status when the sweep is interrupted


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Job(Record):
    """A job of a sweep: its exit code, and the folder of its run, seen from the sweep's, if it got as far as one.

    `state` is one of a run folder's or `refused`: a configuration that cannot be used leaves no run folder.
    """

    number: Annotated[int, Field(ge=0)]
    overrides: list[str]
    state: str = "queued"
    code: int | None = None
    reason: str | None = None
    folder: str | None = None
    pid: Annotated[int, Field(gt=0)] | None = None
    host: str | None = None

    def ended(self, ending: Ending) -> "Job":
        return self.model_copy(update={"state": ending.state, "code": ending.exit_code, "reason": ending.reason})


class Sweep(Record):
    """A command that runs several jobs in a folder. A sweeper may think of more jobs as it goes."""

    schema_version: Literal[1] = 1
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]  # also the name of the folder of notes
    command: str
    launcher: str
    started: str
    ended: str | None
    pid: Annotated[int, Field(gt=0)]
    host: str
    jobs: list[Job]


def begin_sweep(folder: Path, *, command: str, launcher: str, jobs: Sequence[Sequence[str]]) -> None:
    """Writes down what is going to run; this process and its children take notes from now on.

    Raises: RunFolderError if it cannot be written.
    """
    _clear_up(folder)
    sweep = Sweep(
        id=uuid.uuid4().hex[:12],
        command=command,
        launcher=launcher,
        started=_now(),
        ended=None,
        pid=os.getpid(),
        host=os.uname().nodename,
        jobs=[Job(number=number, overrides=list(overrides)) for number, overrides in enumerate(jobs)],
    )
    notes = folder.resolve() / NOTES / sweep.id
    write_text(notes / FILE, sweep.model_dump_json(indent=2) + "\n")
    os.environ[VARIABLE] = str(notes)


def checked_folder(runs: Any, sweep: Any) -> Path:
    """The folder of a sweep. Raises: InvalidInputError, naming the key, if it cannot be one."""
    from trainers.config import Line, SweepName  # imports half of the project

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
    for job in _running_elsewhere(notes):
        assert job.pid is not None
        with suppress(OSError):  # it has ended meanwhile
            os.kill(job.pid, signal.SIGTERM)
    patience = time.monotonic() + PATIENCE_SECONDS
    while _running_elsewhere(notes) and time.monotonic() < patience:
        time.sleep(0.05)


def await_jobs() -> None:
    """Returns when no child of this process is left: jobs whose launcher has stopped waiting for them."""
    sweep = _with_notes(Path(os.environ[VARIABLE]))
    while sweep is not None and sweep.launcher in ALL_AT_ONCE:
        try:
            os.wait()
        except ChildProcessError:
            break


def ended_sweep() -> Sweep | None:
    """The sweep that this process belongs to, now that it has ended, with what became of each job; none if none began.

    Raises: InvalidInputError if a file of it cannot be read.
    """
    return _at_its_end(Path(os.environ[VARIABLE]))


def end_sweep() -> Sweep | None:
    """The same, written down for the folder in place of the sweep that ended before it; its notes are removed.

    Raises: InvalidInputError as above; RunFolderError if it cannot be written. The notes then stay.
    """
    return _settle(Path(os.environ.pop(VARIABLE)))


def sweep_folders(folder: Path) -> list[Path]:
    """Where sweeps have been: the folder itself, or those in it."""
    return sorted({path.parent for depth in ("", "*/") for name in (FILE, NOTES) for path in folder.glob(depth + name)})


def read_sweeps(folder: Path) -> list[Sweep]:
    """The sweeps that run in a folder or were killed there, else the last that ended; with what their jobs have noted.

    Of a command that was repeated the last time counts. A job whose process is gone without a word is `interrupted`.
    Raises: InvalidInputError, naming the field, if a file is not whole.
    """
    begun = [_with_notes(path.parent) for path in folder.glob(f"{NOTES}/*/{FILE}")]  # first: they end as this is read
    ended = _read(folder / FILE, Sweep)
    known = sorted((sweep for sweep in (ended, *begun) if sweep is not None), key=lambda sweep: sweep.started)
    last = {sweep.command: sweep for sweep in known}
    return [sweep for sweep in last.values() if sweep.ended is None] or ([] if ended is None else [ended])


def is_running(sweep: Sweep) -> bool:
    """Whether the process of a sweep is still at it, as far as this machine can tell."""
    return sweep.ended is None and not _is_gone(sweep.host, sweep.pid)


def summary(jobs: Sequence[Job]) -> list[str]:
    """How many jobs ended in each state, and why those that did not end well did not."""
    counts = Counter(job.state for job in jobs)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [f"{len(jobs)} job{'s' * (len(jobs) != 1)}: {states}"]
    for job, name in zip(jobs, own_overrides(jobs), strict=True):
        if job.reason is not None or job.state == "queued":
            lines.append(f"  {job.state:11} {name}: {' '.join((job.reason or 'never began').split())}")
    return lines


def own_overrides(jobs: Sequence[Job]) -> list[str]:
    """What tells each job from the others: its overrides that not all have."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return [" ".join(o for o in job.overrides if o not in shared) or f"job {job.number}" for job in jobs]


def _lost(job: Job) -> Job:
    return job.ended(Ending("interrupted", f"process {job.pid} is gone: killed, or out of memory", KILLED))


def _with_notes(notes: Path) -> Sweep | None:
    """The sweep of these notes, with what its jobs have noted so far; none if it has just ended."""
    sweep = _read(notes / FILE, Sweep)
    if sweep is None:
        return None
    jobs = {job.number: job for job in sweep.jobs}
    for path in notes.glob(NOTE):
        job = _read(path, Job)
        if job is not None:
            lost = job.state == "running" and job.pid and _is_gone(job.host, job.pid)
            jobs[job.number] = _lost(job) if lost else job
    return sweep.model_copy(update={"jobs": [jobs[number] for number in sorted(jobs)]})


def _at_its_end(notes: Path) -> Sweep | None:
    """The sweep of these notes, now that it has ended; none if no job began."""
    sweep = _with_notes(notes)
    if sweep is None or all(job.state == "queued" for job in sweep.jobs):
        return None
    here = (os.uname().nodename, os.getpid())
    silent = Ending("interrupted", "its end could not be written down; its run folder tells more", 1)
    jobs = [job.ended(silent) if job.state == "running" and (job.host, job.pid) == here else job for job in sweep.jobs]
    return sweep.model_copy(update={"ended": _now(), "jobs": jobs})


def _settle(notes: Path) -> Sweep | None:
    """Writes down a sweep that has ended, if a job of it began, and removes its notes."""
    ended = _at_its_end(notes)
    if ended is not None:
        write_text(notes.parents[1] / FILE, ended.model_dump_json(indent=2) + "\n")
    shutil.rmtree(notes, ignore_errors=True)
    with suppress(OSError):  # others are at it
        notes.parent.rmdir()
    return ended


def _running_elsewhere(notes: Path) -> list[Job]:
    """The jobs that run in other processes of this machine."""
    jobs = [job for job in (_read(path, Job) for path in notes.glob(NOTE)) if job is not None]
    here = os.uname().nodename
    running = [job for job in jobs if job.state == "running" and job.host == here and job.pid != os.getpid()]
    return [job for job in running if job.pid is not None and not _is_gone(here, job.pid)]


def _clear_up(folder: Path) -> None:
    """Writes down the sweeps that were killed in `folder`. Raises: RunFolderError if they cannot be."""
    for path in folder.resolve().glob(f"{NOTES}/*/{FILE}"):
        with suppress(InvalidInputError):  # of which `read_sweeps` tells
            sweep = _read(path, Sweep)
            if sweep is not None and _is_gone(sweep.host, sweep.pid):
                _settle(path.parent)


def _is_gone(host: str | None, pid: int) -> bool:
    """Whether a process of this machine has ended; of another machine that is not known."""
    return host == os.uname().nodename and not process_is_alive(pid)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


Kind = TypeVar("Kind", bound=Record)


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        problems = [
            f"field {'.'.join(map(str, details['loc'])) or 'at the top'!r}: {details['msg']}"
            for details in error.errors(include_url=False)
        ]
    raise InvalidInputError(f"{path} is not whole: {'; '.join(problems)}")
