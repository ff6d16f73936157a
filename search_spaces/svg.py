"""Pieces of SVG text shared by the drawings: elements, and colours that read in light, dark and print."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

# Okabe and Ito's palette, safe for colour-blind readers: https://jfly.uni-koeln.de/color/ ; darker or lighter
# by scheme. Each colour is also written as a word beside what it marks.
LIGHT = ("#2f6fb3", "#c2620e", "#00806a", "#a8457f", "#5c6670")
DARK = ("#6fb1ee", "#f0a04b", "#3cc7a5", "#e08bbd", "#a3adb8")


TABLE_WIDTH, ROW = 400, 18


def _variables(colours: Sequence[str]) -> str:
    return "".join(f"--ea-{i}:{colour};" for i, colour in enumerate(colours))


KINDS = "".join(
    f".ea .ea-f{i}{{fill:var(--ea-{i})}}.ea .ea-o{i}{{stroke:var(--ea-{i});fill:var(--ea-{i});fill-opacity:.16}}"
    f".ea .ea-e{i}{{stroke:var(--ea-{i});fill:none;stroke-width:2.6}}"
    for i in range(len(LIGHT))
)
# Rules are the same in every drawing and named `ea-`, so many drawings in one page do not disturb each other or it.
STYLE = (
    f".ea{{color:#1c2330;--ea-faint:#5d6674;--ea-band:#8a93a11c;{_variables(LIGHT)}}}"
    "@media screen and (prefers-color-scheme:dark)"
    f"{{.ea{{color:#e6e9ee;--ea-faint:#9aa4b2;--ea-band:#aab4c21c;{_variables(DARK)}}}}}"
    ".ea text{font:12px ui-sans-serif,system-ui,sans-serif;fill:currentColor}.ea .ea-t{font-size:10.5px}"
    ".ea .ea-s{font-size:10.5px;fill:var(--ea-faint)}.ea .ea-b{font-weight:600}.ea .ea-m{text-anchor:middle}"
    ".ea .ea-l{stroke:var(--ea-faint);fill:none;stroke-width:1.2}"
    f".ea .ea-band,.ea .ea-end{{fill:var(--ea-band)}}{KINDS}"
)


def canvas(width: float, height: float, *, title: str, description: str) -> Element:
    """An empty drawing with what a screen reader says of it. Stand-alone, and inside a page."""
    root = Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}", "class": "ea"}
    )
    root.attrib |= {"role": "img", "width": f"{width:g}", "height": f"{height:g}", "aria-label": title}
    SubElement(root, "title").text = title
    SubElement(root, "desc").text = description
    SubElement(root, "style").text = STYLE
    return root


def add(parent: Element, tag: str, style: str = "", **attributes: float | str) -> Element:
    """A child of class `style`; underscores in names of attributes stand for dashes, numbers keep two decimals."""
    written = {
        key.replace("_", "-"): value if isinstance(value, str) else f"{round(value, 2):g}"
        for key, value in attributes.items()
    }
    return SubElement(parent, tag, {"class": style, **written} if style else written)


def label(parent: Element, text: str, *, x: float, y: float, style: str = "") -> None:
    add(parent, "text", style, x=x, y=y).text = text


def legend(root: Element, entries: Sequence[tuple[str, str]], *, x: float, y: float) -> None:
    """A row of swatches: pairs of style and word. Space is kept by the number of letters."""
    for style, word in entries:
        add(root, "rect", style, x=x, y=y - 9, width=10, height=10, rx=2)
        label(root, word, x=x + 15, y=y, style="ea-s")
        x += 26 + 5.6 * len(word)


def draw_table(title: str, rows: Mapping[str, str]) -> str:
    """SVG text of names and their values, one below the other."""
    in_words = "; ".join(f"{name}: {value}" for name, value in rows.items())
    root = canvas(TABLE_WIDTH, 34 + ROW * len(rows), title=title, description=in_words)
    label(root, title, x=12, y=20, style="ea-b")
    for row, (name, value) in enumerate(rows.items(), start=1):
        y = 20 + ROW * row
        if row % 2:
            add(root, "rect", "ea-band", x=4, y=y - 13, width=TABLE_WIDTH - 8, height=ROW, rx=3)
        label(root, name, x=12, y=y, style="ea-s")
        label(root, value, x=TABLE_WIDTH / 2, y=y)
    return written(root)


def written(root: Element) -> str:
    return tostring(root, encoding="unicode")


def unstyled(drawing: str) -> str:
    """The SVG text of a drawing for a page that has `STYLE` itself."""
    return drawing.replace(f"<style>{STYLE}</style>", "")
