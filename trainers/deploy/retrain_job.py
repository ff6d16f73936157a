"""A training about to start: its network, and what it is known by."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search_spaces.architecture import Architecture, architecture_of, build_space
from search_spaces.errors import InvalidInputError
from trainers.data.datasets import content_of, data_config, read_images
from trainers.data.storage import Report, silent
from trainers.deploy.retrain_config import RetrainConfig, asked
from trainers.runs.given_network import given_network
from trainers.runs.versions import sha256_of


@dataclass(frozen=True)
class Job:
    """`asked` is what it is known by: the same is the same run. `note` says how the network was fitted to the data."""

    config: RetrainConfig
    architecture: Architecture
    asked: Mapping[str, Any]
    note: str | None

    @property
    def run_key(self) -> str:
        """Name of the run folder: readable, and the same for the same that is asked."""
        digest = hashlib.sha256(json.dumps(self.asked, sort_keys=True).encode()).hexdigest()
        return f"{self.architecture.space}-{self.architecture.id[:8]}-{digest[:8]}"

    @property
    def run_folder(self) -> Path:
        return Path(os.path.expanduser(self.config.paths.runs)) / "retrain" / self.run_key


def identified(config: RetrainConfig, report: Report = silent) -> Job:
    """The job of a configuration, known by the content of all that it names.

    Raises: DataError; InvalidInputError for a network that cannot be used.
    """
    data = data_config(config.data)
    content = content_of(data, report)
    images = read_images(data.model_copy(update={"content": content}))
    height, width = data.image_size or images.images.shape[2:]
    channels = data.channels or images.images.shape[1]
    given = given_network(
        config.architecture,
        config.arch,
        config.space,
        num_classes=images.num_classes,
        channels=channels,
        image_size=(height, width),
    )
    architecture, note = fitted(given, num_classes=images.num_classes, channels=channels)
    if note is not None and config.weights is not None:
        raise InvalidInputError(f"weights: {note}, so weights do not fit; leave them out, or see data.channels")
    config = config.model_copy(update={"data": {**config.data, "content": content}})
    hashes = {"weights": config.weights, "teacher": config.distill.teacher}
    files = {key: given and sha256_of(Path(os.path.expanduser(given))) for key, given in hashes.items()}
    return Job(config, architecture, asked(config, network=architecture.id, **files), note)


def fitted(given: Architecture, *, num_classes: int, channels: int) -> tuple[Architecture, str | None]:
    """The network for so many classes and channels, and what was changed for that; all else of its space stays."""
    due = {"num_classes": num_classes, "channels": channels}
    changed = {key: value for key, value in due.items() if given.spec.get(key, value) != value}
    if not changed:
        return given, None
    space = build_space(replace(given, spec={**given.spec, **changed}))
    listed = ", ".join(f"{key} {value} in place of {given.spec[key]}" for key, value in changed.items())
    return architecture_of(space, given.choices), f"the network is fitted to the data: {listed}"
