"""What became of a run, read from its folder: nothing here needs more than the standard library."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError

STATES = ("queued", "running", "done", "unmet", "stopped", "failed", "interrupted", "infeasible")
FINISHED = ("done", "unmet")  # states of a run that has a result
SILENCE_SECONDS = 120.0  # without a heartbeat before a run counts as interrupted
ORIGIN = ("hashes", "code", "versions")  # fields of what an attempt started from, which older ones did not record
FIELDS = {"status": str, "pid": int, "host": str, "started": str, "heartbeat": str, "attempt": int, "command": str}


@dataclass(frozen=True)
class RunState:
    """One run as its folder tells it. `epoch` of `epochs` are done, none before the first; times are in UTC.

    `origin` has the hashes of what the last attempt started from, its code and its versions, where it recorded them.
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


def state_of(folder: Path, *, now: datetime | None = None) -> RunState:
    """The state of the run in `folder`; one that says it runs but does not is `interrupted`, with the reason.

    Raises: InvalidInputError, naming the field, if its status.json is missing or not whole.
    """
    path = folder / "status.json"
    found = _checked(path, json_of(path))
    if found.state != "running":
        return found
    silent = ((now or datetime.now(UTC)) - found.heartbeat).total_seconds()
    lost = None
    if found.host == os.uname().nodename and not process_is_alive(found.pid):
        lost = f"process {found.pid} is gone: killed, or out of memory"
    elif silent > SILENCE_SECONDS:
        lost = f"no sign of process {found.pid} on {found.host} for {silent:.0f} s"
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
    """The files that the result of a finished run lists and its folder lacks; older results list none.

    Raises: InvalidInputError if its status.json or result.json is missing or torn.
    """
    if state_of(folder).state not in FINISHED:
        return []
    content = json_of(folder / "result.json")
    listed = content.get("files") if isinstance(content, dict) else None
    return [name for name in listed if not (folder / name).is_file()] if isinstance(listed, dict) else []


def json_of(path: Path) -> Any:
    """What a file of a run holds. Raises: InvalidInputError if it is missing, torn, or of a text that is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_texts(content)
        return content
    except (OSError, ValueError, RecursionError) as error:  # a torn file is neither UTF-8 nor JSON
        raise InvalidInputError(f"cannot read {path}: {error}; repeat the command of its run") from error


def check_texts(content: Any) -> None:
    """Raises: ValueError for half a character, which JSON can hold and no other file or terminal can."""
    json.dumps(content, ensure_ascii=False).encode("utf-8")


def _checked(path: Path, content: Any) -> RunState:
    for field, kind in FIELDS.items():
        value = content.get(field) if isinstance(content, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InvalidInputError(f"{path}: field {field!r} must be a {kind.__name__}, got {value!r}")
    if content["status"] not in STATES:
        raise InvalidInputError(f"{path}: field 'status' must be one of {', '.join(STATES)}; got {content['status']!r}")
    progress = content.get("progress")
    counts = [progress.get(key) for key in ("epoch", "epochs")] if isinstance(progress, dict) else [None, None]
    if progress is not None and not all(type(count) is int for count in counts):
        raise InvalidInputError(f"{path}: field 'progress' must hold epoch and epochs, got {progress!r}")
    error = content.get("error")
    if not (error is None or isinstance(error, str)):
        raise InvalidInputError(f"{path}: field 'error' must be a str or null, got {error!r}")
    for field in ORIGIN:
        if not isinstance(content.get(field, {}), dict):
            raise InvalidInputError(f"{path}: field {field!r} must be a mapping, got {content[field]!r}")
    return RunState(
        state=content["status"],
        reason=error,
        attempt=content["attempt"],
        command=content["command"],
        pid=content["pid"],
        host=content["host"],
        started=_time(path, content, "started"),
        heartbeat=_time(path, content, "heartbeat"),
        epoch=counts[0],
        epochs=counts[1],
        origin={field: content[field] for field in ORIGIN if field in content},
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


def process_is_alive(pid: int) -> bool:
    """Whether this host has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, ValueError):
        return True
    return True
