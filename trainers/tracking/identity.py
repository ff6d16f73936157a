"""Under which id a service knows a run. It lies in the run folder, so a resumed run continues where it is known."""

import json
import re
from pathlib import Path

from search_spaces.errors import InvalidInputError
from trainers.run_folder import write_json

FILE = "tracking.json"
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def known_id(folder: Path, service: str) -> str | None:
    """The id of the run in `folder` at `service`, if it was told there. Raises: InvalidInputError if malformed."""
    found = _read(folder / FILE).get(service)
    if found is not None and not (isinstance(found, str) and ID.fullmatch(found)):
        raise InvalidInputError(f"{folder / FILE}: field {service!r} is no id; delete the file to follow the run anew")
    return found


def keep_id(folder: Path, service: str, identity: str) -> None:
    write_json(folder / FILE, {**_read(folder / FILE), service: identity})


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
