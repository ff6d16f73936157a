"""From a checked configuration to everything a search needs, built and found feasible, with nothing trained yet."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.profile import HardwareProfile, profile_from_dict, resolve_profile
from search_spaces.architecture import make_space
from search_spaces.errors import InvalidInputError
from search_spaces.space import SearchSpace
from search_spaces.trained_shape import idle_choices
from trainers.data.datasets import ImageData, data_config, load_data
from trainers.deploy.optimizers import check_optimizer, check_schedule
from trainers.runs.config import SearchConfig, is_host
from trainers.runs.given_network import check_space
from trainers.runs.validation import check_arguments, untitled
from trainers.search.combinations import check_combination
from trainers.search.computing import check_devices, device_of
from trainers.search.constraints.constraint import CONSTRAINTS, Constraint
from trainers.search.evaluation import EVALUATORS
from trainers.search.lightning_callbacks import make_callbacks
from trainers.search.priors.fresh import PRIORS
from trainers.search.remedies import REMEDIES
from trainers.search.searchers import SEARCHERS
from trainers.search.strategy import PRESETS, REGISTRIES, Section, has_own_parts, needs_supernet, sections


@dataclass(frozen=True)
class Plan:
    """A search about to start. `measured` names the devices that are: this very machine, and boards that answered.

    `space` is that of the table: where networks run on devices of several units is part of it. `strategy` has the
    section of each of its parts.
    """

    config: SearchConfig
    data: ImageData
    space: SearchSpace
    table: CostTable
    problems: tuple[BudgetProblem, ...]
    strategy: Mapping[str, Section]
    measured: frozenset[str]
    _data_at: dict[tuple[int, int], ImageData] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the first process trains and compares networks."""
        return device_of(self.config.trainer)

    @property
    def searched(self) -> SearchSpace:
        """The space of the networks that the search trains."""
        return self.space.searched

    @property
    def is_proxy(self) -> bool:
        """Whether the search trains smaller networks than those that it finds, or at another image size."""
        return self.searched is not self.space or self.data.image_size != self.space.deploy_shape[1:]

    def data_at(self, image_size: tuple[int, int]) -> ImageData:
        """The data at another size (height, width) than that of the search; read and scaled once."""
        if image_size == self.data.image_size:
            return self.data
        if image_size not in self._data_at:
            self._data_at[image_size] = load_data(data_config(self.config.data), image_size=image_size)
        return self._data_at[image_size]

    def shortened(self, most: Mapping[str, int]) -> "Plan":
        """The plan with no more of these counts of `trainer` than `most`."""
        trainer = self.config.trainer
        counts = {key: min(limit, getattr(trainer, key) or limit) for key, limit in most.items()}
        config = self.config.model_copy(update={"trainer": trainer.model_copy(update=counts)})
        return replace(self, config=config)

    def trained_size(self, indices: Sequence[int]) -> tuple[int, int]:
        """Height and width that a network sees in the search, where images are scaled in the proportion of its own."""
        share = self.space.input_shape(self.space.choices(indices))[1] / self.space.deploy_shape[1]
        height, width = (max(1, round(side * share)) for side in self.data.image_size)
        return height, width


def prepare(config: SearchConfig) -> Plan:
    """Builds the parts of a search. Raises: InvalidInputError for what only their data or their costs show."""
    profiles = [load_profile(name, mapping, config) for name, mapping in config.hardware.items()]
    data, strategy = load_data(data_config(config.data)), sections(config)
    check_devices(config.trainer)
    data.check_batch_size(config.trainer.step_images)
    space = make_space(config.space, num_classes=data.num_classes, channels=data.channels, image_size=data.image_size)
    if config.trainer.keep == "supernet" and not needs_supernet(strategy):
        raise InvalidInputError("trainer.keep: got supernet, and this strategy trains none; leave it out")
    check_combination(strategy, config.remedy, space)
    _check_sources(config, strategy["searcher"]["name"])
    _check_evaluator(strategy["evaluator"], space)
    if needs_supernet(strategy):
        _check_trained_shape(space, data)
    table = CostTable(space, profiles)
    problems = tuple(
        BudgetProblem(table, profile.name, dict(profile.budgets.items()), margin=config.margin) for profile in profiles
    )
    return Plan(config, data, table.space, table, problems, strategy, measured_devices(config))


