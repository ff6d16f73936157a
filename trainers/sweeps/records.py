"""`sweep.json`: the jobs of a sweep, written as it begins. What became of each is what its run folder says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from trainers.runs.files import read_as, read_json

FILE = "sweep.json"


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Job(Record):
    """A job of a sweep: its overrides and the name of its run folder, or why its configuration is `refused`."""

    overrides: list[str]
    folder: str | None = None
    refused: str | None = None


class Sweep(Record):
    """A command that runs several jobs in a folder.

    All jobs are known as it begins, unless it is `open_ended`: a study adds each as it starts. `ended` is none while it
    runs, or if it was killed; `interrupted` says which signal ended it.
    """

    schema_version: Literal[3] = 3
    command: str
    launcher: str
    open_ended: bool
    started: AwareDatetime
    ended: AwareDatetime | None = None
    interrupted: str | None = None
    pid: Annotated[int, Field(gt=0)]
    pid_start: str | None
    host: str
    jobs: list[Job]


def read_sweep(folder: Path) -> Sweep | None:
    """The last sweep of a folder; none if there was none. Raises: InvalidInputError, naming the field, if torn."""
    path = folder / FILE
    if not path.exists():
        return None
    content = read_json(path)
    if isinstance(content, dict) and content.get("schema_version") == 2:  # of an earlier version
        return None
    return read_as(path, Sweep)


def sweep_folders(folder: Path) -> list[Path]:
    """Where sweeps have been: the folder itself, or those in it."""
    return sorted(path.parent for depth in ("", "*/") for path in folder.glob(depth + FILE))


def own_overrides(jobs: Sequence[Job]) -> list[str | None]:
    """What tells each job from the others: its overrides that not all have; none for a job alone."""
    if len(jobs) == 1:
        return [None]
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if jobs else set()
    # What tells a trial apart is what it was given, and not where its study is.
    own = [[o for o in job.overrides if o not in shared and not o.startswith("trial=")] for job in jobs]
    return [" ".join(overrides) or f"job {number}" for number, overrides in enumerate(own)]
