"""Files of runs: written whole or not at all, and read as far as a file from elsewhere can be trusted."""

import csv
import io
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hardware_models.field_errors import problems_of
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of
from trainers.runs.exit_status import RunFolderError

PART = ".part"  # ends the names of files that are being written

Model = TypeVar("Model", bound=BaseModel)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file in one step: a temporary file in the same folder, flushed to disk, renamed.

    Raises: RunFolderError if it cannot be written; the file that was there is then untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not one of tempfile, which would be for its owner alone: others read the files of a shared folder.
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{PART}")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunFolderError(
            f"cannot write {path}: {error.strerror or error}; free space or allow writing there and repeat the command"
        ) from error


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """JSON without NaN: a missing number is `null` with its reason beside it."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """The cell of a value that is missing, or of a number that is none, is empty. Raises: as `write_bytes`."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(finite(row) for row in rows)
    write_text(path, buffer.getvalue())


def finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row is a figure or a word: a loss may be NaN in the epoch that a search diverges in."""
    return {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}


def read_as(path: Path, model: type[Model]) -> Model:
    """What a JSON file holds, as `model` has it. Raises: InvalidInputError that names the file and each wrong field."""
    try:
        return model.model_validate_json(text_of(path))
    except ValidationError as error:
        raise InvalidInputError("\n  ".join([f"cannot use {path}:", *problems_of(error)])) from error
    except (OSError, ValueError) as error:  # a pipe, or no text
        raise InvalidInputError(f"cannot read {path}: {error}; repeat the command of its run") from error
