"""From a checked configuration to everything a search needs, built and found feasible, with nothing trained yet."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from hardware_models.budgets.budget_problem import BudgetProblem
from hardware_models.budgets.cost_table import CostTable
from hardware_models.profile import HardwareProfile, profile_from_dict, resolve_profile
from search_spaces.architecture import SPACES
from search_spaces.errors import EspalierError, InvalidInputError
from search_spaces.space import SearchSpace
from trainers.data.datasets import DataConfig, ImageData, load_data
from trainers.runs.config import SearchConfig
from trainers.runs.validation import Place, dotted, problems_of, refusal, shown, untitled
from trainers.search.machines import machine_of
from trainers.search.strategies import STRATEGIES, Strategy

# Sections that are checked without loading or measuring anything, and the key that each is chosen by.
PARTS = {
    "strategy": "name",
    "optimizer": "_target_",
    "arch_optimizer": "_target_",
    "space": "name",
}
LEAST_CLASSES = 2  # of a space that is made to be looked at: how many there are the data tell
CHANNELS = 3  # of deployed networks; grey images are repeated


@dataclass(frozen=True)
class Plan:
    """A search about to start. `measured` names the devices at hand: this very machine, and boards that answered.

    `space` is that of the table: where networks run on devices of several units is part of it.
    """

    config: SearchConfig
    data: ImageData
    space: SearchSpace
    table: CostTable
    problems: tuple[BudgetProblem, ...]
    measured: frozenset[str]


def prepare(config: SearchConfig) -> Plan:
    """Builds and checks the parts of a search. Raises: InvalidInputError that lists the parts that cannot be used."""
    refused = _refused_parts({part: getattr(config, part) for part in PARTS})
    profiles = []
    for name, mapping in config.hardware.items():
        with collected(refused):
            profiles.append(load_profile(name, mapping, config))
    with collected(refused):
        data = load_data(data_config(config.data), channels=CHANNELS)
        data_is_enough(data, config)
    raise_all(refused)
    space = make_space(config.space, num_classes=data.num_classes)
    table = CostTable(space, profiles)
    problems = tuple(
        BudgetProblem(table, profile.name, dict(profile.budgets.items()), margin=config.margin) for profile in profiles
    )
    for board in config.boards.values():  # now, and not when the search is over
        with machine_of(board):
            pass
    return Plan(config, data, table.space, table, problems, measured_devices(config))


def measured_devices(config: SearchConfig) -> frozenset[str]:
    """The devices of a search that are at hand: this very machine, and boards."""
    return frozenset(name for name, mapping in config.hardware.items() if is_host(mapping)) | set(config.boards)


def with_refused_parts(error: InvalidInputError, content: Mapping[str, Any]) -> InvalidInputError:
    """The error about values of a configuration, and what is wrong with those of its parts that can be looked at."""
    refused = [error, *_refused_parts(content)]
    data, hardware = content.get("data"), content.get("hardware")
    if isinstance(data, dict) and isinstance(data.get("name"), str):
        with collected(refused):
            data_config(data)
    for name, mapping in hardware.items() if isinstance(hardware, dict) else ():
        if isinstance(mapping, dict) and not is_host(mapping):  # which would be measured
            with collected(refused):
                profile_from_dict(name, mapping)
    return _as_one(refused)


def _refused_parts(content: Mapping[str, Any]) -> list[InvalidInputError]:
    """What is wrong with the parts that are chosen by name, as far as each is a section with one."""
    refused: list[InvalidInputError] = []
    for part, chosen_by in PARTS.items():
        section = content.get(part)
        if not (isinstance(section, dict) and isinstance(section.get(chosen_by), str)):
            continue
        with collected(refused):
            match part:
                case "space":
                    check_arguments("space", SPACES, section, given=frozenset({"num_classes", "channels"}))
                    make_space(section, num_classes=LEAST_CLASSES)
                case "strategy":
                    check_arguments("strategy", STRATEGIES, section, given=frozenset())
                case _:
                    make_optimizer(section, part)([torch.nn.Parameter(torch.zeros(1))])
    return refused


@contextmanager
def collected(refused: list[InvalidInputError]) -> Iterator[None]:
    """Keeps a refusal for later, so that those of other parts are found too."""
    try:
        yield
    except InvalidInputError as error:
        refused.append(error)


def raise_all(refused: list[InvalidInputError]) -> None:
    """Raises: the one there is, or one that lists them all."""
    if refused:
        raise _as_one(refused)


def _as_one(refused: list[InvalidInputError]) -> InvalidInputError:
    if len(refused) == 1:
        return refused[0]
    return refusal(map(untitled, refused))


def is_host(mapping: dict[str, Any]) -> bool:
    latency = mapping.get("latency")
    return isinstance(latency, dict) and latency.get("model") == "host"


def load_profile(name: str, mapping: dict[str, Any], config: SearchConfig) -> HardwareProfile:
    resolved = resolve_profile(name, mapping, Path(os.path.expanduser(config.paths.cache)))
    profile = profile_from_dict(name, resolved)
    if not profile.budgets:
        raise InvalidInputError(
            f"hardware.{name}.budgets: got none, need one or more; as hardware.{name}.budgets.gflops=1"
        )
    return profile


def data_config(content: dict[str, Any]) -> DataConfig:
    if isinstance(content.get("root"), str):
        content = {**content, "root": Path(os.path.expanduser(content["root"]))}
    try:
        return DataConfig.model_validate(content)
    except ValidationError as error:
        raise refusal(problems_of(error, lambda place: dotted(("data", *place)))) from error


def data_is_enough(data: ImageData, config: SearchConfig) -> None:
    """Raises: InvalidInputError if a training split cannot fill a batch."""
    batch_size = config.trainer.batch_size
    short = {split: data.size(split) for split in ("weights", "architecture") if data.size(split) < batch_size}
    if short:
        raise InvalidInputError(
            f"trainer.batch_size: got {batch_size}, but {data.name} has only {short} images; "
            f"lower it or raise data.limit"
        )


def make_space(content: dict[str, Any], *, num_classes: int) -> SearchSpace:
    arguments = {key: value for key, value in content.items() if key != "name"}
    try:
        return SPACES[content["name"]](**arguments, num_classes=num_classes, channels=CHANNELS)
    except EspalierError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        raise InvalidInputError(f"space: got {arguments}; {error}") from error


def make_strategy(content: dict[str, Any], *arguments: Any) -> Strategy:
    keywords = {key: value for key, value in content.items() if key != "name"}
    try:
        return STRATEGIES[content["name"]](*arguments, **keywords)
    except EspalierError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"strategy: got {keywords}; {error}") from error


def make_optimizer(content: dict[str, Any], key: str) -> Callable[[Any], torch.optim.Optimizer]:
    """A function from parameters to the optimizer that `_target_` names."""
    name = content["_target_"].rpartition(".")[2]
    kind = getattr(torch.optim, name, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise InvalidInputError(f"{key}._target_: torch.optim has no optimizer {name!r}")
    arguments: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in content.items() if k != "_target_"
    }
    defaults = {p.name: p.default for p in signature(kind).parameters.values()}
    problems = [
        f"{key}.{argument}: got {shown(content[argument])}, allowed: {_like(defaults[argument])}"
        for argument, value in arguments.items()
        if argument in defaults and not _is_like(value, defaults[argument])
    ]
    if problems:
        raise refusal(problems)

    def make(parameters: Any) -> torch.optim.Optimizer:
        try:
            return kind(parameters, **arguments)
        except ValueError as error:
            raise InvalidInputError(f"{key}: {error}") from error
        except (TypeError, IndexError) as error:
            allowed = ", ".join(list(signature(kind).parameters)[1:])
            raise InvalidInputError(f"{key}: got {arguments}; {error}; {name} takes {allowed}") from error

    return make


def _is_like(value: Any, default: Any) -> bool:
    """Whether the value of an optimizer's argument is of the kind of its default, and finite; the rest it checks."""
    match default:
        case bool():
            return isinstance(value, bool)
        case int() | float():
            return type(value) in (int, float) and math.isfinite(value)
        case tuple():
            return isinstance(value, tuple) and len(value) == len(default) and all(map(_is_like, value, default))
        case _:
            return not isinstance(value, float) or math.isfinite(value)


