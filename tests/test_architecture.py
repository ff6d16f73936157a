"""Architecture files: written, read, and refused by their field when they are not what they were. Nothing runs."""

import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces import draw, narrow_space, yaml_space
from toy_spaces import SensorSpace

from search_spaces.architecture import SPACES, architecture_of, build_network, build_space, inputs_of, read_architecture
from search_spaces.errors import InvalidInputError, UnknownDecisionError
from search_spaces.tensor_spec import random_inputs


def content_of(name: str) -> dict[str, Any]:
    """An architecture file of one network, as plain values."""
    space = narrow_space(name)
    indices = space.rule_matrix.best(-np.arange(space.num_choices, dtype=float))  # the first choices, rules obeyed
    return json.loads(architecture_of(space, space.choices(indices)).to_json())


def write(folder: Path, content: Any) -> Path:
    path = folder / "network.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def with_id(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the hash that an honest writer gives it: over sorted keys, without spaces."""
    body = {key: value for key, value in content.items() if key != "id"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**body, "id": hashlib.sha256(text.encode()).hexdigest()}


def replaced(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy with the value at a place, at any depth, replaced."""
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


@pytest.mark.parametrize("name", SPACES)
def test_written_architecture_is_read_back_the_same_whatever_the_order_of_its_keys(name: str, tmp_path: Path) -> None:
    space = yaml_space(name)
    for indices in draw(space, 5, np.random.default_rng(0)):
        written = architecture_of(space, space.choices(indices))
        content = json.loads(written.to_json(origin={"run": "here"}))
        assert content["id"] == with_id({k: v for k, v in content.items() if k != "origin"})["id"]
        read = read_architecture(write(tmp_path, dict(reversed(content.items()))))
        assert read == written and read.id == written.id
        assert build_space(read).indices(read.choices) == tuple(indices)
        assert read.input_shape == space.input_shape(read.choices) == inputs_of(read)["image"].shape


def test_networks_that_differ_in_one_choice_have_different_ids() -> None:
    space = narrow_space("mobile")
    first = space.choices([0] * len(space.decisions))
    ids = {architecture_of(space, {**first, d.name: c}).id for d in space.decisions for c in d.choices}
    assert len(ids) == 1 + sum(len(decision.choices) - 1 for decision in space.decisions)


@pytest.mark.parametrize("name", SPACES)
def test_network_of_a_file_takes_the_weights_of_the_extracted_one(name: str, tmp_path: Path) -> None:
    space = narrow_space(name)
    torch.manual_seed(0)
    indices = space.rule_matrix.best(np.arange(space.num_choices, dtype=float))  # the last choices, rules obeyed
    extracted = space.supernet().extract(space.choices(indices)).eval()
    path = write(tmp_path, architecture_of(space, space.choices(indices)).to_json())
    network = build_network(read_architecture(path)).eval()
    (x,) = random_inputs(space.inputs, 2, seed=0)
    assert not torch.equal(network(x), extracted(x))
    network.load_state_dict(extracted.state_dict())
    assert torch.equal(network(x), extracted(x))


def test_a_space_of_several_inputs_and_rules_writes_each_shape_and_only_networks_that_obey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SPACES._registered, "sensors", SensorSpace)
    space = SensorSpace()
    written = architecture_of(space, {"sound": 8, "motion": 4})
    assert json.loads(written.to_json())["input_shape"] == {"sound": [8], "motion": [5]}
    assert read_architecture(write(tmp_path, written.to_json())) == written
    broken = replaced(json.loads(written.to_json()), ("choices", "motion"), 8)
    with pytest.raises(InvalidInputError, match=r"field 'choices': .*narrow enough"):
        read_architecture(write(tmp_path, with_id(broken)))


TAMPERED = [
    (("choices", "stage0.depth"), 2),
    (("space",), "nasbench201"),
    (("spec", "num_classes"), 7),
    (("input_shape", 1), 64),
    (("id",), "0" * 64),
]


@pytest.mark.parametrize(("place", "value"), TAMPERED)
def test_file_changed_after_it_was_written_is_refused(place: tuple[Any, ...], value: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="field 'id'"):
        read_architecture(write(tmp_path, replaced(content_of("mobile"), place, value)))


WRONG = [  # the hash is right, the content is not
    (("space",), "moblie"),
    (("space",), "nasbench201"),
    (("spec", "kernels"), [3, 4]),
    (("spec", "depths"), 3),
    (("spec", "num_classes"), float("nan")),
    (("spec", "num_classes"), 10**30),
    (("spec", "depths"), [1, 10**9]),
    (("choices", "stage0.block0.kernel"), 9),
    (("choices", "stage0.block0.kernel"), 3.0),
    (("choices", "resolution"), True),
    (("choices",), {"resolution": 128}),
    (("input_shape",), [3, 32, 32]),
    (("schema",), 2),
]


@pytest.mark.parametrize(("place", "value"), WRONG, ids=lambda part: str(part)[:40])
def test_content_that_no_space_can_build_is_refused_by_its_field(
    place: tuple[Any, ...], value: Any, tmp_path: Path
) -> None:
    content = with_id(replaced(content_of("mobile"), place, value))
    field = "spec" if value == "nasbench201" else place[0]  # a space that there is, with the spec of another
    with pytest.raises(InvalidInputError, match=f"field '{field}'"):
        read_architecture(write(tmp_path, content))


def test_a_network_larger_than_memory_is_refused_though_its_space_can_be_built(tmp_path: Path) -> None:
    content = content_of("mobile")
    content["spec"]["widths"][3:] = [[65_536], [65_536]]
    content["choices"] |= {"stage3.width": 65_536, "stage4.width": 65_536}
    with pytest.raises(InvalidInputError, match=r"field 'choices': .*[\d,]{13,} numbers"):
        read_architecture(write(tmp_path, with_id(content)))


@pytest.mark.parametrize("field", ["schema", "space", "spec", "choices", "input_shape", "id"])
def test_field_that_is_missing_or_of_another_type_is_named(field: str, tmp_path: Path) -> None:
    content = content_of("nasbench201")
    del content[field]
    for wrong in (content, {**content, field: 1.5}):
        with pytest.raises(InvalidInputError, match=rf"network\.json: field '{field}'"):
            read_architecture(write(tmp_path, wrong))


TEXTS = ["", "[]", "null", "\x00", "[" * 100_000, '{"a":' * 100_000, "1" * 5000, '{"id": 1e400}']


def test_text_that_is_no_architecture_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = json.dumps(content_of("nasbench201"))
    for text in (*TEXTS, *(whole[:length] for length in range(0, len(whole), 7))):
        with pytest.raises(InvalidInputError, match=r"network\.json"):
            read_architecture(write(tmp_path, text))
    with pytest.raises(InvalidInputError, match=r"none\.json"):
        read_architecture(tmp_path / "none.json")


def test_reading_runs_nothing_that_the_file_names(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    for place in (("space",), ("spec", "_target_"), ("choices", "resolution")):
        with pytest.raises(InvalidInputError):
            read_architecture(write(tmp_path, with_id(replaced(content_of("mobile"), place, code))))
    assert not trace.exists()


def test_architecture_of_choices_outside_the_space_is_refused() -> None:
    space = narrow_space("nasbench201")
    choices = space.choices([0] * 6)
    for wrong in ({**choices, "edge01": "max_pool"}, {**choices, "edge99": "none"}, {"edge01": "none"}):
        with pytest.raises(UnknownDecisionError):
            architecture_of(space, wrong)


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


def refusal(path: Path) -> str | None:
    try:
        read_architecture(path)
    except InvalidInputError as error:
        return str(error)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_any_value_anywhere_in_an_architecture_is_read_or_refused_by_its_field(name: str, tmp_path: Path) -> None:
    content, path = content_of(name), tmp_path / "network.json"

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(place=st.sampled_from(places(content)), value=JSON, honest=st.booleans())
    def each(place: tuple[Any, ...], value: Any, honest: bool) -> None:
        changed = replaced(content, place, value)
        path.write_text(json.dumps(with_id(changed) if honest else changed), encoding="utf-8")
        message = refusal(path)
        allowed = f"({place[0]}|choices|id|input_shape)"  # another spec may leave out a choice
        assert message is None or re.search(f"'{allowed}'", message), (place, message)

    each()
