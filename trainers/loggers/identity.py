"""What a run folder keeps of its loggers: the id that a service knows the run by, and who has its whole result."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from trainers.runs.files import read_as, write_json

FILE = "tracking.json"


class Identity(BaseModel):
    """The content of the file: beside `published` an id for each service that knows the run."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]]
    published: list[str] = []  # sorted; those that have the whole result


def known_id(folder: Path, service: str) -> str | None:
    """The id of the run in `folder` at `service`, if it was logged there. Raises: InvalidInputError if malformed."""
    return _read(folder).__pydantic_extra__.get(service)


def keep_id(folder: Path, service: str, identity: str) -> None:
    write_json(folder / FILE, {**_read(folder).model_dump(), service: identity})


def trial_of_agent() -> str | None:
    """The id under which an agent of a W&B sweep waits for this run."""
    return os.environ.get("WANDB_RUN_ID") or None if os.environ.get("WANDB_SWEEP_ID") else None


def is_published(folder: Path, logger: str) -> bool:
    """Whether all of the result in `folder` was sent by this logger. Raises: InvalidInputError if malformed."""
    return _follower(logger) in _read(folder).published


def keep_published(folder: Path, logger: str) -> None:
    found = _read(folder)
    write_json(folder / FILE, {**found.model_dump(), "published": sorted({*found.published, _follower(logger)})})


def _follower(logger: str) -> str:
    """Who gets a run by this logger: each trial of a W&B sweep is one of its own."""
    trial = trial_of_agent() if logger == "wandb" else None
    return f"{logger}/{trial}" if trial else logger


def _read(folder: Path) -> Identity:
    path = folder / FILE
    return read_as(path, Identity) if path.exists() else Identity.model_validate({})
