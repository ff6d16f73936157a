"""The supernet of a space of nni: a marked one, out of which networks are copied."""

from collections.abc import Mapping

from torch import nn

from search_spaces.marked.part import part_of
from search_spaces.marked.supernet import MarkedSupernet
from search_spaces.space import Choice


class NniSupernet(MarkedSupernet):
    """Copies parts of itself, as to construct a model space of nni takes a second."""

    def extract(self, choices: Mapping[str, Choice]) -> nn.Module:
        self.space.check(choices)
        return part_of(self.whole, choices)
