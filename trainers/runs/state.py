"""What became of a run, as its folder says: light to import, for `espalier-status` reads many."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from trainers.runs.files import read_as

State = Literal["queued", "running", "done", "unmet", "stopped", "failed", "interrupted", "infeasible", "refused"]
CHECKPOINTS = "checkpoints"  # the folder in that of a run which holds what it goes on from
FINISHED = ("done", "unmet")  # states of a run that has a result
SILENCE_SECONDS = 120.0  # without a heartbeat before a process counts as gone
START_TOLERANCE_SECONDS = 2.0  # between two readings of when a process started: the clock may be set meanwhile
ORIGIN = ("hashes", "code", "versions")  # fields of what an attempt started from


class Progress(BaseModel):
    """`epoch` of `epochs` are done."""

    epoch: int
    epochs: int


class DataState(BaseModel):
    """The data of a run: the sha256 of their content, and of the state of their files if that tells it."""

    content: str
    files: str | None


class RunState(BaseModel):
    """The content of status.json. Times are in UTC.

    `hashes` of what the last attempt started from, its `code` and its `versions` are empty if it ended before it knew
    them. `pid_start` is when the process started, in seconds since 1970, none where that is not known.
    """

    model_config = ConfigDict(frozen=True, strict=True, populate_by_name=True)

    state: State = Field(alias="status")
    pid: Annotated[int, Field(gt=0)]
    pid_start: str | None
    host: str
    started: AwareDatetime
    heartbeat: AwareDatetime
    attempt: int
    command: str
    progress: Progress | None
    reason: str | None = Field(alias="error")
    hashes: dict[str, Any]
    code: dict[str, Any]
    versions: dict[str, Any]
    data: DataState | None = None  # of searches; absent in files of earlier versions

    @property
    def epoch(self) -> int | None:
        return None if self.progress is None else self.progress.epoch

    @property
    def epochs(self) -> int | None:
        return None if self.progress is None else self.progress.epochs

    @property
    def origin(self) -> dict[str, dict[str, Any]]:
        return {field: getattr(self, field) for field in ORIGIN}


def state_of(folder: Path, *, now: datetime | None = None) -> RunState:
    """The state of the run in `folder`; one that says it runs but does not is `interrupted`, with the reason.

    Raises: InvalidInputError, naming the field, if its status.json is missing or not whole.
    """
    found = read_as(folder / "status.json", RunState)
    if found.state != "running":
        return found
    silent_s = ((now or datetime.now(UTC)) - found.heartbeat).total_seconds()
    lost = why_lost(found.pid, found.pid_start, host=found.host, silent_s=silent_s)
    return found if lost is None else found.model_copy(update={"state": "interrupted", "reason": lost})


def architecture_file(folder: Path, device: str) -> Path:
    return folder / "architectures" / f"{device}.json"


def best_file(folder: Path, device: str, rank: int) -> Path:
    """The architecture of one of the best networks of a device, counted from 1."""
    return folder / "architectures" / device / f"{rank}.json"


def best_weights_file(folder: Path, device: str, rank: int) -> Path:
    return folder / "weights" / device / f"{rank}.safetensors"


def weights_file(folder: Path, device: str) -> Path:
    return folder / "weights" / f"{device}.safetensors"


def onnx_path(folder: Path, device: str) -> Path:
    return folder / "onnx" / f"{device}.onnx"


def this_process() -> dict[str, Any]:
    """Number, start and host of this process, for others to ask whether it still runs."""
    process = psutil.Process()
    return {"pid": process.pid, "pid_start": f"{process.create_time():.2f}", "host": os.uname().nodename}


def why_lost(pid: int, pid_start: str | None, *, host: str, silent_s: float) -> str | None:
    """Why a process that did not report its end counts as gone; none if it may be running.

    On this host the system is asked; a process on another host counts as gone after `SILENCE_SECONDS` without a sign.
    """
    if host == os.uname().nodename:
        if not _is_alive(pid, pid_start):
            return f"process {pid} is gone: killed, or out of memory"
        if pid_start is not None:
            return None
    return f"no sign of process {pid} on {host} for {silent_s:.0f} s" if silent_s > SILENCE_SECONDS else None


def _is_alive(pid: int, pid_start: str | None) -> bool:
    """Whether this host runs the process of that number and start; one that waits to be collected does not run."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return pid_start is None or abs(process.create_time() - float(pid_start)) < START_TOLERANCE_SECONDS
    except (psutil.Error, OverflowError, ValueError):  # no such number, or a start from elsewhere
        return False
