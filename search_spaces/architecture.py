"""A network as a file: one choice per decision of one space, with a content hash. JSON, and nothing in it runs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from search_spaces.errors import EspalierError, InvalidInputError
from search_spaces.registry import Registry
from search_spaces.regular_files import text_of
from search_spaces.space import Choice, SearchSpace
from search_spaces.tensor_spec import TensorSpec

SCHEMA = 1
MOST_NUMBERS = 10**9  # in the weights of a network from a file, or in memory at one operation: some GB
SPACES: Registry[Any] = Registry("spaces")  # classes of SearchSpace


@dataclass(frozen=True)
class Architecture:
    """The network of `choices` in the space `space` built with `spec`.

    `input_shape` is that of its one input when deployed, without the batch; of several, a mapping from name to shape.
    """

    space: str
    spec: Mapping[str, Any]
    choices: Mapping[str, Choice]
    input_shape: Any

    @property
    def id(self) -> str:
        """sha256 of the content, the same for the same network everywhere."""
        text = json.dumps(self._content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self, *, origin: Mapping[str, Any] | None = None) -> str:
        """The file. `origin` says what it came from; the same network from elsewhere has the same id."""
        more = {} if origin is None else {"origin": dict(origin)}
        return json.dumps({**self._content(), "id": self.id, **more}, indent=2) + "\n"

    def _content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "space": self.space,
            "spec": dict(self.spec),
            "choices": dict(self.choices),
            "input_shape": _listed(self.input_shape),
        }


def architecture_of(space: SearchSpace, choices: Mapping[str, Choice]) -> Architecture:
    """The architecture file of one network of `space`."""
    space.check(choices)
    return Architecture(space.name, space.spec(), dict(choices), _shapes(space, choices))


def read_architecture(path: Path) -> Architecture:
    """The architecture in a file. Raises: InvalidInputError, naming the field, if it is not whole and valid."""
    try:
        content = json.loads(text_of(Path(path)))
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, no JSON, or a parser's limit
        raise InvalidInputError(f"cannot read an architecture from {path}: {error}") from error
    fields = {"schema": int, "space": str, "spec": dict, "choices": dict, "input_shape": list | dict, "id": str}
    for field, kind in fields.items():
        if not isinstance(content, dict) or not isinstance(content.get(field), kind):
            raise InvalidInputError(f"{path}: field {field!r} must be a {getattr(kind, '__name__', kind)}")
    if content["schema"] != SCHEMA:
        raise InvalidInputError(
            f"{path}: field 'schema' must be {SCHEMA}, got {content['schema']}; write it again with this version"
        )
    architecture = Architecture(content["space"], content["spec"], content["choices"], content["input_shape"])
    if architecture.id != content["id"]:
        raise InvalidInputError(
            f"{path}: field 'id' does not match the content; the file was changed after it was written"
        )
    with _naming(path, "spec" if architecture.space in SPACES else "space"):
        space = build_space(architecture)
    with _naming(path, "choices"):
        space.check(architecture.choices)
        _check_size(space, architecture.choices)
    shapes = _shapes(space, architecture.choices)
    if _listed(shapes) != architecture.input_shape:
        raise InvalidInputError(f"{path}: field 'input_shape' is not that of its choices")
    return replace(architecture, input_shape=shapes)


def _shapes(space: SearchSpace, choices: Mapping[str, Choice]) -> Any:
    shapes = {name: spec.shape for name, spec in space.inputs_of(choices).items()}
    return next(iter(shapes.values())) if len(shapes) == 1 else shapes


def _listed(shapes: Any) -> Any:
    """Shapes as JSON has them."""
    if isinstance(shapes, Mapping):
        return {name: _listed(shape) for name, shape in shapes.items()}
    return list(shapes) if isinstance(shapes, tuple) else shapes


def _check_size(space: SearchSpace, choices: Mapping[str, Choice]) -> None:
    operations = space.operations(choices)
    numbers = max(sum(each.params for each in operations), *(each.live_elements for each in operations))
    if numbers > MOST_NUMBERS:
        raise InvalidInputError(f"no network so large is built: {numbers:,} numbers, allowed: {MOST_NUMBERS:,}")


@contextmanager
def _naming(path: Path, field: str) -> Iterator[None]:
    """Puts the file and its field before what is wrong with it."""
    try:
        yield
    except InvalidInputError as error:
        raise type(error)(f"{path}: field {field!r}: {error}") from error


def build_space(architecture: Architecture) -> SearchSpace:
    """The space an architecture belongs to. Raises: InvalidInputError if it is unknown or its spec is wrong."""
    if architecture.space not in SPACES:
        raise InvalidInputError(f"unknown space {architecture.space!r}; known: {', '.join(SPACES)}")
    try:
        return SPACES[architecture.space](**architecture.spec)
    except EspalierError:
        raise
    except Exception as error:
        raise InvalidInputError(f"field 'spec' does not build a {architecture.space} space: {error}") from error


def make_space(
    content: Mapping[str, Any], *, num_classes: int, channels: int, image_size: tuple[int, int]
) -> SearchSpace:
    """The space of a section of the configuration, its `name` and arguments, for images (height, width).

    Raises: InvalidInputError.
    """
    arguments = {key: value for key, value in content.items() if key != "name"}
    try:
        kind: type[SearchSpace] = SPACES[content["name"]]
        arguments = kind.filled(arguments, image_size) | {"num_classes": num_classes, "channels": channels}
        return kind(**arguments)
    except EspalierError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        raise InvalidInputError(f"space: got {arguments}; {error}") from error


def architecture_svg(architecture: Architecture) -> str:
    """SVG text of the network: a file of its own, or a part of a page; in words too, for whoever cannot see it.

    Raises: InvalidInputError if its space is unknown or its choices are not of that space.
    """
    return build_space(architecture).draw(architecture.choices)


def inputs_of(architecture: Architecture) -> Mapping[str, TensorSpec]:
    """What the network takes when deployed."""
    return build_space(architecture).inputs_of(architecture.choices)


def build_network(architecture: Architecture) -> nn.Module:
    """The stand-alone network, freshly initialised; load its weights with `load_state_dict`."""
    return build_space(architecture).network(architecture.choices)