def _check_sources(config: SearchConfig, searcher: str) -> None:
    """Raises: InvalidInputError if the searcher would have no candidates."""
    kind = SEARCHERS[searcher]
    if kind.needs_prior and config.prior is None:
        raise InvalidInputError(
            f"prior: got none, and searcher={searcher} takes its candidates from one; prior=zero_cost"
        )
    if kind.needs_random and config.trainer.random_candidates == 0:
        raise InvalidInputError(
            f"trainer.random_candidates: got 0, and searcher={searcher} takes its candidates from them; leave it null"
        )


def _check_evaluator(section: Section, space: SearchSpace) -> None:
    arguments = {key: value for key, value in section.items() if key != "name"}
    EVALUATORS[section["name"]].check(space, arguments)


def _check_trained_shape(space: SearchSpace, data: ImageData) -> None:
    """Raises: InvalidInputError that names choices which compute the same on images of the size that is trained."""
    idle = idle_choices(space.searched, (data.channels, *data.image_size))
    if not idle:
        return
    pairs = sorted({f"{one} and {other}" for one, other in (each.choices for each in idle)})
    names, height, width = [each.decision for each in idle], *data.image_size
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    raise InvalidInputError(
        f"space {space.name}: at {height}x{width} pixels the choices {', '.join(pairs)} of {listed} compute the same, "
        "so a search cannot tell them apart; raise data.image_size, lower the strides of the space, or leave out the "
        "larger choices"
    )


def measured_devices(config: SearchConfig) -> frozenset[str]:
    """The devices of a search that are measured: this very machine, and boards."""
    return frozenset(name for name, mapping in config.hardware.items() if is_host(mapping)) | set(config.boards)


def part_problems(config: SearchConfig) -> list[str]:
    """What is wrong with the parts of a search that have arguments of their own; nothing is loaded or measured."""
    checks: list[Callable[[], object]] = [
        lambda: check_space(config.space),
        *(lambda part=part: _check_part(config, part) for part in ("strategy", *REGISTRIES)),
        *(lambda key=key: check_optimizer(getattr(config, key), key) for key in ("optimizer", "arch_optimizer")),
        *(lambda name=name: _check_remedy(config, name) for name in config.remedy),
        *(lambda name=name: PRIORS[name] for name in (config.prior.scores if config.prior else ())),
        lambda: check_schedule(config.schedule, steps=config.trainer.steps),
        lambda: make_callbacks(config.callbacks),
        lambda: data_config(config.data),
        *(
            lambda name=name, mapping=mapping: check_profile(name, mapping)
            for name, mapping in config.hardware.items()
            if not is_host(mapping)  # which would be measured
        ),
    ]
    problems = []
    for check in checks:
        try:
            check()
        except InvalidInputError as error:
            problems.append(untitled(error))
    return problems


def _check_part(config: SearchConfig, part: str) -> None:
    """Checks the strategy, whose arguments are those of its constraint, or a part that is chosen in its place."""
    content = getattr(config, part)
    if part == "strategy":
        constraints = {name: CONSTRAINTS[parts["constraint"]] for name, parts in PRESETS.items()}
        if has_own_parts(config):
            constraints.setdefault(content["name"], Constraint)
        check_arguments(part, constraints, content, given=frozenset())
    elif content is not None:
        given = frozenset({"warmup_steps"}) if part == "sampler" else frozenset[str]()
        check_arguments(part, REGISTRIES[part], content, given=given)


def _check_remedy(config: SearchConfig, name: str) -> None:
    check_arguments(f"remedy.{name}", REMEDIES, {**config.remedy[name], "name": name}, given=frozenset())


def load_profile(name: str, mapping: dict[str, Any], config: SearchConfig) -> HardwareProfile:
    return check_profile(name, resolve_profile(name, mapping, Path(os.path.expanduser(config.paths.cache))))


def check_profile(name: str, mapping: Mapping[str, Any]) -> HardwareProfile:
    """The profile of a device to search for. Raises: InvalidInputError if it cannot be used, or has no budget."""
    profile = profile_from_dict(name, mapping)
    if not profile.budgets:
        raise InvalidInputError(
            f"hardware.{name}.budgets: got none, need one or more; as hardware.{name}.budgets.gflops=1"
        )
    return profile
