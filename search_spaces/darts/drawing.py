"""DARTS cells as a picture: a column for each node, and a row for each edge with the operation on it."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from search_spaces.darts.edge_operations import EDGE_OPERATIONS, NONE
from search_spaces.darts.genotype import EDGES, NODES, edge_name
from search_spaces.darts.space import DartsSpace
from search_spaces.space import Choice
from search_spaces.svg import add, canvas, label, written

WIDTH, LEFT, COLUMN = 560, 40, 96
ROW, HEAD = 26, 52  # pixels of an edge, and over the first one
NAMES = ("c k-2", "c k-1", "0", "1", "2", "3")
TITLES = {"normal": "normal cell", "reduce": "reduction cell, stride 2 from both inputs"}


def draw_cells(space: DartsSpace, choices: Mapping[str, Choice]) -> str:
    """SVG text. Nodes stand from left to right; their concatenation is the cell's output."""
    rows = {kind: _taken(kind, choices) for kind in space.kinds}
    heights = [HEAD + ROW * len(edges) + 34 for edges in rows.values()]
    cells = "; ".join(
        f"{TITLES[kind]}: "
        + ", ".join(f"node {NAMES[s]} to node {NAMES[t]} {EDGE_OPERATIONS[name].words}" for s, t, name in edges)
        for kind, edges in rows.items()
    )
    root = canvas(WIDTH, sum(heights) + 24, title="Cells of DARTS", description=f"{space.notation(choices)}. {cells}")
    top = 0
    for (kind, edges), height in zip(rows.items(), heights, strict=True):
        _cell(root, kind, edges, top=top, height=height)
        top += height
    beside = ", each edge beside an identity" if space.skip_beside else ""
    note = f"{space.num_cells} cells, {space.width} channels in the first; nodes 0 to 3 are concatenated{beside}"
    label(root, note, x=12, y=top + 12, style="ea-s")
    return written(root)


def _taken(kind: str, choices: Mapping[str, Choice]) -> list[tuple[int, int, str]]:
    """Source, target and operation of each edge that is there."""
    named = [(source, target, str(choices[edge_name(kind, source, target)])) for source, target in EDGES]
    return [edge for edge in named if edge[2] != NONE]


def _cell(root: Element, kind: str, edges: list[tuple[int, int, str]], *, top: int, height: int) -> None:
    label(root, TITLES[kind], x=12, y=top + 16, style="ea-b")
    for node, name in enumerate(NAMES):
        x = _column(node)
        add(root, "line", "ea-l", x1=x, x2=x, y1=top + HEAD, y2=top + height - 14).attrib["stroke-dasharray"] = "2 4"
        add(root, "circle", "ea-l" if node in NODES else "ea-l ea-end", cx=x, cy=top + HEAD - 14, r=15)
        label(root, name, x=x, y=top + HEAD - 10, style="ea-t ea-m" if node not in NODES else "ea-b ea-m")
    for row, (source, target, name) in enumerate(edges):
        operation = EDGE_OPERATIONS[name]
        y, start, end = top + HEAD + ROW * (row + 1), _column(source), _column(target)
        style = f"ea-e{operation.colour}"
        add(root, "circle", f"ea-f{operation.colour}", cx=start, cy=y, r=3)
        add(root, "path", style, d=f"M{start} {y}L{end - 2} {y}M{end - 8} {y - 4}L{end - 2} {y}L{end - 8} {y + 4}")
        label(root, operation.words, x=(start + end) / 2, y=y - 6, style="ea-t ea-m")


def _column(node: int) -> int:
    return LEFT + COLUMN * node
