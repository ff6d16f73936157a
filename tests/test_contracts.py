"""The shipped contracts over every registered space, and over toy spaces of tokens, of two sensors and with rules."""

import pytest
from toy_spaces import SensorSpace, TokenSpace

from hardware_models.testing import CostContracts
from search_spaces.architecture import SPACES
from search_spaces.testing import SpaceContracts

CASES = {name: SPACES[name].small() for name in SPACES} | {
    "tokens": TokenSpace(),
    "sensors": SensorSpace(),
    "separable cells": SPACES["nasbench201"].small(operations=["none", "skip_connect", "separable_3x3"]),
}


@pytest.fixture(params=CASES, scope="class", autouse=True)
def _space(request: pytest.FixtureRequest) -> None:
    request.cls.space = CASES[request.param]


class TestSpace(SpaceContracts):
    """Of each space by itself."""

    tolerance = 1e-9


class TestCosts(CostContracts):
    """Of each space on two made-up devices."""
