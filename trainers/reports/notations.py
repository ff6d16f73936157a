"""The network that a notation stands for, read back."""

import re
from collections.abc import Callable, Mapping

from hardware_models.placement.placed_space import PlacedSpace
from search_spaces.errors import EspalierError, InvalidInputError
from search_spaces.mobile.space import BlockName
from search_spaces.nasbench201.space import parse_arch
from search_spaces.space import Choice, SearchSpace

Read = Callable[[str], dict[str, Choice]]
_BLOCK = re.compile(r"k(\d+)e(\d+)(se)?")


def network_of(space: SearchSpace, notation: str) -> dict[str, Choice]:
    """The choices of the network that `space` writes so: of a decision that it does not use, the first.

    Raises: InvalidInputError if no network of the space is written so.
    """
    own = space.base if isinstance(space, PlacedSpace) else space
    first = {decision.name: decision.choices[0] for decision in space.decisions}
    refusal = InvalidInputError(f"{notation!r} is no network of the space {own.name} that was searched")
    try:
        choices = {**first, **READERS[own.name](notation)}
        space.check(choices)
    except (EspalierError, ValueError) as error:
        raise refusal from error
    if space.notation(choices) != notation:
        raise refusal
    return choices


def _read_mobile(notation: str) -> dict[str, Choice]:
    resolution, *stages = notation.split(" | ")
    choices: dict[str, Choice] = {"resolution": int(resolution.removesuffix("px"))}
    for stage, text in enumerate(stages):
        width, _, blocks = text.partition(": ")
        found = [match.groups() for match in _BLOCK.finditer(blocks)]
        choices |= {f"stage{stage}.width": int(width), f"stage{stage}.depth": len(found)}
        for block, (kernel, expand, se) in enumerate(found):
            name = BlockName(stage, block)
            choices |= {name.own("kernel"): int(kernel), name.own("expand"): int(expand)}
            choices[name.own("se")] = "on" if se else "off"
    return choices


READERS: Mapping[str, Read] = {"mobile": _read_mobile, "nasbench201": parse_arch}
