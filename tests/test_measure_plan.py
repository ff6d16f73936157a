"""What `espalier-measure` draws of a space to be measured."""

from random import Random

import pytest
from spaces import all_networks, narrow_space, small_space
from toy_spaces import SensorSpace

from hardware_models.latency_models.roofline import price_kind
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidInputError
from search_spaces.operation import parse_operation
from trainers.devices.measure_plan import distinct_operations, draw_operations, random_networks


def test_drawn_operations_hold_every_kind() -> None:
    operations = distinct_operations(narrow_space("mobile"))
    drawn = draw_operations(operations, 12, Random(0))
    assert len(set(drawn)) == 12
    assert set(drawn) < set(operations)
    assert {price_kind(operation) for operation in drawn} == {price_kind(operation) for operation in operations}


def test_distinct_operations_are_those_of_all_networks() -> None:
    space = small_space("depths")
    of_networks = {
        parse_operation(operation.notation)
        for indices in all_networks(space)
        for operation in space.operations(space.choices(indices))
    }
    assert set(distinct_operations(space)) == of_networks


def test_networks_that_are_drawn_obey_the_rules_of_their_space() -> None:
    items = random_networks(SensorSpace(), 8, Random(0))  # of nine combinations all but the widest
    assert sum(item.subject.choices["sound"] + item.subject.choices["motion"] > 12 for item in items) == 0
    with pytest.raises(InvalidInputError):
        random_networks(SensorSpace(), 9, Random(0))


def test_every_network_of_a_small_space_can_be_drawn_once() -> None:
    space = small_space("depths")
    items = random_networks(space, space.num_networks, Random(0))
    drawn = {space.indices(item.subject.choices) for item in items if isinstance(item.subject, Architecture)}
    assert drawn == {tuple(map(int, indices)) for indices in all_networks(space)}
