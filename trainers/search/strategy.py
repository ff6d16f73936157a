"""A strategy: a relaxation, a constraint, a sampler of paths, a searcher and an evaluator, by one name or by theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_spaces.registry import Registry
from search_spaces.space import Supernet
from trainers.data.task import Task
from trainers.runs.config import SearchConfig
from trainers.search.constraints.constraint import CONSTRAINTS, Constraint
from trainers.search.evaluation import EVALUATORS
from trainers.search.logits import ArchitectureParameters
from trainers.search.ranks import Ranks, ShardedTask
from trainers.search.relaxations.relaxation import RELAXATIONS, Relaxation, Searched
from trainers.search.remedies import REMEDIES, Remedy
from trainers.search.samplers import SAMPLERS, PathSampler
from trainers.search.search_state import SearchState
from trainers.search.searchers import SEARCHERS

Section = Mapping[str, Any]  # `name` of a part and its arguments
REGISTRIES: dict[str, Registry[Any]] = {
    "relaxation": RELAXATIONS,
    "constraint": CONSTRAINTS,
    "sampler": SAMPLERS,
    "searcher": SEARCHERS,
    "evaluator": EVALUATORS,
}
DEFAULT = {
    "relaxation": "straight_through",
    "constraint": "pool",
    "sampler": "logits",
    "searcher": "differentiable",
    "evaluator": "inherited",
}
# The parts that a name of a strategy stands for. Arguments in its section are those of the constraint. A strategy of
# another name is a file of conf/strategy that chooses its own parts.
PRESETS: dict[str, dict[str, str]] = {
    "pool": DEFAULT,
    "random": {**DEFAULT, "searcher": "random"},
    "penalty": {**DEFAULT, "constraint": "penalty"},
    "dual": {**DEFAULT, "constraint": "dual"},
}


@dataclass(frozen=True)
class Strategy:
    """The parts of one search that train its supernet. Where none learns logits, nothing is pruned either."""

    relaxation: Relaxation
    constraint: Constraint
    sampler: PathSampler
    remedies: Mapping[str, Remedy]
    trains_logits: bool


def sections(config: SearchConfig) -> dict[str, Section]:
    """The section of each part: its own in the configuration, else as the strategy's preset has it."""
    preset = PRESETS.get(config.strategy["name"], DEFAULT)
    arguments = {key: value for key, value in config.strategy.items() if key != "name"}
    found: dict[str, Section] = {part: {"name": name} for part, name in preset.items()}
    found["constraint"] = {**found["constraint"], **arguments}
    own = {part: getattr(config, part) for part in REGISTRIES}
    return found | {part: section for part, section in own.items() if section is not None}


def make_strategy(
    parts: Mapping[str, Section],
    *,
    remedies: Mapping[str, Section],
    supernet: Supernet,
    logits: ArchitectureParameters,
    task: Task,
    state: SearchState,
    warmup_steps: int,
    generator: np.random.Generator,
    ranks: Ranks,
) -> Strategy:
    """The strategy of checked sections, as `sections` gives them. `generator` is the one of all its random draws."""
    constraint: Constraint = make_part(parts, "constraint", state, logits, generator)
    task = task if ranks.size == 1 else ShardedTask(task, ranks)
    searched = Searched(supernet, logits, constraint, task, state, ranks)
    return Strategy(
        relaxation=make_part(parts, "relaxation", searched),
        constraint=constraint,
        sampler=make_part(parts, "sampler", constraint, warmup_steps=warmup_steps),
        remedies={name: REMEDIES[name](searched, **arguments) for name, arguments in remedies.items()},
        trains_logits=SEARCHERS[parts["searcher"]["name"]].trains_logits,
    )


def has_own_parts(config: SearchConfig) -> bool:
    """Whether the configuration chooses itself what a strategy of any name has to."""
    return None not in (config.relaxation, config.constraint, config.sampler)


def needs_supernet(parts: Mapping[str, Section]) -> bool:
    """Whether the searcher learns from a supernet, or the evaluator scores with its weights."""
    searcher, evaluator = SEARCHERS[parts["searcher"]["name"]], EVALUATORS[parts["evaluator"]["name"]]
    return searcher.trains_logits or evaluator.needs_supernet


def make_part(parts: Mapping[str, Section], part: str, *given: Any, **more: Any) -> Any:
    section = parts[part]
    arguments = {key: value for key, value in section.items() if key != "name"}
    return REGISTRIES[part][section["name"]](*given, **more, **arguments)
