"""What is written down of the sweeps of a folder: while one runs its record and a note of each job, then `sweep.json`.

`sweep.json` holds the sweep that ended last, and those before it that have left something to do.
"""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of
from trainers.runs.exit_status import KILLED, ExitStatus
from trainers.runs.state import FINISHED, this_process, why_lost

FILE, NOTES = "sweep.json", ".jobs"
NOTE = "[0-9]*.json"  # of a job, beside the record of its sweep
NAMED = 8  # jobs that ended alike and are named at the end of a sweep; `espalier-status` tells of each
UNFINISHED = ("queued", "interrupted", "failed")  # states of a job that the same command runs again


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Job(Record):
    """A job of a sweep: its exit code, and the folder of its run, seen from the sweep's, if it got as far as one.

    `state` is one of a run folder's, `refused`, which leaves no run folder, or `busy`, where another is at its run.
    """

    number: Annotated[int, Field(ge=0)]
    overrides: list[str]
    state: str = "queued"
    code: int | None = None
    reason: str | None = None
    folder: str | None = None
    pid: Annotated[int, Field(gt=0)] | None = None
    pid_start: str | None = None
    host: str | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether it runs, or waits for another that is at the same run."""
        return self.code is None and self.state in ("running", "busy")

    def ended(self, ending: ExitStatus) -> "Job":
        return self.model_copy(update={"state": ending.state, "code": ending.exit_code, "reason": ending.reason})


class Sweep(Record):
    """A command that runs several jobs in a folder; all of them are known as it begins, unless it is `open_ended`.

    `reason` is why the command did not come to its end; none if it did, or is at it.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]  # also the name of the folder of notes
    command: str
    launcher: str
    open_ended: bool = False
    started: str
    ended: str | None
    reason: str | None = None
    pid: Annotated[int, Field(gt=0)]
    pid_start: str | None = None
    host: str
    jobs: list[Job]

    @property
    def was_cut_short(self) -> bool:
        """Whether there are jobs that it has not thought of, as in a study that was killed between two trials."""
        return self.open_ended and self.reason is not None


class Ended(Record):
    """The content of `sweep.json`."""

    schema_version: Literal[2] = 2
    sweeps: list[Sweep]


def sweep_folders(folder: Path) -> list[Path]:
    """Where sweeps have been: the folder itself, or those in it."""
    return sorted({path.parent for depth in ("", "*/") for name in (FILE, NOTES) for path in folder.glob(depth + name)})


def read_sweeps(folder: Path, *, now: datetime | None = None) -> list[Sweep]:
    """The sweeps that run in a folder or were killed there, and those that `sweep.json` holds; with their jobs' notes.

    Of a command that was repeated the last time counts. A job whose process is gone without a word is `interrupted`.
    Raises: InvalidInputError, naming the field, if a file is not whole.
    """
    begun = [with_notes(path.parent, now=now) for path in folder.glob(f"{NOTES}/*/{FILE}")]
    known = [*ended_sweeps(folder), *(sweep for sweep in begun if sweep is not None)]  # read last: those end meanwhile
    known.sort(key=lambda sweep: (is_running(sweep), sweep.started))
    found: dict[str, Sweep] = {}
    for sweep in known:
        found[sweep.command] = together(found.get(sweep.command), sweep)
    return list(found.values())


def ended_sweeps(folder: Path) -> list[Sweep]:
    """Those that `sweep.json` holds. Raises: InvalidInputError, naming the field, if it is not whole."""
    content = _read(folder / FILE, Ended)
    return [] if content is None else content.sweeps


def is_running(sweep: Sweep) -> bool:
    """Whether the process of a sweep is still at it, as far as this machine could tell when it was read."""
    return sweep.ended is None and sweep.reason is None


def with_notes(notes: Path, *, now: datetime | None = None) -> Sweep | None:
    """The sweep of these notes, with what its jobs have noted so far; none if it has just ended.

    Raises: InvalidInputError, naming the field, if a file is not whole.
    """
    try:
        seen = (notes / FILE).stat().st_mtime  # its process touches it
    except OSError:
        return None
    silent_s = (time.time() if now is None else now.timestamp()) - seen
    sweep = _read(notes / FILE, Sweep)
    if sweep is None:
        return None
    jobs = {job.number: job for job in sweep.jobs}
    jobs |= {job.number: _or_lost(job, silent_s) for path in notes.glob(NOTE) if (job := _read(path, Job)) is not None}
    lost = why_lost(sweep.pid, sweep.pid_start, host=sweep.host, silent_s=silent_s)
    reason = sweep.reason if sweep.ended is not None else lost
    return sweep.model_copy(update={"jobs": [jobs[number] for number in sorted(jobs)], "reason": reason})


