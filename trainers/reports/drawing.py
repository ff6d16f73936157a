"""A picture of an architecture."""

from collections.abc import Callable, Mapping

from search_spaces.architecture import Architecture, build_space
from search_spaces.mobile.drawing import draw_chain
from search_spaces.nasbench201.drawing import draw_cell
from search_spaces.space import Choice, SearchSpace

Draw = Callable[..., str]  # from a space and the choices of one of its networks
DRAWINGS: Mapping[str, Draw] = {"mobile": draw_chain, "nasbench201": draw_cell}


def architecture_svg(architecture: Architecture) -> str:
    """SVG text of the network: a file of its own, or a part of a page; in words too, for whoever cannot see it.

    Raises: InvalidInputError if its space is unknown or its choices are not of that space.
    """
    space = build_space(architecture)
    space.check(architecture.choices)
    return space_svg(space, architecture.choices)


def space_svg(space: SearchSpace, choices: Mapping[str, Choice]) -> str:
    return DRAWINGS[space.name](space, choices)
