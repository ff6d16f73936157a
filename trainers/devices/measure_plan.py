"""What there is to measure: networks from files, random networks of a space, or its distinct operations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random
from typing import get_args

import numpy as np

from hardware_models.latency_models.roofline import price_kind
from hardware_models.measuring.measurements import RANDOM, Part
from search_spaces.architecture import Architecture, architecture_of, build_space, make_space, read_architecture
from search_spaces.errors import InvalidInputError
from search_spaces.operation import Operation
from search_spaces.space import SearchSpace
from trainers.devices.command_config import CalibrateConfig, MeasureConfig, paths_of
from trainers.runs.given_network import check_space

DRAWS_PER_NETWORK = 100  # until a space is taken to have too few networks that obey its rules


@dataclass(frozen=True)
class Item:
    """A network or an operation, by its name in the file; a network has operations, and its architecture if known.

    `part` says of a network how it came to be measured, if that is known.
    """

    name: str
    subject: Architecture | Operation | None
    operations: tuple[Operation, ...] = ()
    part: Part | None = None


def plan(config: MeasureConfig) -> list[Item]:
    """What there is to measure, each once. Raises: InvalidInputError for a file or a space that cannot be used."""
    if config.architecture is not None:
        items = [architecture_item(path) for path in paths_of(config.architecture)]
        return list({item.name: item for item in items}.values())
    space, random = space_of(config), Random(config.seed)
    if config.networks is not None:
        return [replace(item, part=RANDOM) for item in random_networks(space, config.networks, random)]
    return [Item(op.notation, op) for op in draw_operations(distinct_operations(space), config.limit, random)]


def space_of(config: MeasureConfig | CalibrateConfig) -> SearchSpace:
    """The space that a command names. Raises: InvalidInputError for one that cannot be made."""
    assert config.space is not None  # checked with the configuration
    check_space(config.space)
    height, width = config.image_size
    return make_space(
        config.space, num_classes=config.num_classes, channels=config.channels, image_size=(height, width)
    )


def architecture_item(path: Path) -> Item:
    architecture = read_architecture(path)
    origin = json.loads(path.read_text(encoding="utf-8")).get("origin")
    part = origin.get("part") if isinstance(origin, dict) else None
    item = network_item(path.stem, build_space(architecture), architecture)
    return replace(item, part=part) if part in get_args(Part) else item


def network_item(stem: str, space: SearchSpace, architecture: Architecture) -> Item:
    """Named after its file and its content: files of the same name lie in many folders."""
    identity = architecture.id[:8]
    name = stem if identity in stem else f"{stem}-{identity}"
    return Item(name, architecture, tuple(space.operations(architecture.choices)))


def random_networks(space: SearchSpace, num_networks: int, random: Random) -> list[Item]:
    """Distinct networks drawn uniformly; the first of them are the same whatever their number.

    Raises: InvalidInputError if the space has not so many.
    """
    if num_networks > space.num_networks:
        raise InvalidInputError(
            f"networks: got {num_networks}, but {space.name} has {space.num_networks}; ask for fewer"
        )
    drawn: dict[tuple[int, ...], None] = {}
    logits_N = np.zeros(space.num_choices)
    generator = np.random.default_rng(random.getrandbits(32) if space.rules else 0)  # without rules it draws nothing
    for _ in range(DRAWS_PER_NETWORK * num_networks):
        number = random.randrange(space.num_networks)
        row_1n = np.array([_indices(space, number)])
        row_1n = space.rule_matrix.redraw(row_1n, logits_N, generator)
        drawn[tuple(row_1n[0].tolist())] = None
        if len(drawn) == num_networks:
            break
    else:
        raise InvalidInputError(f"networks: got {num_networks}, but few of {space.name} obey its rules; ask for fewer")
    networks = (architecture_of(space, space.choices(indices)) for indices in drawn)
    return [network_item(space.name, space, architecture) for architecture in networks]


def _indices(space: SearchSpace, number: int) -> list[int]:
    """The network of this number, from 0, when all are counted with the last decision changing first."""
    indices = []
    for decision in reversed(space.decisions):
        number, index = divmod(number, len(decision.choices))
        indices.append(index)
    return indices[::-1]


def distinct_operations(space: SearchSpace) -> list[Operation]:
    """Every operation that some network of the space runs, once; what is held beside it does not count."""
    found: dict[Operation, None] = {}
    for site in space.sites:
        for choices in product(*(space.decision(name).choices for name in site.scope)):
            operations = site.operations(dict(zip(site.scope, choices, strict=True)))
            found.update((replace(operation, held=0), None) for operation in operations)
    return list(found)


def draw_operations(operations: Sequence[Operation], limit: int | None, random: Random) -> list[Operation]:
    """At most `limit` of them, the kinds in turn so that rare ones are not left out."""
    if limit is None or limit >= len(operations):
        return list(operations)
    by_kind: dict[str, list[Operation]] = {}
    for operation in random.sample(operations, len(operations)):
        by_kind.setdefault(price_kind(operation), []).append(operation)
    rounds = range(max(map(len, by_kind.values())))
    drawn = [same[i] for i in rounds for same in by_kind.values() if i < len(same)]
    return drawn[:limit]
