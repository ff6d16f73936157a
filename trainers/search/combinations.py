"""Which parts of a strategy exclude each other; what cannot work together is refused before anything is trained."""

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.space import SearchSpace
from trainers.runs.validation import refusal
from trainers.search.relaxations.relaxation import RELAXATIONS
from trainers.search.remedies import REMEDIES
from trainers.search.samplers import SAMPLERS


def check_combination(
    parts: Mapping[str, Mapping[str, Any]], remedies: Mapping[str, Mapping[str, Any]], space: SearchSpace
) -> None:
    """Raises: InvalidInputError that names all parts that exclude another one, or the space."""
    problems = [*_relaxation_problems(parts, space), *_sampler_problems(parts, space)]
    problems += [problem for name in remedies for problem in _remedy_problems(name, parts, space)]
    if problems:
        raise refusal(problems)


def _relaxation_problems(parts: Mapping[str, Mapping[str, Any]], space: SearchSpace) -> Iterator[str]:
    section = parts["relaxation"]
    kind, mixed = RELAXATIONS[section["name"]], {d.name for d in space.decisions} - space.hard_decisions
    if not kind.normalises and not mixed <= space.operation_decisions:
        yield (
            f"relaxation: {section['name']} weighs operations one by one, and choices of {space.name} share weights; "
            "choose another relaxation, or a space of operations on edges"
        )
    if section.get("single_level") and section.get("order") == "second":
        yield (
            "relaxation.order: got second with single_level=true, which unrolls no step of the weights; "
            "leave out one of the two"
        )


def _sampler_problems(parts: Mapping[str, Mapping[str, Any]], space: SearchSpace) -> Iterator[str]:
    name, relaxation = parts["sampler"]["name"], parts["relaxation"]["name"]
    if SAMPLERS[name].mixes and not RELAXATIONS[relaxation].mixes:
        yield (
            f"sampler: {name} trains the weights on mixtures, and relaxation {relaxation} runs one network at a time; "
            "choose sampler=logits, or a relaxation that mixes"
        )
    if space.rules and not SAMPLERS[name].obeys_rules:
        yield f"sampler: {name} cannot obey the rules of {space.name}; choose another sampler, as sampler=uniform"


def _remedy_problems(name: str, parts: Mapping[str, Mapping[str, Any]], space: SearchSpace) -> Iterator[str]:
    remedy, sampler = REMEDIES[name], parts["sampler"]["name"]
    if remedy.needs_edges and not space.operation_decisions:
        yield f"remedy.{name}: it is about operations on edges, and {space.name} has none; leave it out"
    if remedy.needs_mixture and not SAMPLERS[sampler].mixes:
        yield (
            f"remedy.{name}: it changes mixtures that the weights are trained on, and sampler {sampler} trains single "
            "networks; choose sampler=mixture"
        )
