"""Architecture files from elsewhere are data: whatever a field holds, it is read, or refused by the field's name."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import narrow_space
from test_architecture import with_id

from search_spaces.architecture import SPACES, architecture_of, read_architecture
from search_spaces.errors import InvalidInputError

NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 8, 2**31, 2**63, 10**40, 1e308, float("nan"), float("inf"), 0.5, -0.0])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=6) | st.sampled_from(["k3e3", "__class__", "../x", "\x00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


def places(content: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value stands in the content, at any depth."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in items for place in ((*above, key), *places(value, (*above, key)))]


def replaced(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


def refusal(path: Path) -> str | None:
    try:
        read_architecture(path)
    except InvalidInputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", SPACES)
def test_any_value_anywhere_in_an_architecture_is_read_or_refused_by_its_field(name: str, tmp_path: Path) -> None:
    space, path = narrow_space(name), tmp_path / "network.json"
    content = json.loads(architecture_of(space, space.choices([0] * len(space.decisions))).to_json())
    refused = []

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(place=st.sampled_from(places(content)), value=JSON, honest=st.booleans())
    def each(place: tuple[Any, ...], value: Any, honest: bool) -> None:
        changed = replaced(content, place, value)
        path.write_text(json.dumps(with_id(changed) if honest else changed), encoding="utf-8")
        told = refusal(path)
        if told is not None:
            refused.append(told)
            assert re.search(rf"'({place[0]}|id|input_shape)'", told), (place, told)

    each()
    assert len(refused) > 200


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, '"\\ud800"', '{"id": 1e400}'])
def test_text_that_defeats_a_parser_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"network\.json"):
        read_architecture(path)
