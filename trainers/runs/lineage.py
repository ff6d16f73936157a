"""The schema of lineage.json: what came of a supernet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from trainers.runs.config import ParentConfig
from trainers.runs.files import read_as
from trainers.runs.result import SCHEMA, Certified, Hashes
from trainers.runs.result_parts import Number, Part


class Parent(Part):
    """The run whose supernet it is: its key, and the sha256 of its result.json."""

    run: str
    result: str


class Supernet(Hashes):
    id: str | None  # where none was trained
    parent: Parent | None = Field(default=None, exclude_if=lambda parent: parent is None)


class Made(Part):
    """A file that was made of its parent, if it has one."""

    id: str
    parent: str | None
    file: str


class Timed(Part):
    parent: str
    latency_ms: Number


class Lineage(Part):
    """A lineage.json: the supernet, the networks that came of it, their weights, and their measurements, by device."""

    schema_: Literal[1] = Field(alias="schema")
    run: str
    supernet: Supernet
    architectures: dict[str, Made]
    models: dict[str, Made]
    measurements: dict[str, Timed]


def lineage(
    run: str,
    supernet: str | None,
    hashes: Hashes,
    devices: Mapping[str, Certified],
    files: Mapping[str, str],
    *,
    parent: ParentConfig | None = None,
) -> Lineage:
    """The lineage of a run whose supernet has the digest `supernet`, and whose `files` have these hashes.

    A model is a network as fine-tuned, by the hash of its weights. A measurement comes before that, of a network with
    inherited weights, so its parent is the architecture.
    """
    networks = devices.items()
    taken_from = None if parent is None else Parent(run=Path(parent.run).name, result=parent.result)
    return Lineage(
        schema=SCHEMA,
        run=run,
        supernet=Supernet(**dict(hashes), id=supernet, parent=taken_from),
        architectures={name: Made(id=d.id, parent=supernet, file=d.architecture) for name, d in networks},
        models={name: Made(id=files[d.weights], parent=d.id, file=d.weights) for name, d in networks},
        measurements={name: Timed(parent=d.id, latency_ms=d.measured.latency_ms) for name, d in networks if d.measured},
    )


def read_lineage(path: Path) -> Lineage:
    """Raises: InvalidInputError that names the file and each wrong field."""
    return read_as(path, Lineage)
