"""The contracts of the example's space: `pytest contracts.py`."""

from espalier_example.ladder import LadderSpace

from hardware_models.testing import CostContracts
from search_spaces.testing import SpaceContracts


class TestLadder(SpaceContracts):
    space = LadderSpace(width=4, size=8, num_classes=4)


class TestLadderCosts(CostContracts):
    space = LadderSpace(width=4, size=8, num_classes=4)
