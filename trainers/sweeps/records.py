"""`sweep.json`: the jobs of a sweep, written as it begins. What became of each is what its run folder says."""

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from search_spaces.errors import InvalidInputError
from trainers.runs.files import read_as
from trainers.runs.state import RunState, state_of

FILE = "sweep.json"
WIDEST = 40  # characters of the overrides in tables and before lines


class _Version(BaseModel):
    schema_version: Any = None


class Job(BaseModel):
    """A job of a sweep: its overrides and the name of its run folder, or why its configuration is `refused`.

    `label` names it where its command does, as an arm of a comparison.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    overrides: list[str]
    folder: str | None = None
    refused: str | None = None
    label: str | None = None


class Sweep(BaseModel):
    """A command that runs several jobs in a folder; `jobs` are all of them, or none of a study, which finds its own."""

    model_config = ConfigDict(frozen=True, strict=True)

    schema_version: Literal[3] = 3
    command: str
    launcher: str
    started: AwareDatetime
    pid: Annotated[int, Field(gt=0)]
    pid_start: str | None
    host: str
    jobs: list[Job]


def read_sweep(folder: Path) -> Sweep | None:
    """The last sweep of a folder; none if there was none. Raises: InvalidInputError, naming the field, if torn."""
    path = folder / FILE
    if not path.exists():
        return None
    if read_as(path, _Version).schema_version == 2:  # an earlier one
        return None
    return read_as(path, Sweep)


def begun(sweep: Sweep, folder: Path, *, now: datetime | None = None) -> dict[str, RunState]:
    """The state of each run of a sweep that has begun since the sweep did, by the name of its folder."""
    names = [job.folder for job in sweep.jobs] or sorted(path.parent.name for path in folder.glob("*/status.json"))
    states = {name: known_state(folder / name, now=now) for name in names if name is not None}
    return {name: state for name, state in states.items() if state is not None and state.started >= sweep.started}


def known_state(run: Path, *, now: datetime | None = None) -> RunState | None:
    """The state of a run; none if it has none, or it is torn."""
    try:
        return state_of(run, now=now)
    except InvalidInputError:
        return None


def jobs_of(sweep: Sweep, folder: Path, *, now: datetime | None = None) -> list[Job]:
    """The jobs of a sweep; those of a study are the runs that have begun since it did."""
    runs = {} if sweep.jobs else begun(sweep, folder, now=now)
    return sweep.jobs or [Job(overrides=overrides_in(run.command), folder=name) for name, run in runs.items()]


def overrides_in(command: str) -> list[str]:
    return [argument for argument in shlex.split(command)[1:] if "=" in argument]


def own_overrides(jobs: Sequence[Sequence[str]]) -> list[str | None]:
    """What tells each job from the others: its overrides that not all have; none if there are none."""
    shared = set.intersection(*map(set, jobs)) if jobs else set()
    return [" ".join(override for override in overrides if override not in shared) or None for overrides in jobs]


def cut(text: str) -> str:
    """Overrides in WIDEST characters: keys by their last names, for what they are set to tells the jobs apart."""
    if len(text) > WIDEST:
        text = re.sub(r"[\w@/+~]+\.(?:[\w@/]+\.)*(?=\w+=)", "\N{HORIZONTAL ELLIPSIS}", text)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}\N{HORIZONTAL ELLIPSIS}"
