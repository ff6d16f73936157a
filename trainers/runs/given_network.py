"""The one network that a command is given: an architecture file, or a line in the notation of a space."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search_spaces.architecture import SPACES, Architecture, architecture_of, make_space, read_architecture
from search_spaces.errors import InvalidInputError
from search_spaces.regular_files import text_of
from trainers.runs.validation import check_arguments, untitled

# Of a space that is made to be looked at: what there is the data tell.
LEAST_CLASSES, LOOKED_AT = 2, (224, 224)


def check_space(content: dict[str, Any]) -> None:
    """Raises: InvalidInputError for a space that cannot be made. What is null is left to the images that it is for."""
    left_open = {argument for argument, value in content.items() if value is None}
    named = {argument: value for argument, value in content.items() if value is not None}
    check_arguments("space", SPACES, named, given=frozenset({"num_classes", "channels", *left_open}))
    make_space(content, num_classes=LEAST_CLASSES, channels=1, image_size=LOOKED_AT)


def network_problems(architecture: str | None, arch: str | None, space: Mapping[str, Any] | None) -> Iterator[str]:
    """What is wrong with the keys that name a network, before anything of them is built."""
    if (architecture is None) == (arch is None):
        yield "architecture: give one of architecture (a file) and arch (a line in the notation of a space)"
    elif architecture is not None:
        if not os.path.isfile(os.path.expanduser(architecture)):
            yield f"architecture: no such file: {architecture}"
        if space is not None:
            yield "space: an architecture file names its own; leave it out"
    elif arch is not None:
        yield from _line_problems(arch, space)


def _line_problems(arch: str, space: Mapping[str, Any] | None) -> Iterator[str]:
    known = ", ".join(SPACES)
    try:
        notation_of(arch)
    except InvalidInputError as error:
        yield str(error)
        return
    if space is None:
        yield f"space: got none; name the space that arch is written in, as space=<name>, of {known}"
    elif not isinstance(space.get("name"), str):
        yield f"space.name: got {space.get('name')!r}, allowed: a name; choose one with space=<name>, of {known}"
    else:
        try:
            check_space(dict(space))
        except InvalidInputError as error:
            yield untitled(error)


def notation_of(arch: str) -> str:
    """The line that `arch` is, or that the text file it names holds. Raises: InvalidInputError."""
    path = os.path.expanduser(arch)
    if not os.path.isfile(path):
        return arch.strip()
    try:
        return text_of(Path(path)).strip()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"arch: cannot read {arch}: {error}") from error


def given_network(
    architecture: str | None,
    arch: str | None,
    space: Mapping[str, Any] | None,
    *,
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
) -> Architecture:
    """The network of the keys that `network_problems` found nothing wrong with.

    One of a line is of its space for images (height, width) of so many classes and channels; a file says so itself.
    Raises: InvalidInputError for a file or a line that is no network.
    """
    if architecture is not None:
        return read_architecture(Path(os.path.expanduser(architecture)))
    assert arch is not None and space is not None
    built = make_space(space, num_classes=num_classes, channels=channels, image_size=image_size)
    try:
        return architecture_of(built, built.parse(notation_of(arch)))
    except InvalidInputError as error:
        raise InvalidInputError(f"arch: {error}") from error