def _like(default: Any) -> str:
    match default:
        case bool():
            return "true or false"
        case tuple():
            return f"{len(default)} finite numbers, as {list(default)}"
        case _:
            return f"a finite number, as {default}"


def check_arguments(key: str, classes: Mapping[str, Any], content: dict[str, Any], *, given: frozenset[str]) -> None:
    """Raises: InvalidInputError unless `content` names one of `classes` and only arguments of it, of their types.

    `given` arguments come from elsewhere and may not be set.
    """
    name = content["name"]
    if name not in classes:
        raise InvalidInputError(f"{key}.name: got {name!r}, allowed: {', '.join(sorted(classes))}")
    parameters = signature(classes[name]).parameters.values()
    allowed = {p.name: p.annotation for p in parameters if p.kind is Parameter.KEYWORD_ONLY and p.name not in given}
    unknown = sorted(set(content) - {"name"} - set(allowed))
    if unknown:
        raise InvalidInputError(f"{key}: {name} does not take {unknown}; allowed: {sorted(allowed)}")
    problems = [
        problem
        for argument in sorted(set(content) - {"name"})
        for problem in _wrong_value(allowed[argument], content[argument], (key, argument))
    ]
    if problems:
        raise refusal(problems)


def _wrong_value(kind: Any, value: Any, key: Place) -> list[str]:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        return problems_of(error, lambda place: dotted((*key, *place)))
    return []