def at_its_end(sweep: Sweep, ending: ExitStatus, *, moment: str) -> Sweep | None:
    """What is to be written down of a sweep whose command has come to this end; none if none of its jobs began."""
    if all(job.state == "queued" for job in sweep.jobs):
        return None
    reason = ending.reason if ending.state in UNFINISHED else None
    jobs = [_or_left(job) for job in sweep.jobs]
    return sweep.model_copy(update={"ended": moment, "reason": sweep.reason or reason, "jobs": jobs})


def has_left_something(sweep: Sweep) -> bool:
    """Whether the command of a sweep that has ended would do more if it were repeated."""
    return sweep.was_cut_short or any(job.state in UNFINISHED for job in sweep.jobs)


def brought_up(sweep: Sweep, later: Sequence[Job]) -> Sweep:
    """The sweep, its unfinished jobs as others of the same overrides, of a later sweep, have ended."""
    same = {tuple(job.overrides): job for job in later if job.state != "queued"}
    jobs = [
        same.get(tuple(job.overrides), job).model_copy(update={"number": job.number})
        if job.state in UNFINISHED
        else job
        for job in sweep.jobs
    ]
    return sweep.model_copy(update={"jobs": jobs})


def together(earlier: Sweep | None, later: Sweep) -> Sweep:
    """Two times that a command ran, as one: the later, in which a study also has the trials of the earlier.

    Several processes share a study; a trial that one of them has finished is as that left it.
    """
    if earlier is None or not later.open_ended:
        return later
    trials: dict[tuple[str, ...], Job] = {}
    for job in (*earlier.jobs, *later.jobs):
        known = trials.get(tuple(job.overrides))
        if known is None or known.state not in FINISHED:
            trials[tuple(job.overrides)] = job
    jobs = [job.model_copy(update={"number": number}) for number, job in enumerate(trials.values())]
    return later.model_copy(update={"jobs": jobs})


def summary(jobs: Sequence[Job]) -> list[str]:
    """How many jobs ended in each state, and why those that did not end well did not, each reason once."""
    counts = Counter(job.state for job in jobs)
    alike: dict[tuple[str, str], list[str]] = {}
    for job, name in zip(jobs, own_overrides(jobs), strict=True):
        if job.reason is not None or job.state == "queued":
            alike.setdefault((job.state, " ".join((job.reason or "never began").split())), []).append(name)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [f"{len(jobs)} job{'s' * (len(jobs) != 1)}: {states}"]
    for (state, reason), names in alike.items():
        lines.append(f"  {state:11} {names[0] if len(names) == 1 else f'{len(names)} jobs'}: {reason}")
        if len(names) > 1:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"{'':14}{', '.join(names[:NAMED])}{more}")
    return lines


def own_overrides(jobs: Sequence[Job]) -> list[str]:
    """What tells each job from the others: its overrides that not all have."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    # A trial is told by what it was given, and not by where its study is.
    own = [[o for o in job.overrides if o not in shared and not o.startswith("trial=")] for job in jobs]
    return [" ".join(overrides) or f"job {job.number}" for job, overrides in zip(jobs, own, strict=True)]


def _or_lost(job: Job, silent_s: float) -> Job:
    """The job, interrupted if it is at work no more: `silent_s` is how long its sweep has given no sign."""
    if not job.is_at_work or job.pid is None or job.host is None:
        return job
    reason = why_lost(job.pid, job.pid_start, host=job.host, silent_s=silent_s)
    return job if reason is None else job.ended(ExitStatus("interrupted", reason, KILLED))


def _or_left(job: Job) -> Job:
    """The job of a sweep that has ended, interrupted if it has not."""
    if not job.is_at_work:
        return job
    own = {"pid": job.pid, "pid_start": job.pid_start, "host": job.host} == this_process()
    why = "its end could not be written down" if own else "its sweep ended before it"
    return job.ended(ExitStatus("interrupted", f"{why}; its run folder tells more", 1))


Kind = TypeVar("Kind", bound=Record)


def _read(path: Path, kind: type[Kind]) -> Kind | None:
    try:
        return kind.model_validate_json(text_of(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        problems = [
            f"field {'.'.join(map(str, details['loc'])) or 'at the top'!r}: {details['msg']}"
            for details in error.errors(include_url=False)
        ]
    except ValueError as error:  # of a pipe, or of what is no text
        raise InvalidInputError(f"{path} is not whole: {error}") from error
    raise InvalidInputError(f"{path} is not whole: {'; '.join(problems)}")
