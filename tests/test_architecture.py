"""Architecture files: written, read, and refused when they are not what they were."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spaces import draw, narrow_space, yaml_space

from search_spaces.architecture import SPACES, architecture_of, build_network, build_space, read_architecture
from search_spaces.errors import InvalidInputError, UnknownDecisionError


def content_of(name: str) -> dict[str, Any]:
    """An architecture file of one network, as plain values."""
    space = narrow_space(name)
    return json.loads(architecture_of(space, space.choices([0] * len(space.decisions))).to_json())


def write(folder: Path, content: Any) -> Path:
    path = folder / "network.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def with_id(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the hash that an honest writer gives it: over sorted keys, without spaces."""
    import hashlib

    body = {key: value for key, value in content.items() if key != "id"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return {**body, "id": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize("name", SPACES)
def test_written_architecture_is_read_back_the_same(name: str, tmp_path: Path) -> None:
    space = yaml_space(name)
    for indices in draw(space, 5, np.random.default_rng(0)):
        written = architecture_of(space, space.choices(indices))
        read = read_architecture(write(tmp_path, written.to_json()))
        assert read == written
        assert read.id == written.id
        assert build_space(read).indices(read.choices) == tuple(indices)


@pytest.mark.parametrize("name", SPACES)
def test_id_does_not_depend_on_the_order_of_keys(name: str, tmp_path: Path) -> None:
    content = content_of(name)
    turned = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(content.items())
    }
    assert read_architecture(write(tmp_path, turned)).id == content["id"] == with_id(content)["id"]


def test_networks_that_differ_in_one_choice_have_different_ids() -> None:
    space = narrow_space("mobile")
    first = space.choices([0] * len(space.decisions))
    ids = {architecture_of(space, {**first, d.name: c}).id for d in space.decisions for c in d.choices}
    assert len(ids) == 1 + sum(len(decision.choices) - 1 for decision in space.decisions)


@pytest.mark.parametrize("name", SPACES)
def test_network_of_a_file_takes_the_weights_of_the_extracted_one(name: str, tmp_path: Path) -> None:
    space = narrow_space(name)
    torch.manual_seed(0)
    indices = draw(space, 1, np.random.default_rng(1))[0]
    extracted = space.supernet().extract(space.choices(indices)).eval()
    path = write(tmp_path, architecture_of(space, space.choices(indices)).to_json())
    network = build_network(read_architecture(path)).eval()
    x = torch.randn(2, 3, 16, 16)
    assert not torch.equal(network(x), extracted(x))
    network.load_state_dict(extracted.state_dict())
    assert torch.equal(network(x), extracted(x))


TAMPERED = {
    "a choice": (("choices", "stage0.depth"), 2),
    "the space": (("space",), "nasbench201"),
    "the spec": (("spec", "num_classes"), 7),
    "the input": (("input_shape", 1), 64),
    "the hash": (("id",), "0" * 64),
}


def changed(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    inner: Any = content
    for key in path[:-1]:
        inner = inner[key]
    assert inner[path[-1]] != value
    inner[path[-1]] = value
    return content


@pytest.mark.parametrize("what", TAMPERED)
def test_file_changed_after_it_was_written_is_refused(what: str, tmp_path: Path) -> None:
    content = changed(content_of("mobile"), *TAMPERED[what])
    with pytest.raises(InvalidInputError, match="field 'id' does not match the content"):
        read_architecture(write(tmp_path, content))


WRONG = {  # path, value, error: the hash is right, the content is not
    "unknown space": (("space",), "moblie", "unknown space 'moblie'; known: mobile, nasbench201"),
    "wrong class": (("space",), "nasbench201", "field 'spec' does not build a nasbench201 space"),
    "wrong spec": (("spec", "kernels"), [3, 4], r"space\.kernels must be odd, got \[3, 4\]"),
    "spec of another type": (("spec", "depths"), 3, "field 'spec' does not build a mobile space"),
    "wrong choice": (("choices", "stage0.block0.kernel"), 9, r"stage0\.block0\.kernel has no choice 9"),
    "no number of classes": (("spec", "num_classes"), float("nan"), r"'spec': space\.num_classes must be .*, got nan"),
    "classes without end": (("spec", "num_classes"), 10**30, r"'spec': space\.num_classes must be .* to 1,000,000"),
    "blocks without end": (("spec", "depths"), [1, 10**9], r"'spec': space\.depths must be .* to 100, got"),
    "fraction of a choice": (("choices", "stage0.block0.kernel"), 5.0, r"stage0\.block0\.kernel has no choice 5\.0"),
    "choice of another type": (("choices", "resolution"), True, "resolution has no choice True"),
    "missing decision": (("choices",), {"resolution": 128}, "decisions missing"),
    "wrong input": (("input_shape",), [3, 32, 32], "field 'input_shape' is not that of its choices"),
    "future schema": (("schema",), 2, "field 'schema' must be 1, got 2"),
}


@pytest.mark.parametrize("what", WRONG)
def test_content_that_no_space_can_build_is_refused_by_name(what: str, tmp_path: Path) -> None:
    path, value, message = WRONG[what]
    content = with_id(changed(content_of("mobile"), path, value))
    with pytest.raises(InvalidInputError, match=message):
        read_architecture(write(tmp_path, content))


def test_a_network_larger_than_memory_is_refused_though_its_space_can_be_built(tmp_path: Path) -> None:
    content = content_of("mobile")
    content["spec"]["widths"][3:] = [[65_536], [65_536]]
    content["choices"] |= {"stage3.width": 65_536, "stage4.width": 65_536}
    with pytest.raises(InvalidInputError, match=r"field 'choices': no network so large is built: [\d,]{13,} numbers"):
        read_architecture(write(tmp_path, with_id(content)))


@pytest.mark.parametrize("field", ["schema", "space", "spec", "choices", "input_shape", "id"])
@pytest.mark.parametrize("value", [None, 1.5])
def test_field_that_is_missing_or_of_another_type_is_named(field: str, value: float | None, tmp_path: Path) -> None:
    content = content_of("nasbench201")
    del content[field]
    if value is not None:
        content[field] = value
    with pytest.raises(InvalidInputError, match=f"network.json: field '{field}' must be a"):
        read_architecture(write(tmp_path, content))


@pytest.mark.parametrize("text", ["", "[]", "null", "\x00", content_of("mobile")["id"]])
def test_file_that_is_no_architecture_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"network\.json"):
        read_architecture(write(tmp_path, text))


def test_truncated_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    text = json.dumps(content_of("nasbench201"))
    for length in range(0, len(text), 7):
        with pytest.raises(InvalidInputError, match="cannot read an architecture from"):
            read_architecture(write(tmp_path, text[:length]))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot read an architecture from"):
        read_architecture(tmp_path / "none.json")


def test_reading_runs_nothing_that_the_file_names(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    for path in (("space",), ("spec", "_target_"), ("choices", "resolution")):
        content = content_of("mobile")
        inner = content[path[0]] if len(path) == 2 else content
        inner[path[-1]] = code
        with pytest.raises(InvalidInputError):
            read_architecture(write(tmp_path, with_id(content)))
    assert not trace.exists()


def test_architecture_of_choices_outside_the_space_is_refused() -> None:
    space = narrow_space("nasbench201")
    choices = space.choices([0] * 6)
    with pytest.raises(UnknownDecisionError, match="edge01 has no choice 'max_pool'"):
        architecture_of(space, {**choices, "edge01": "max_pool"})
    with pytest.raises(UnknownDecisionError, match=r"unknown \['edge99'\]"):
        architecture_of(space, {**choices, "edge99": "none"})
