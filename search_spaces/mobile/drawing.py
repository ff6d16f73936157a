"""A chain of MBConv blocks as a picture: from the image above to the classes below, a bar for each block."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from search_spaces.mobile.space import CLASSIFIER_CHANNELS, HEAD_CHANNELS, STEM_CHANNELS, BlockName, MobileSpace
from search_spaces.space import Choice
from search_spaces.svg import LIGHT, add, canvas, label, legend, written

WIDTH = 400
MIDDLE, HALF = 192, 92  # of the bars: centre, and half the length of the longest
BLOCK, GAP, PAD = 18, 4, 9  # heights: a bar, the space to the next, and around a stage
GUTTER, LABELS = 12, 296  # left edges of the stages' words and of the blocks'


def draw_chain(space: MobileSpace, choices: Mapping[str, Choice]) -> str:
    """SVG text. Solid: channels that a block gives; pale: the hidden ones it expands to. Lengths are square roots.

    The scale is the same for all networks of one space, so drawings side by side compare.
    """
    built = [name for name in space.blocks if name.block < int(choices[name.depth])]
    kept = [[name for name in built if name.stage == stage] for stage in range(len(space.widths))]
    height = 96 + sum(_stage_height(blocks) for blocks in kept) + 92
    root = canvas(
        WIDTH,
        height,
        title=f"Chain of {len(built)} MBConv blocks at {choices['resolution']} px",
        description=_in_words(space, choices, kept),
    )
    add(root, "line", "ea-l", x1=MIDDLE, x2=MIDDLE, y1=30, y2=height - 46)
    rows, columns = space.image_pixels(int(choices["resolution"]))
    label(root, f"image {rows} × {columns} px", x=MIDDLE, y=20, style="ea-b ea-m")
    widest = max(max(w) for w in space.widths) * max(space.expansions)
    scale = HALF / max(widest, HEAD_CHANNELS, CLASSIFIER_CHANNELS) ** 0.5
    _plain(root, scale, 38, channels=STEM_CHANNELS, words=("stem", f"3×3 conv, stride {space.strides[0]}"))
    y = 74.0
    for blocks in kept:
        _stage(root, space, choices, blocks, y, scale)
        y += _stage_height(blocks)
    _plain(root, scale, y + 8, channels=HEAD_CHANNELS, words=("head", f"1×1 conv, {HEAD_CHANNELS}"))
    _plain(root, scale, y + 36, channels=CLASSIFIER_CHANNELS, words=("classifier", f"{space.num_classes} classes"))
    _legend(root, space, height)
    return written(root)


def _stage_height(blocks: list[BlockName]) -> float:
    return max(len(blocks) * (BLOCK + GAP) - GAP, 26) + 2 * PAD


def _stage(
    root: Element, space: MobileSpace, choices: Mapping[str, Choice], blocks: list[BlockName], y: float, scale: float
) -> None:
    height, first = _stage_height(blocks), blocks[0]
    add(root, "rect", "ea-band", x=4, y=y + 2, width=WIDTH - 8, height=height - 4, rx=7)
    height_px, width_px = space.shapes_of(first, choices)[2][1:]
    label(root, f"{choices[first.width]} ch", x=GUTTER, y=y + height / 2 - 2, style="ea-b")
    label(root, f"{height_px}×{width_px}", x=GUTTER, y=y + height / 2 + 13, style="ea-s")
    top = y + (height - len(blocks) * (BLOCK + GAP) + GAP) / 2
    for i, name in enumerate(blocks):
        _block(root, space, choices, name, top + i * (BLOCK + GAP), scale)


def _block(
    root: Element, space: MobileSpace, choices: Mapping[str, Choice], name: BlockName, y: float, scale: float
) -> None:
    colour = space.kernels.index(int(choices[name.own("kernel")])) % len(LIGHT)
    _, hidden = space.channels_of(name, choices)
    given = int(choices[name.width])  # slimmer, so that neither bar hides the other, whichever is longer
    for style, channels, slimmer in ((f"ea-o{colour}", hidden, 0), (f"ea-f{colour}", given, 4)):
        half = scale * channels**0.5
        add(root, "rect", style, x=MIDDLE - half, y=y + slimmer, width=2 * half, height=BLOCK - 2 * slimmer, rx=3)
    kernel = choices[name.own("kernel")]
    label(root, f"{kernel}×{kernel}", x=LABELS, y=y + 13, style="ea-b")
    label(root, f"×{choices[name.own('expand')]}", x=LABELS + 34, y=y + 13)
    if choices[name.own("se")] == "on":
        add(root, "rect", f"ea-o{colour}", x=LABELS + 58, y=y + 1.5, width=26, height=15, rx=7)
        label(root, "SE", x=LABELS + 71, y=y + 13, style="ea-t ea-m")


def _plain(root: Element, scale: float, y: float, *, channels: int, words: tuple[str, str]) -> None:
    half = scale * channels**0.5
    add(root, "rect", "ea-f4", x=MIDDLE - half, y=y, width=2 * half, height=BLOCK, rx=3)
    label(root, words[0], x=GUTTER, y=y + 13, style="ea-s")
    label(root, words[1], x=LABELS, y=y + 13, style="ea-s")


def _legend(root: Element, space: MobileSpace, height: float) -> None:
    kernels = [(f"ea-f{i % len(LIGHT)}", f"{k}×{k}") for i, k in enumerate(space.kernels)]
    legend(root, [*kernels, ("ea-o4", "pale: hidden channels"), ("ea-f4", "solid: channels")], x=GUTTER, y=height - 12)


def _in_words(space: MobileSpace, choices: Mapping[str, Choice], kept: list[list[BlockName]]) -> str:
    stages = []
    for blocks in kept:
        written_blocks = [
            f"kernel {choices[n.own('kernel')]} expansion {choices[n.own('expand')]}"
            + (" squeeze-excite" if choices[n.own("se")] == "on" else "")
            for n in blocks
        ]
        stages.append(f"stage {blocks[0].stage + 1}, {choices[blocks[0].width]} channels: {'; '.join(written_blocks)}")
    return f"{space.notation(choices)}. " + ". ".join(stages)
