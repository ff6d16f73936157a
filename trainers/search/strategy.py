"""A strategy: a relaxation, a constraint, a sampler of paths and a searcher, named together or one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.registry import Registry
from search_spaces.space import Supernet
from trainers.data.task import Task
from trainers.runs.config import SearchConfig
from trainers.search.constraints.constraint import CONSTRAINTS, Constraint
from trainers.search.logits import ArchitectureParameters
from trainers.search.relaxations.relaxation import RELAXATIONS, Relaxation, Searched
from trainers.search.samplers import SAMPLERS, PathSampler
from trainers.search.search_state import SearchState
from trainers.search.searchers import SEARCHERS, Searcher

Section = Mapping[str, Any]  # `name` of a part and its arguments
REGISTRIES: dict[str, Registry[Any]] = {
    "relaxation": RELAXATIONS,
    "constraint": CONSTRAINTS,
    "sampler": SAMPLERS,
    "searcher": SEARCHERS,
}
# The parts that a name of a strategy stands for. Arguments in its section are those of the constraint.
PRESETS: dict[str, dict[str, str]] = {
    "pool": {"relaxation": "straight_through", "constraint": "pool", "sampler": "logits", "searcher": "differentiable"},
    "random": {"relaxation": "straight_through", "constraint": "pool", "sampler": "logits", "searcher": "random"},
    "penalty": {
        "relaxation": "straight_through",
        "constraint": "penalty",
        "sampler": "logits",
        "searcher": "differentiable",
    },
    "dual": {"relaxation": "straight_through", "constraint": "dual", "sampler": "logits", "searcher": "differentiable"},
}


@dataclass(frozen=True)
class Strategy:
    """The parts of one search."""

    relaxation: Relaxation
    constraint: Constraint
    sampler: PathSampler
    searcher: Searcher


def sections(config: SearchConfig) -> dict[str, Section]:
    """The section of each part: its own in the configuration, else as the strategy's preset has it."""
    preset = PRESETS[config.strategy["name"]]
    arguments = {key: value for key, value in config.strategy.items() if key != "name"}
    found: dict[str, Section] = {part: {"name": name} for part, name in preset.items()}
    found["constraint"] = {**found["constraint"], **arguments}
    own = {part: getattr(config, part) for part in REGISTRIES}
    return found | {part: section for part, section in own.items() if section is not None}


def make_strategy(
    parts: Mapping[str, Section],
    *,
    supernet: Supernet,
    logits: ArchitectureParameters,
    task: Task,
    state: SearchState,
    warmup_steps: int,
    generator: np.random.Generator,
) -> Strategy:
    """The strategy of checked sections, as `sections` gives them. `generator` is the one of all its random draws."""
    constraint: Constraint = _make(parts, "constraint", state, logits, generator)
    return Strategy(
        relaxation=_make(parts, "relaxation", Searched(supernet, logits, constraint, task, state)),
        constraint=constraint,
        sampler=_make(parts, "sampler", constraint, warmup_steps=warmup_steps),
        searcher=_make(parts, "searcher"),
    )


def _make(parts: Mapping[str, Section], part: str, *given: Any, **more: Any) -> Any:
    section = parts[part]
    arguments = {key: value for key, value in section.items() if key != "name"}
    return REGISTRIES[part][section["name"]](*given, **more, **arguments)
