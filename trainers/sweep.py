"""What a sweep tells of its jobs while it runs and after: `sweep.json`, and until it ends a note of each job.

Jobs run in processes of their own, so all they share with the sweep is its folder and the environment.
"""

import os
import shutil
import signal
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from search_spaces.errors import InvalidInputError
from trainers.endings import SIGNALLED, Ending
from trainers.errors import refusal
from trainers.run_folder import write_text
from trainers.run_state import process_is_alive

FILE, NOTES = "sweep.json", ".jobs"
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
    """The last command that ran several jobs in a folder. A sweeper may think of more jobs as it goes."""

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
    """Writes down what is going to run; this process and its children take notes from now on."""
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
    write_text(folder / FILE, sweep.model_dump_json(indent=2) + "\n")
    notes = folder.resolve() / NOTES / sweep.id
    notes.mkdir(parents=True)
    os.environ[VARIABLE] = str(notes)


def checked_folder(runs: str, sweep: str) -> Path:
    """The folder of a sweep. Raises: InvalidInputError, naming the key, if it cannot be one."""
    from trainers.config import FolderName, Line  # imports half of the project

    problems = []
    for key, kind, value in (("paths.runs", Line, runs), ("sweep", FolderName, sweep)):
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            problems += [f"{key}: got {value!r}; {details['msg']}" for details in error.errors(include_url=False)]
    if problems:
        raise refusal(problems)
    return Path(runs).expanduser() / sweep


def in_sweep() -> bool:
    """Whether this process runs a sweep or a job of one."""
    return VARIABLE in os.environ


def note_job(job: Job) -> None:
    """Tells the sweep that this process belongs to what has become of a job."""
    write_text(Path(os.environ[VARIABLE]) / f"{job.number}.json", job.model_dump_json(indent=2) + "\n")


def sweep_folder() -> Path:
    return Path(os.environ[VARIABLE]).parents[1]


def has_begun() -> bool:
    """Whether a job of the sweep that this process belongs to has begun."""
    return any(Path(os.environ[VARIABLE]).glob("*.json"))


def is_stopping() -> bool:
    """Whether the sweep that this process belongs to is being interrupted."""
    return (Path(os.environ[VARIABLE]) / STOPPING).exists()


def stop_jobs() -> None:
    """Ends, as SIGTERM does, the sweep's jobs in other processes of this machine, and waits until they have ended."""
    notes = Path(os.environ[VARIABLE])
    (notes / STOPPING).touch()
    for job in _running_elsewhere(notes):
        assert job.pid is not None
        os.kill(job.pid, signal.SIGTERM)
    patience = time.monotonic() + PATIENCE_SECONDS
    while _running_elsewhere(notes) and time.monotonic() < patience:
        time.sleep(0.05)


def await_jobs() -> None:
    """Returns when no child of this process is left: jobs whose launcher has stopped waiting for them."""
    sweep = read_sweep(sweep_folder())
    while sweep is not None and sweep.launcher in ALL_AT_ONCE:
        try:
            os.wait()
        except ChildProcessError:
            break


def end_sweep() -> Sweep | None:
    """The sweep with what became of each job, written down; none if no job began."""
    notes = Path(os.environ.pop(VARIABLE))
    folder = notes.parents[1]
    sweep = read_sweep(folder)
    assert sweep is not None
    began = any(notes.glob("*.json"))
    if began and sweep.id == notes.name:  # and no other sweep has begun in this folder since
        sweep = sweep.model_copy(update={"ended": _now()})
        write_text(folder / FILE, sweep.model_dump_json(indent=2) + "\n")
    elif not began:
        (folder / FILE).unlink()
    shutil.rmtree(notes)
    if not any(notes.parent.iterdir()):
        notes.parent.rmdir()
    return sweep if began else None


def read_sweep(folder: Path) -> Sweep | None:
    """The last sweep of a folder with what its jobs have noted so far; none if there was none.

    A job whose process is gone without a word is `interrupted`. Raises: InvalidInputError, naming the field, if a
    file is not whole.
    """
    if not (folder / FILE).is_file():
        return None
    sweep = _read(folder / FILE, Sweep)
    jobs = {job.number: job for job in sweep.jobs}
    for path in (folder / NOTES / sweep.id).glob("*.json"):
        job = _read(path, Job)
        jobs[job.number] = _lost(job) if job.state == "running" and job.pid and _is_gone(job.host, job.pid) else job
    return sweep.model_copy(update={"jobs": [jobs[number] for number in sorted(jobs)]})


def is_running(sweep: Sweep) -> bool:
    """Whether the process of a sweep is still at it, as far as this machine can tell."""
    return sweep.ended is None and not _is_gone(sweep.host, sweep.pid)


def summary(jobs: Sequence[Job]) -> list[str]:
    """How many jobs ended in each state, and why those that did not end well did not."""
    counts = Counter(job.state for job in jobs)
    lines = [f"{len(jobs)} jobs: " + ", ".join(f"{count} {state}" for state, count in counts.items())]
    for job, name in zip(jobs, own_overrides(jobs), strict=True):
        if job.reason is not None or job.state == "queued":
            lines.append(f"  {job.state:11} {name}: {' '.join((job.reason or 'never began').split())}")
    return lines


def own_overrides(jobs: Sequence[Job]) -> list[str]:
    """What tells each job from the others: its overrides that not all have."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return [" ".join(o for o in job.overrides if o not in shared) or f"job {job.number}" for job in jobs]


def _lost(job: Job) -> Job:
    reason = f"process {job.pid} is gone: killed, or out of memory"
    return job.model_copy(update={"state": "interrupted", "code": KILLED, "reason": reason})


def _running_elsewhere(notes: Path) -> list[Job]:
    """The jobs that run in other processes of this machine."""
    jobs = [_read(path, Job) for path in notes.glob("*.json")]
    here = os.uname().nodename
    running = [job for job in jobs if job.state == "running" and job.host == here and job.pid != os.getpid()]
    return [job for job in running if job.pid is not None and not _is_gone(here, job.pid)]


def _clear_up(folder: Path) -> None:
    """Removes the notes of a sweep that was killed in `folder`."""
    try:
        sweep = read_sweep(folder)
    except InvalidInputError:  # it is about to be replaced
        return
    if sweep is not None and _is_gone(sweep.host, sweep.pid):
        shutil.rmtree(folder / NOTES / sweep.id, ignore_errors=True)


def _is_gone(host: str | None, pid: int) -> bool:
    """Whether a process of this machine has ended; of another machine that is not known."""
    return host == os.uname().nodename and not process_is_alive(pid)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


Kind = TypeVar("Kind", bound=Record)


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        problems = [
            f"field {'.'.join(map(str, details['loc'])) or 'at the top'!r}: {details['msg']}"
            for details in error.errors(include_url=False)
        ]
    raise InvalidInputError(f"{path} is not whole: {'; '.join(problems)}")
