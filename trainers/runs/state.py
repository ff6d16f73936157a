"""What became of a run, read from its folder: nothing here needs more than the standard library."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of

STATES = ("queued", "running", "done", "unmet", "stopped", "failed", "interrupted", "infeasible")
FINISHED = ("done", "unmet")  # states of a run that has a result
SILENCE_SECONDS = 120.0  # without a heartbeat before a process counts as gone
ORIGIN = ("hashes", "code", "versions")  # fields of what an attempt started from
DEAD = ("Z", "X")  # states of a process that has ended and waits for its parent; source: proc(5)
FIELDS = {
    **{"status": str, "pid": int, "host": str, "started": str, "heartbeat": str, "attempt": int, "command": str},
    **dict.fromkeys(ORIGIN, dict),
}
WRITTEN = (*FIELDS, "pid_start", "progress", "error")


@dataclass(frozen=True)
class RunState:
    """One run as its folder tells it. `epoch` of `epochs` are done, none before training; times are in UTC.

    `origin` has the hashes of what the last attempt started from, its code and its versions, each empty if
    it ended before it knew them.
    """

    state: str
    reason: str | None
    attempt: int
    command: str
    pid: int
    host: str
    started: datetime
    heartbeat: datetime
    epoch: int | None
    epochs: int | None
    origin: dict[str, dict[str, Any]]
    pid_start: str | None = None


def state_of(folder: Path, *, now: datetime | None = None) -> RunState:
    """The state of the run in `folder`; one that says it runs but does not is `interrupted`, with the reason.

    Raises: InvalidInputError, naming the field, if its status.json is missing or not whole.
    """
    path = folder / "status.json"
    found = _checked(path, json_of(path))
    if found.state != "running":
        return found
    silent_s = ((now or datetime.now(UTC)) - found.heartbeat).total_seconds()
    lost = why_lost(found.pid, found.pid_start, host=found.host, silent_s=silent_s)
    return found if lost is None else RunState(**{**vars(found), "state": "interrupted", "reason": lost})


def result_of(folder: Path) -> dict[str, Any]:
    """What a finished run found, each field as it stands. Raises: InvalidInputError if its result.json is torn."""
    path = folder / "result.json"
    content = json_of(path)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise InvalidInputError(f"{path} must hold a mapping, got {kind}; repeat the command of its run")
    return content


def missing_files(folder: Path) -> list[str]:
    """The files that the result of a finished run lists and its folder lacks.

    Raises: InvalidInputError if its status.json or result.json is missing or torn, or lists none.
    """
    if state_of(folder).state not in FINISHED:
        return []
    listed = result_of(folder).get("files")
    if not isinstance(listed, dict):
        raise InvalidInputError(f"{folder / 'result.json'}: field 'files' must be a mapping, got {listed!r}")
    return [name for name in listed if not (folder / name).is_file()]


def json_of(path: Path) -> Any:
    """What a file of a run holds. Raises: InvalidInputError if it is missing, torn, or of a text that is none."""
    try:
        content = json.loads(text_of(path))
        check_texts(content)
        return content
    except (OSError, ValueError, RecursionError) as error:  # a torn file is neither UTF-8 nor JSON
        raise InvalidInputError(f"cannot read {path}: {error}; repeat the command of its run") from error


def check_texts(content: Any) -> None:
    """Raises: ValueError for half a character, which JSON can hold and no other file or terminal can."""
    json.dumps(content, ensure_ascii=False).encode("utf-8")


def _checked(path: Path, content: Any) -> RunState:
    if not isinstance(content, dict):
        got = type(content).__name__
        raise InvalidInputError(f"{path} must hold a mapping, got {got}; repeat the command of its run")
    missing = [repr(field) for field in WRITTEN if field not in content]
    if missing:
        raise InvalidInputError(f"{path}: field {', '.join(missing)} is missing; repeat the command of its run")
    for field, kind in FIELDS.items():
        value = content[field]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InvalidInputError(f"{path}: field {field!r} must be a {kind.__name__}, got {value!r}")
    if content["status"] not in STATES:
        raise InvalidInputError(f"{path}: field 'status' must be one of {', '.join(STATES)}; got {content['status']!r}")
    progress = content["progress"]
    counts = [progress.get(key) for key in ("epoch", "epochs")] if isinstance(progress, dict) else [None, None]
    if progress is not None and not all(type(count) is int for count in counts):
        raise InvalidInputError(f"{path}: field 'progress' must hold epoch and epochs, got {progress!r}")
    for field in ("error", "pid_start"):
        value = content[field]
        if not (value is None or isinstance(value, str)):
            raise InvalidInputError(f"{path}: field {field!r} must be a str or null, got {value!r}")
    return RunState(
        state=content["status"],
        reason=content["error"],
        attempt=content["attempt"],
        command=content["command"],
        pid=content["pid"],
        host=content["host"],
        started=_time(path, content, "started"),
        heartbeat=_time(path, content, "heartbeat"),
        epoch=counts[0],
        epochs=counts[1],
        origin={field: content[field] for field in ORIGIN},
        pid_start=content["pid_start"],
    )


def _time(path: Path, content: dict[str, Any], field: str) -> datetime:
    try:
        moment = datetime.fromisoformat(content[field])
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidInputError(f"{path}: field {field!r} must be a time with its zone, got {content[field]!r}")
    return moment


def architecture_file(folder: Path, device: str) -> Path:
    return folder / "architectures" / f"{device}.json"


def weights_file(folder: Path, device: str) -> Path:
    return folder / "weights" / f"{device}.safetensors"


def this_process() -> dict[str, Any]:
    """Number, start and host of this process, as they are noted for others to ask whether it is still there."""
    known = _state_and_start(os.getpid())
    return {"pid": os.getpid(), "pid_start": None if known is None else known[1], "host": os.uname().nodename}


def why_lost(pid: int, pid_start: str | None, *, host: str, silent_s: float) -> str | None:
    """Why a process that has not told its end counts as gone; none if it may be at work.

    One of this host is asked for, and known by its start from another of its number; else silence decides.
    """
    if host == os.uname().nodename:
        if not _is_alive(pid, pid_start):
            return f"process {pid} is gone: killed, or out of memory"
        if pid_start is not None:
            return None
    return f"no sign of process {pid} on {host} for {silent_s:.0f} s" if silent_s > SILENCE_SECONDS else None


def _is_alive(pid: int, pid_start: str | None) -> bool:
    """Whether this host has a process of that number and start, and not only what its parent has yet to collect."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, ValueError):
        pass
    known = _state_and_start(pid)
    return known is None or (known[0] not in DEAD and pid_start in (None, known[1]))


def _state_and_start(pid: int) -> tuple[str, str] | None:
    """A process of this host as /proc has it, its start in ticks of this boot; none where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # The name of the command may hold blanks and brackets; the state is the first field after it.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[0], f"{boot}/{fields[19]}"
    except (OSError, IndexError):
        return None
