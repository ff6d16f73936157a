"""Drawings of architectures: every space has one, every block and edge is in it, and it says in words what it shows."""

from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from search_spaces.architecture import SPACES, Architecture, architecture_of, architecture_svg
from search_spaces.errors import InvalidInputError
from search_spaces.mobile.space import MobileSpace
from search_spaces.nasbench201.space import NasBench201Space, parse_arch
from search_spaces.space import SearchSpace
from tests.spaces import draw, yaml_space
from tests.tiny_search import small_space

SVG = "{http://www.w3.org/2000/svg}"
# Edge 0-1 is cut off: what node 1 is given goes nowhere.
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|avg_pool_3x3~0|none~1|skip_connect~2|"


def drawn(architecture: Architecture) -> Element:
    return ElementTree.fromstring(architecture_svg(architecture))


def words(root: Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("name", sorted(SPACES))
@pytest.mark.parametrize("default", [False, True])
def test_a_drawing_is_whole_xml_within_its_frame_and_loads_nothing(
    name: str, default: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = yaml_space(name)
    if default:
        monkeypatch.setattr(type(space), "draw", SearchSpace.draw)
    for indices in draw(space, 20, np.random.default_rng(0)):
        text = architecture_svg(architecture_of(space, space.choices(indices)))
        root = ElementTree.fromstring(text)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for bar in root.iter(f"{SVG}rect"):
            x, y, w, h = (float(bar.attrib[key]) for key in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        assert all(0 <= float(t.attrib["y"]) <= height for t in root.iter(f"{SVG}text"))
        assert text.count("http") == 1 and "href" not in text and "<script" not in text  # the namespace alone
        assert len(text) < 24_000


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_drawing_says_in_words_what_it_shows(name: str) -> None:
    space = yaml_space(name)
    choices = space.choices(space.rule_matrix.best(np.zeros(space.num_choices)))
    root = drawn(architecture_of(space, choices))
    assert root.attrib["role"] == "img"
    assert [child.tag for child in root][:2] == [f"{SVG}title", f"{SVG}desc"]
    assert space.notation(choices) in (root[1].text or "")


def test_a_chain_shows_each_block_with_its_kernel_expansion_and_squeeze_excite() -> None:
    space = yaml_space("mobile")
    choices = {decision.name: decision.choices[0] for decision in space.decisions}  # two blocks a stage, k3 e3
    choices |= {"resolution": 160, "stage1.width": 88, "stage1.depth": 3}
    choices |= {"stage1.block2.kernel": 7, "stage1.block2.expand": 6, "stage1.block2.se": "on"}
    shown = words(drawn(architecture_of(space, choices)))
    assert shown.count("3×3") == 10 + 1 and shown.count("7×7") == 1 + 1  # blocks, and the legend
    assert (shown.count("×3"), shown.count("×6"), shown.count("SE")) == (10, 1, 1)
    assert [word for word in shown if word.endswith(" ch")] == ["24 ch", "88 ch", "80 ch", "96 ch", "160 ch"]
    # 160 px: 80 after the stem, then halved by each stage but the fourth.
    sides = ["40×40", "20×20", "10×10", "10×10", "5×5"]
    assert [word for word in shown if word in sides][:5] == sides  # the legend has a kernel of 5×5


def test_bars_of_a_chain_grow_with_the_square_root_of_channels() -> None:
    space = small_space()
    choices = {decision.name: decision.choices[0] for decision in space.decisions}
    root = drawn(architecture_of(space, choices))
    solid = [float(r.attrib["width"]) for r in root.iter(f"{SVG}rect") if r.attrib["class"] == "ea-f0"][:5]
    assert solid[1] / solid[0] == pytest.approx(2**0.5, rel=1e-3)  # 16 channels after 8; lengths keep two decimals
    assert solid[3] / solid[0] == pytest.approx(3**0.5, rel=1e-3)  # 24


@pytest.mark.parametrize("space", [small_space(), yaml_space("mobile")], ids=["small", "mobile"])
def test_no_bar_of_a_chain_reaches_the_words_beside_it(space: MobileSpace) -> None:
    """In a small space the head is wider than any block: its bar once lay over its own name."""
    root = drawn(architecture_of(space, {decision.name: decision.choices[-1] for decision in space.decisions}))
    bars = [r for r in root.iter(f"{SVG}rect") if r.attrib["class"] != "ea-band" and float(r.attrib["width"]) > 26]
    assert len(bars) > 5
    for bar in bars:
        assert float(bar.attrib["x"]) >= 99 and float(bar.attrib["x"]) + float(bar.attrib["width"]) <= 285


def test_a_cell_shows_live_edges_solid_and_all_others_dashed() -> None:
    space = NasBench201Space()
    root = drawn(architecture_of(space, parse_arch(CELL)))
    dashed = [path for path in root.iter(f"{SVG}path") if "stroke-dasharray" in path.attrib]
    assert len(dashed) == 3  # two edges of `none`, and the convolution into node 1 that nothing reads
    labels = words(root)
    assert labels.count("none") == 2
    assert {"3×3 conv", "1×1 conv", "3×3 avg pool", "skip", "in", "out"} <= set(labels)
    assert root[0].text == "Cell with 3 of 6 edges alive"
    assert "node 0 to node 1: 3×3 conv, unused" in (root[1].text or "")


def test_words_between_two_nodes_of_a_cell_reach_neither_node_nor_arrow_head() -> None:
    """`3×3 avg pool` once lay over both."""
    edges = "|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|"
    letter, head = 7.6, 6  # pixels: of bold text of 12, in the widest of its usual fonts; of the arrow's head
    for operation in ("avg_pool_3x3", "nor_conv_3x3", "skip_connect"):
        root = drawn(architecture_of(NasBench201Space(), parse_arch(edges.format(operation))))
        nodes = [(float(c.attrib["cx"]), float(c.attrib["r"])) for c in root.iter(f"{SVG}circle")]
        (line,) = {float(c.attrib["cy"]) for c in root.iter(f"{SVG}circle")}
        texts = [t for t in root.iter(f"{SVG}text") if -26 < float(t.attrib["y"]) - line < 0]
        assert len(texts) >= 3
        for text in texts:
            middle, half = float(text.attrib["x"]), letter * len(text.text or "") / 2
            (before, radius), (after, _) = next(p for p in pairwise(nodes) if p[0][0] < middle < p[1][0])
            assert middle - half > before + radius and middle + half < after - radius - head


def test_an_architecture_that_is_not_of_its_space_is_refused() -> None:
    space = NasBench201Space()
    with pytest.raises(InvalidInputError):
        architecture_svg(Architecture("no_such_space", {}, {}, (3, 32, 32)))
    with pytest.raises(InvalidInputError):
        architecture_svg(Architecture(space.name, space.spec(), {"edge01": "nor_conv_9x9"}, (3, 32, 32)))
