"""The notation of a network is read back as that network, and nothing else is."""

import numpy as np
import pytest

from search_spaces.architecture import SPACES
from search_spaces.errors import InvalidInputError
from tests.spaces import draw, narrow_space
from trainers.reports.notations import READERS, network_of


def test_every_space_has_a_reader_of_its_notation() -> None:
    assert set(READERS) == set(SPACES)


@pytest.mark.parametrize("name", SPACES)
def test_a_notation_read_back_is_the_same_network(name: str) -> None:
    space = narrow_space(name)
    for indices in draw(space, 50, np.random.default_rng(0)):
        notation = space.notation(space.choices(indices))
        choices = network_of(space, notation)
        assert space.notation(choices) == notation
        assert space.operations(choices) == space.operations(space.choices(indices))
        for other in (f"{notation}x", notation[:-1], notation.replace("k", "k1"), "", "|", "no network"):
            if other != notation:
                with pytest.raises(InvalidInputError, match="no network of the space"):
                    network_of(space, other)
