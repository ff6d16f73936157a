"""What a run folder keeps of its trackers: the id that a service knows the run by, and who has its whole result."""

import json
import os
import re
from pathlib import Path

from search_spaces.errors import InvalidInputError
from trainers.runs.files import write_json

FILE = "tracking.json"
PUBLISHED = "published"  # its field of those who have the whole result
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def known_id(folder: Path, service: str) -> str | None:
    """The id of the run in `folder` at `service`, if it was told there. Raises: InvalidInputError if malformed."""
    found = _read(folder / FILE).get(service)
    if found is not None and not (isinstance(found, str) and ID.fullmatch(found)):
        raise InvalidInputError(f"{folder / FILE}: field {service!r} is no id; delete the file to follow the run anew")
    return found


def keep_id(folder: Path, service: str, identity: str) -> None:
    write_json(folder / FILE, {**_read(folder / FILE), service: identity})


def trial_of_agent() -> str | None:
    """The id under which an agent of a W&B sweep waits for this run."""
    return os.environ.get("WANDB_RUN_ID") or None if os.environ.get("WANDB_SWEEP_ID") else None


def follower(logger: str) -> str:
    """Who is told of a run by this logger: each trial of a W&B sweep is one of its own."""
    trial = trial_of_agent() if logger == "wandb" else None
    return f"{logger}/{trial}" if trial else logger


def is_published(folder: Path, who: str) -> bool:
    """Whether a follower has been told of the whole result in `folder`. Raises: InvalidInputError if malformed."""
    return who in _published(folder)


def keep_published(folder: Path, who: str) -> None:
    write_json(folder / FILE, {**_read(folder / FILE), PUBLISHED: sorted({*_published(folder), who})})


def _published(folder: Path) -> list[str]:
    found = _read(folder / FILE).get(PUBLISHED, [])
    if not (isinstance(found, list) and all(isinstance(who, str) for who in found)):
        raise InvalidInputError(f"{folder / FILE}: field {PUBLISHED!r} is no list of names; delete the file")
    return found


def _read(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInputError(f"{path} is not JSON: {error}; delete the file to follow the run anew") from error
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path} is no mapping; delete the file to follow the run anew")
    return content
