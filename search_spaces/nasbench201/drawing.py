"""A cell of NAS-Bench-201 as a picture: four nodes, an operation on each of six edges, and the network around it."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from search_spaces.nasbench201.cell_operations import CELL_OPERATIONS, NONE
from search_spaces.nasbench201.space import EDGES, NUM_STAGES, NasBench201Space, edge_name, live_edges
from search_spaces.space import Choice
from search_spaces.svg import add, canvas, label, written

WIDTH, HEIGHT = 400, 342
LINE = 132  # height of the nodes
NODES = (30, 143, 257, 370)
# Height of the middle of each edge over the line of nodes, so that no two edges and no two words cross.
RISE = {(0, 1): 0, (1, 2): 0, (2, 3): 0, (0, 2): 62, (1, 3): -62, (0, 3): 112}
MOST_LETTERS, LINE_HEIGHT = 8, 13  # of words between two nodes: more would reach a node or the head of the arrow


def draw_cell(space: NasBench201Space, choices: Mapping[str, Choice]) -> str:
    """SVG text. Edges that carry nothing to the output are dashed and pale, whether `none` or cut off."""
    live = live_edges(choices)
    root = canvas(
        WIDTH,
        HEIGHT,
        title=f"Cell with {len(live)} of {len(EDGES)} edges alive",
        description=f"{space.notation(choices)}. {_in_words(choices, live)}",
    )
    for edge in EDGES:
        _edge(root, edge, str(choices[edge_name(*edge)]), alive=edge in live)
    for node, (x, name) in enumerate(zip(NODES, ("in", "1", "2", "out"), strict=True)):
        add(root, "circle", "ea-l" if node in (1, 2) else "ea-l ea-end", cx=x, cy=LINE, r=15)
        label(root, name, x=x, y=LINE + 4, style="ea-b ea-m")
    _frame(root, space)
    return written(root)


def _edge(root: Element, edge: tuple[int, int], operation: str, *, alive: bool) -> None:
    a, b = (NODES[node] for node in edge)
    rise = RISE[edge]
    inset = 16 if rise == 0 else 11
    x1, x2, y = a + inset, b - inset, LINE - (0 if rise == 0 else 11 if rise > 0 else -11)
    # The middle of this cubic lies three quarters of the way to its control points.
    control = y - (rise - (11 if rise > 0 else -11 if rise < 0 else 0)) * 4 / 3
    middle = (y + 3 * control) / 4
    bend = 0.22 * (x2 - x1)
    path = f"M{x1:g} {y:g}C{x1 + bend:g} {control:g} {x2 - bend:g} {control:g} {x2:g} {y:g}"
    style = f"ea-e{CELL_OPERATIONS[operation].colour}" if alive else "ea-l"
    line = add(root, "path", style, d=path)
    if not alive:
        line.attrib |= {"stroke-dasharray": "3 4", "opacity": ".6"}
    else:
        add(root, "path", style, d=_arrow_head(x2, y, rise))
    below = 14 if rise < 0 else -6
    words = _words(operation)
    lines = words.split(" ", 1) if rise == 0 and len(words) > MOST_LETTERS else [words]
    for line_above, text in enumerate(reversed(lines)):
        height = middle + below - LINE_HEIGHT * line_above
        label(root, text, x=(a + b) / 2, y=height, style="ea-b ea-m" if alive else "ea-s ea-m")


def _words(operation: str) -> str:
    return operation if operation == NONE else CELL_OPERATIONS[operation].words or operation


def _arrow_head(x: float, y: float, rise: float) -> str:
    """Two strokes at the end of an edge, turned as it arrives: along the line, from above or from below."""
    if rise == 0:
        return f"M{x - 6:g} {y - 4:g}L{x:g} {y:g}L{x - 6:g} {y + 4:g}"
    turn = 1 if rise > 0 else -1
    return f"M{x - 7:g} {y - 3 * turn:g}L{x:g} {y:g}L{x + 1:g} {y - 8 * turn:g}"


def _frame(root: Element, space: NasBench201Space) -> None:
    """The network that repeats the cell: three stages, halved in pixels and doubled in channels between them."""
    y, width, gap = 250, 104, 32
    label(root, "the network around it", x=12, y=y - 14, style="ea-s")
    for stage in range(NUM_STAGES):
        channels, pixels, _ = space.stage_shape(stage)
        x = 12 + stage * (width + gap)
        add(root, "rect", "ea-band", x=x, y=y, width=width, height=46, rx=7)
        label(root, f"{space.num_cells} × cell", x=x + width / 2, y=y + 19, style="ea-b ea-m")
        label(root, f"{channels} ch · {pixels} px", x=x + width / 2, y=y + 36, style="ea-s ea-m")
        if stage:
            add(root, "line", "ea-l", x1=x - gap + 3, x2=x - 3, y1=y + 23, y2=y + 23)
            label(root, "÷ 2", x=x - gap / 2, y=y + 18, style="ea-s ea-m")
    notes = (
        f"a 3×3 stem before, pooling and {space.num_classes} classes after",
        "dashed edges carry nothing to the output",
    )
    for line, note in enumerate(notes):
        label(root, note, x=12, y=y + 66 + 16 * line, style="ea-s")


def _in_words(choices: Mapping[str, Choice], live: list[tuple[int, int]]) -> str:
    parts = [
        f"node {source} to node {target}: {_words(str(choices[edge_name(source, target)]))}"
        + ("" if (source, target) in live else ", unused")
        for source, target in EDGES
    ]
    return "; ".join(parts)
