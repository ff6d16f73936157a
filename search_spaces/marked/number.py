"""A searched whole number: an int of the largest value, that knows the others."""

from collections.abc import Callable
from itertools import product
from typing import Any

from search_spaces.errors import InvalidInputError
from search_spaces.space import Decision


class Number(int):
    """A searched whole number, as an int its largest value. `values` is keyed by the choices' indices."""

    decisions: tuple[Decision, ...]
    values: dict[tuple[int, ...], int]

    def __new__(cls, decisions: tuple[Decision, ...], values: dict[tuple[int, ...], int]) -> "Number":
        found = super().__new__(cls, max(values.values()))
        found.decisions, found.values = decisions, values
        return found

    def map(self, function: Callable[[int], int]) -> "Number":
        return Number(self.decisions, {key: function(value) for key, value in self.values.items()})

    def _with(self, other: Any, function: Callable[[int, int], int]) -> "Number":
        if not isinstance(other, Number):
            return self.map(lambda value: function(value, other))
        decisions = tuple(dict.fromkeys((*self.decisions, *other.decisions)))
        own, its = ([decisions.index(d) for d in each.decisions] for each in (self, other))
        keys = product(*(range(len(d.choices)) for d in decisions))
        return Number(
            decisions,
            {
                key: function(self.values[tuple(key[i] for i in own)], other.values[tuple(key[i] for i in its)])
                for key in keys
            },
        )

    def __mul__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a // b)

    def __add__(self, other: Any) -> Any:
        raise InvalidInputError(
            "searched numbers cannot be added: channels that are joined side by side have no shared weights; "
            "give the parts fixed channels, or map both to one width and sum them"
        )

    __radd__ = __sub__ = __rsub__ = __add__

    def __deepcopy__(self, memo: Any) -> "Number":
        return self

    def __reduce__(self) -> Any:
        return Number, (self.decisions, self.values)


def scaled(value: int, function: Callable[[int], int]) -> int:
    """`function` of a number, searched or not: `scaled(width, lambda channels: max(8, channels // 4))`."""
    return value.map(function) if isinstance(value, Number) else function(value)
