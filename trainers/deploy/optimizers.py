"""Optimizers, schedules of the learning rate and other objects, from the classes that a configuration names."""

import math
import sys
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hardware_models.field_errors import shown
from search_spaces.errors import InvalidInputError
from trainers.runs.validation import refusal

Kind = TypeVar("Kind")
LENGTHS = ("T_max", "total_steps")  # arguments of schedules that are the number of steps unless they are given


def make_optimizer(content: Mapping[str, Any], key: str) -> Callable[[Any], Optimizer]:
    """A function from parameters to the optimizer that `_target_` names. Raises: InvalidInputError by its keys."""
    return _maker(_class(content, key, Optimizer), content, key)


def make_schedule(content: Mapping[str, Any], *, steps: int) -> Callable[[Optimizer], LRScheduler]:
    """A function from an optimizer to the schedule that `_target_` names; it is stepped once per weights update."""
    kind = _class(content, "schedule", LRScheduler)
    lengths = {name: steps for name in LENGTHS if name in signature(kind).parameters and name not in content}
    return _maker(kind, {**content, **lengths}, "schedule")


def make_object(content: Mapping[str, Any], key: str, base: type[Kind]) -> Kind:
    """An object of the class that `_target_` names, a subclass of `base`. Raises: InvalidInputError by its keys."""
    return _call(_class(content, key, base), (), _arguments(content), key)


def check_optimizer(content: Mapping[str, Any], key: str) -> None:
    """Raises: InvalidInputError if no optimizer can be made."""
    make_optimizer(content, key)([torch.nn.Parameter(torch.zeros(1))])


def check_schedule(content: Mapping[str, Any], *, steps: int) -> None:
    """Raises: InvalidInputError if no schedule can be made, or if its steps need more than their number."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = make_schedule(content, steps=steps)(optimizer)
    optimizer.step()
    try:
        schedule.step()
    except TypeError as error:
        raise InvalidInputError(
            f"schedule._target_: got {content['_target_']}, which cannot be used: {error}"
        ) from error


def _class(content: Mapping[str, Any], key: str, base: type[Kind]) -> type[Kind]:
    """The class that `_target_` names: its module is imported already, as torch's or as a plug-in's."""
    module, _, name = content["_target_"].rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise InvalidInputError(f"{key}._target_: {module} has no {base.__name__} {name!r}")
    return kind


def _arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in content.items() if name != "_target_"}


def _maker(kind: type[Kind], content: Mapping[str, Any], key: str) -> Callable[[Any], Kind]:
    """A function from the first argument of a class to an object of it. Raises: InvalidInputError for wrong values."""
    arguments, parameters = _arguments(content), signature(kind).parameters
    wrong = [
        f"{key}.{name}: got {shown(content[name])}, allowed: {allowed}"
        for name, value in arguments.items()
        if name in parameters and (allowed := _allowed(value, parameters[name].default))
    ]
    if wrong:
        raise refusal(wrong)
    return lambda first: _call(kind, (first,), arguments, key)


def _allowed(value: Any, default: Any) -> str | None:
    """What an argument must be, if a value is not of the kind of its default; the class checks the rest."""
    match default:
        case bool():
            return None if isinstance(value, bool) else "true or false"
        case int() | float():
            return None if type(value) in (int, float) and math.isfinite(value) else f"a finite number, as {default}"
        case tuple():
            is_like = isinstance(value, tuple) and len(value) == len(default) and not any(map(_allowed, value, default))
            return None if is_like else f"{len(default)} finite numbers, as {list(default)}"
        case _:
            return "a finite number" if isinstance(value, float) and not math.isfinite(value) else None


def _call(kind: type[Kind], first: tuple[Any, ...], arguments: Mapping[str, Any], key: str) -> Kind:
    try:
        return kind(*first, **arguments)
    except ValueError as error:
        raise InvalidInputError(f"{key}: {error}") from error
    except (TypeError, IndexError) as error:
        allowed = ", ".join(list(signature(kind).parameters)[len(first) :])
        raise InvalidInputError(f"{key}: got {dict(arguments)}; {error}; {kind.__name__} takes {allowed}") from error
