"""Spaces whose networks are a row of blocks, each one of the same alternatives: written by their places, as `0 3 8`."""

from collections.abc import Mapping

from search_spaces.marked.space import MarkedSpace
from search_spaces.space import Choice


class DigitSpace(MarkedSpace):
    """Subclasses set `separator`, which stands between the digits."""

    separator: str

    def notation(self, choices: Mapping[str, Choice]) -> str:
        return self.separator.join(str(decision.index(choices[decision.name])) for decision in self.decisions)

    def read_notation(self, notation: str) -> dict[str, Choice]:
        digits = notation.split(self.separator) if self.separator else list(notation)
        pairs = zip(self.decisions, digits, strict=True)
        return {decision.name: decision.choices[int(digit)] for decision, digit in pairs}
