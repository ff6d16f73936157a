"""The notation of DARTS cells: the `Genotype(...)` that the field publishes, written and read without running it."""

import re
from collections.abc import Mapping, Sequence

from search_spaces.darts.edge_operations import NONE
from search_spaces.errors import InvalidInputError
from search_spaces.space import Choice

CELLS = ("normal", "reduce")
NUM_INPUTS, NUM_NODES = 2, 4  # outputs of the two cells before, and nodes of its own
NODES = tuple(range(NUM_INPUTS, NUM_INPUTS + NUM_NODES))
EDGES = tuple((source, target) for target in NODES for source in range(target))
READ_PER_NODE = 2

_PAIR = r"\('[a-z_0-9]{1,40}',[0-9]\)"
_EDGES = rf"\[((?:{_PAIR},?){{0,8}})\]"
_CONCAT = r"(?:range\(2,6\)|list\(range\(2,6\)\)|\[2,3,4,5\]|\(2,3,4,5\))"
_GENOTYPE = re.compile(rf"Genotype\(normal={_EDGES},normal_concat={_CONCAT},reduce={_EDGES},reduce_concat={_CONCAT}\)")
_FIELDS = re.compile(r"\('([a-z_0-9]+)',([0-9])\)")


def edge_name(cell: str, source: int, target: int) -> str:
    """The decision of an edge, as `normal_edge02`."""
    return f"{cell}_edge{source}{target}"


def format_genotype(choices: Mapping[str, Choice]) -> str:
    """The genotype of two cells, inputs of a node in rising order; a cell that `choices` lack has no edges."""
    return (
        f"Genotype(normal={_pairs('normal', choices)}, normal_concat=range(2, 6), "
        f"reduce={_pairs('reduce', choices)}, reduce_concat=range(2, 6))"
    )


def _pairs(cell: str, choices: Mapping[str, Choice]) -> str:
    found = [(choices.get(edge_name(cell, *edge), NONE), edge[0]) for edge in EDGES]
    return f"[{', '.join(f'({name!r}, {source})' for name, source in found if name != NONE)}]"


def parse_genotype(text: str, operations: Sequence[str], cells: Sequence[str]) -> dict[str, Choice]:
    """The choices of these cells, two edges per node in either order.

    Spaces, quotes and the way that `range(2, 6)` is written are free; a cell that is not in `cells` is written `[]`.
    Raises: InvalidInputError if the text is no such genotype.
    """
    found = _GENOTYPE.fullmatch(re.sub(r"\s+", "", text).replace('"', "'"))
    if found is None:
        raise InvalidInputError(
            f"not a genotype of DARTS: {text[:300]!r}; it is written Genotype(normal=[('sep_conv_3x3', 0), ...], "
            "normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
        )
    choices: dict[str, Choice] = {edge_name(cell, *edge): NONE for cell in cells for edge in EDGES}
    for cell, written in zip(CELLS, found.groups(), strict=True):
        pairs = _FIELDS.findall(written)
        num_pairs = READ_PER_NODE * NUM_NODES if cell in cells else 0
        if len(pairs) != num_pairs:
            raise InvalidInputError(f"{cell}: got {len(pairs)} edges, allowed: {num_pairs}, two for each node in turn")
        for place, (name, source) in enumerate(pairs):
            edge = int(source), NODES[place // READ_PER_NODE]
            if name not in operations or name == NONE or edge not in EDGES:
                raise InvalidInputError(
                    f"{cell}: got ({name!r}, {source}) into node {edge[1]}, allowed: a node below it, with one of "
                    f"{', '.join(operation for operation in operations if operation != NONE)}"
                )
            if choices[edge_name(cell, *edge)] != NONE:
                raise InvalidInputError(f"{cell}: node {edge[1]} reads node {source} twice; give two nodes that differ")
            choices[edge_name(cell, *edge)] = name
    return choices
