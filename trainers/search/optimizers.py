"""Optimizers of torch.optim, made from a section of the configuration and checked against their own defaults."""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch

from search_spaces.errors import InvalidInputError
from trainers.runs.validation import refusal, shown


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
