"""A marked network as a picture: a bar for each operation with weights, from the input above to the output below."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from search_spaces.operation import Operation
from search_spaces.space import Choice
from search_spaces.svg import LIGHT, add, canvas, label, legend, written

if TYPE_CHECKING:
    from search_spaces.marked.space import MarkedSpace

WIDTH = 400
GUTTER, MIDDLE, HALF, WORDS = 12, 200, 70, 284  # left edge of places, bars' centre and half length, edge of words
ROW, TOP = 18, 34
DENSE, POINTWISE, DEPTHWISE, LINEAR = range(4)
NAMES = {DENSE: "convolution", POINTWISE: "1×1", DEPTHWISE: "depthwise", LINEAR: "linear"}


def draw_layers(space: "MarkedSpace", choices: Mapping[str, Choice]) -> str:
    """SVG text. Lengths are square roots of the channels that an operation gives, at one scale for a space."""
    rows = list(_rows(space, choices))
    height = TOP + ROW * len(rows) + 40
    words = "; ".join(f"{place}: {_words(operation)}" for place, operation in rows)
    title, description = f"{space.name}: {len(rows)} operations with weights", f"{space.notation(choices)}. {words}"
    root = canvas(WIDTH, height, title=title, description=description)
    add(root, "line", "ea-l", x1=MIDDLE, x2=MIDDLE, y1=24, y2=height - 30)
    label(
        root,
        " × ".join(map(str, space.inputs_of(choices)[next(iter(space.inputs))].shape)),
        x=MIDDLE,
        y=18,
        style="ea-m",
    )
    largest = {d.name: d.choices[-1] for d in space.decisions}
    widest = max(op.out_shape[0] for _, op in [*rows, *_rows(space, largest)])
    before = ""
    for row, (place, operation) in enumerate(rows):
        y, half = TOP + ROW * row, HALF * (operation.out_shape[0] / widest) ** 0.5
        if row % 2:
            add(root, "rect", "ea-band", x=4, y=y, width=WIDTH - 8, height=ROW, rx=3)
        colour = _colour(operation) % len(LIGHT)
        add(root, "rect", f"ea-f{colour}", x=MIDDLE - half, y=y + 3, width=2 * half, height=ROW - 6, rx=3)
        label(root, place[-20:] if place != before else "", x=GUTTER, y=y + 13, style="ea-s")
        label(root, _words(operation), x=WORDS, y=y + 13, style="ea-s")
        before = place
    seen = sorted({_colour(operation) for _, operation in rows})
    legend(root, [(f"ea-f{k % len(LIGHT)}", NAMES[k]) for k in seen], x=GUTTER, y=height - 10)
    return written(root)


def _rows(space: "MarkedSpace", choices: Mapping[str, Choice]) -> Iterator[tuple[str, Operation]]:
    """Operations with weights, and where they stand: the path of what holds the layer."""
    for path, operations in space.operations_at(choices).items():
        for operation in operations:
            if operation.params:
                yield path.rpartition(".")[0] or path, operation


def _colour(operation: Operation) -> int:
    if operation.kind != "conv":
        return LINEAR
    if operation.groups > 1:
        return DEPTHWISE
    return POINTWISE if operation.window == (1, 1) else DENSE


def _words(operation: Operation) -> str:
    channels, height, width = operation.out_shape
    window = "" if operation.window == (1, 1) else "{}×{} ".format(*operation.window)
    stride = f" /{operation.stride}" if operation.stride > 1 else ""
    return f"{window}{channels}{stride}" + (f" @ {height}×{width}" if height * width > 1 else "")
