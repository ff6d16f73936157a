"""The notation of a network is read back as that network, and nothing else is; a space has one by default."""

import numpy as np
import pytest
from spaces import draw

from search_spaces.architecture import SPACES
from search_spaces.errors import InvalidInputError
from search_spaces.space import SearchSpace


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("default", [False, True])
def test_a_notation_read_back_is_the_same_network(name: str, default: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    space = SPACES[name].small()
    if default:
        for method in ("notation", "read_notation"):
            monkeypatch.setattr(type(space), method, getattr(SearchSpace, method))
    for indices in draw(space, 50, np.random.default_rng(0)):
        notation = space.notation(space.choices(indices))
        choices = space.parse(notation)
        assert space.notation(choices) == notation
        assert space.operations(choices) == space.operations(space.choices(indices))
        for other in (f"{notation}x", notation[:-1], notation.replace("k", "k1"), "", "|", "no network"):
            if other != notation:
                with pytest.raises(InvalidInputError):
                    space.parse(other)
